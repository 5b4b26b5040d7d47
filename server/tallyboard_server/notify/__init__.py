"""Notices: alerts on their way to people, by webhooks."""

from tallyboard_server.notify.notifier import Notifier
from tallyboard_server.notify.outbox import Outbox
from tallyboard_server.notify.webhook import Sent, Webhook, check_url

__all__ = ["Notifier", "Outbox", "Sent", "Webhook", "check_url"]
