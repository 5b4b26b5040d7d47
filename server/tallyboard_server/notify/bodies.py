"""What notices look like on the other side: JSON for programs, a line each for Slack and what takes the same."""

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote

import msgspec

from tallyboard_server.notify.webhook import Format
from tallyboard_server.store.watching import Notice

SLACK_TEXT_MAX: Final = 800
"""Characters of a notice's text in a chat; the whole of it is in the dashboard."""
SIGNS: Final = {"info": "ℹ️", "warn": "⚠️", "error": "🛑"}
WATCHDOG: Final = "watchdog"
"""The producer of what the service itself raises."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A notice as a delivery holds it. Times: seconds since the epoch.

    times: how many alerts with this title it stands for; the newest is told. first_at: when the first came. producer:
    `watchdog`, or who in the job raised it.
    """

    id: int
    run: str
    level: str
    title: str
    text: str
    at: float
    first_at: float
    times: int
    producer: str
    counters: dict[str, int]


def entry_of(notice: Notice) -> Entry:
    """A notice as it is sent."""
    kept = notice.alert
    return Entry(
        id=notice.id,
        run=notice.run,
        level=kept.alert.level,
        title=kept.alert.title,
        text=kept.alert.text,
        at=kept.at,
        first_at=notice.first_at,
        times=notice.times,
        producer=kept.producer,
        counters={name: int(step) for name, step in kept.alert.at.items()},
    )


def body(kind: Format, delivery_id: str, entries: Sequence[Entry], public_url: str | None) -> bytes:
    """The request's body. public_url: where people reach the dashboard, None if that was not said."""
    return msgspec.json.encode(
        _slack(entries, public_url) if kind == "slack" else _json(delivery_id, entries, public_url)
    )


def run_url(public_url: str | None, run: str) -> str | None:
    """Where the dashboard shows how a run does."""
    if public_url is None:
        return None
    name = quote(run, safe="/")
    return f"{public_url.rstrip('/')}/?view=health&run={name}&watch={name}"


def _json(delivery_id: str, entries: Sequence[Entry], public_url: str | None) -> dict[str, Any]:
    notices = [msgspec.to_builtins(entry) | {"url": run_url(public_url, entry.run)} for entry in entries]
    return {"delivery": delivery_id, "notices": notices}


def _slack(entries: Sequence[Entry], public_url: str | None) -> dict[str, Any]:
    lines = "\n".join(_line(entry, public_url) for entry in entries)
    return {"text": lines, "mrkdwn": False, "unfurl_links": False, "unfurl_media": False}


def _line(entry: Entry, public_url: str | None) -> str:
    name = plain(entry.run)
    url = run_url(public_url, entry.run)
    shown = name if url is None else f"<{url}|{name.replace('|', '¦')}>"
    more = f" … {entry.times - 1} times more" if entry.times > 1 else ""
    head = f"{SIGNS.get(entry.level, '')} {shown}: {plain(entry.title)}{more}"
    text = entry.text if len(entry.text) <= SLACK_TEXT_MAX else f"{entry.text[:SLACK_TEXT_MAX]}…"
    return f"{head}\n{plain(text)}" if text else head


def plain(text: str) -> str:
    """Text that a chat shows as it is: its own signs escaped, and nothing in it becoming a mention or a link.

    A space of no width stands where a chat would look for an address, or for a name after an @.
    """
    for sign, shown in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("@", "@\u200b"), ("://", ":\u200b//"),
                        ("www.", "www\u200b."), ("mailto:", "mailto\u200b:")):  # fmt: skip
        text = text.replace(sign, shown)
    return text
