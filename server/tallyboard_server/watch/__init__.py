"""Watchdogs: what is wrong with runs without anybody saying so, told as alerts."""

from tallyboard_server.watch.book import ProjectsTooManyError, RuleBook
from tallyboard_server.watch.points import is_finite
from tallyboard_server.watch.rules import KINDS, Bound, Rules, WatchRules, WebhookRule, check_rules
from tallyboard_server.watch.watcher import Watcher

__all__ = [
    "KINDS",
    "Bound",
    "ProjectsTooManyError",
    "RuleBook",
    "Rules",
    "WatchRules",
    "Watcher",
    "WebhookRule",
    "check_rules",
    "is_finite",
]
