"""What watchdogs look for: rules with defaults, and documents that change some of them for a project."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache
from typing import Any, Final, Literal

import msgspec

from tallyboard.wire import InvalidBatchError, InvalidNameError, Message
from tallyboard.wire.names import check_tag
from tallyboard_server.notify import Webhook, check_url
from tallyboard_server.notify.webhook import Format

Kind = Literal["lost", "stalled", "unmoved", "nonfinite", "bounds", "refused", "failed"]
KINDS: Final[tuple[Kind, ...]] = ("lost", "stalled", "unmoved", "nonfinite", "bounds", "refused", "failed")
"""What watchdogs find: each is one switch of the rules."""

BOUNDS_MAX: Final = 100
SECONDS_MIN: Final = 10.0
SECONDS_MAX: Final = 30 * 86_400.0
"""The longest silence that can be waited for: a month."""
STALLED_AFTER_S: Final = 300.0
UNLEARNED_AFTER_S: Final = 3_600.0

_UNSET: Final = msgspec.UNSET


class Bound(Message):
    """A tag's bounds. tag: a name, or a pattern with * and ?. Values below `min` or above `max` are told."""

    tag: str
    min: float | None = None
    max: float | None = None

    def fits(self, tag: str) -> bool:
        """Whether it is about a tag."""
        return _matcher(self.tag).fullmatch(tag) is not None


class WebhookRule(Message):
    """Where notices are sent. format: `json`, or `slack` for Slack and what takes the same."""

    url: str
    format: Format = "json"


class WatchRules(Message):
    """Changes of what watchdogs do: of the defaults (`PUT /watch`), or for one project; what is absent is inherited.

    lost, stalled, unmoved, nonfinite, bounds, refused, failed: whether that is watched. lost_after_s: silence of a
    run's producers. stalled_after_s: the least silence of a counter that is told, however quick it was;
    stalled_unlearned_s: the same of a run of which too little was seen. limits: tags and their bounds. webhook: null
    is none.
    """

    lost: bool | msgspec.UnsetType = _UNSET
    stalled: bool | msgspec.UnsetType = _UNSET
    unmoved: bool | msgspec.UnsetType = _UNSET
    nonfinite: bool | msgspec.UnsetType = _UNSET
    bounds: bool | msgspec.UnsetType = _UNSET
    refused: bool | msgspec.UnsetType = _UNSET
    failed: bool | msgspec.UnsetType = _UNSET
    lost_after_s: float | msgspec.UnsetType = _UNSET
    stalled_after_s: float | msgspec.UnsetType = _UNSET
    stalled_unlearned_s: float | msgspec.UnsetType = _UNSET
    limits: tuple[Bound, ...] | msgspec.UnsetType = _UNSET
    webhook: WebhookRule | msgspec.UnsetType | None = _UNSET

    def set_fields(self) -> dict[str, Any]:
        """What it changes, by name."""
        return {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not msgspec.UNSET}


@dataclass(slots=True, frozen=True)
class Rules:
    """What holds for a run. Names as in WatchRules; off: the kinds that are not watched."""

    off: frozenset[str] = frozenset()
    lost_after_s: float = 300.0
    stalled_after_s: float = STALLED_AFTER_S
    stalled_unlearned_s: float = UNLEARNED_AFTER_S
    limits: tuple[Bound, ...] = ()
    webhook: Webhook | None = None

    @property
    def has_limits(self) -> bool:
        """Whether any tag has bounds that are watched."""
        return bool(self.limits) and "bounds" not in self.off

    def has_limit(self, tag: str) -> bool:
        """Whether a tag has bounds."""
        return any(bound.fits(tag) for bound in self.limits)

    def changed(self, by: WatchRules) -> "Rules":
        """These rules with a document's changes."""
        fields = by.set_fields()
        off = {kind for kind in KINDS if not fields.get(kind, kind not in self.off)}
        webhook = self.webhook
        if "webhook" in fields:
            told: WebhookRule | None = fields["webhook"]
            webhook = None if told is None else Webhook(told.url, told.format)
        return Rules(
            frozenset(off),
            float(fields.get("lost_after_s", self.lost_after_s)),
            float(fields.get("stalled_after_s", self.stalled_after_s)),
            float(fields.get("stalled_unlearned_s", self.stalled_unlearned_s)),
            fields.get("limits", self.limits),
            webhook,
        )

    def whole(self) -> WatchRules:
        """As a document that leaves nothing open."""
        hook = self.webhook
        return WatchRules(
            **{kind: kind not in self.off for kind in KINDS},
            lost_after_s=self.lost_after_s,
            stalled_after_s=self.stalled_after_s,
            stalled_unlearned_s=self.stalled_unlearned_s,
            limits=self.limits,
            webhook=None if hook is None else WebhookRule(url=hook.url, format=hook.format),
        )


def joined(defaults: Rules, documents: Iterable[WatchRules]) -> Rules:
    """Defaults with the changes of documents, the most general first."""
    for document in documents:
        defaults = defaults.changed(document)
    return defaults


def check_rules(rules: WatchRules, path: str = "$") -> WatchRules:
    """The document if it can be followed. Raises InvalidBatchError, naming the field."""
    for name in ("lost_after_s", "stalled_after_s", "stalled_unlearned_s"):
        seconds = getattr(rules, name)
        if seconds is not msgspec.UNSET and not SECONDS_MIN <= seconds <= SECONDS_MAX:
            raise InvalidBatchError(f"{path}.{name}", f"{seconds:g} s; from {SECONDS_MIN:g} to {SECONDS_MAX:.0f} s")
    if rules.limits is not msgspec.UNSET:
        if len(rules.limits) > BOUNDS_MAX:
            raise InvalidBatchError(f"{path}.limits", f"{len(rules.limits)} of them; at most {BOUNDS_MAX}")
        for index, bound in enumerate(rules.limits):
            _check_bound(bound, f"{path}.limits[{index}]")
    if rules.webhook is not msgspec.UNSET and rules.webhook is not None:
        try:
            check_url(rules.webhook.url)
        except ValueError as error:
            raise InvalidBatchError(f"{path}.webhook.url", str(error)) from error
    return rules


def _check_bound(bound: Bound, path: str) -> None:
    try:
        check_tag(bound.tag)
    except InvalidNameError as error:
        raise InvalidBatchError(f"{path}.tag", str(error)) from error
    given = [value for value in (bound.min, bound.max) if value is not None]
    if not given:
        raise InvalidBatchError(path, "say min, max, or both")
    if not all(map(math.isfinite, given)):
        raise InvalidBatchError(path, "bounds are finite numbers")
    if len(given) == 2 and given[0] > given[1]:
        raise InvalidBatchError(path, f"min {given[0]:g} is above max {given[1]:g}")


@lru_cache(maxsize=1024)
def _matcher(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern.replace("[", "[[]")))
