"""What is wrong with a run at one moment: facts and rules in, findings out; pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isnan
from typing import Final

from tallyboard.wire import Level
from tallyboard_server.watch.facts import BadTag, Facts
from tallyboard_server.watch.points import BOUNDS, NONFINITE
from tallyboard_server.watch.rules import Rules

LONG_LOST_S: Final = 3_600.0
"""A run that was lost for so much longer than it takes is no news: it is shown, and told to nobody."""

Key = tuple[str, str]


@dataclass(slots=True, frozen=True)
class Finding:
    """One thing that is wrong. kind, subject: as an Incident has them."""

    kind: str
    subject: str
    level: Level
    title: str
    text: str

    @property
    def key(self) -> Key:
        """What tells it from others of its run."""
        return self.kind, self.subject


def findings(facts: Facts, rules: Rules, unheard_s: float, now: float) -> list[Finding]:
    """What is wrong. unheard_s: for how long the service has listened and heard nothing of the run; now: seconds."""
    found = [*_ended(facts), *_running(facts, rules, unheard_s, now)]
    return [finding for finding in found if finding.kind not in rules.off]


def is_lost(facts: Facts, rules: Rules, unheard_s: float) -> bool:
    """Whether a running run's producers have been silent for too long."""
    return facts.status == "running" and facts.reported_at is not None and unheard_s > rules.lost_after_s


def _ended(facts: Facts) -> Iterator[Finding]:
    if facts.failed:
        yield Finding("failed", "", "error", "the run failed", facts.exception or "It ended with an error.")


def _running(facts: Facts, rules: Rules, unheard_s: float, now: float) -> Iterator[Finding]:
    if facts.status != "running":
        return
    if is_lost(facts, rules, unheard_s):
        yield _lost(rules, unheard_s)
    elif facts.reported_at is not None:
        yield from _stalled(facts, rules, now)
    for name in facts.unmoved:
        yield Finding(
            "unmoved", name, "warn", f"{name} is reported, but does not move",
            f"10 reports or more in a row came at one step of {name}, and brought nothing new. Is it incremented?",
        )  # fmt: skip
    for reason, refused in facts.refused.items():
        if refused.is_over(now):
            continue
        count = "1 report" if refused.count == 1 else f"{refused.count:,} reports"
        yield Finding(
            "refused", reason, "warn", f"reports are refused: {reason}", f"{count} so far. {refused.detail}",
        )  # fmt: skip
    for (kind, tag), bad in facts.bad.items():
        if not bad.is_over(now) and (kind != BOUNDS or rules.has_limit(tag)):
            yield _bad(kind, tag, bad)


def _lost(rules: Rules, unheard_s: float) -> Finding:
    level: Level = "warn" if unheard_s <= rules.lost_after_s + LONG_LOST_S else "info"
    return Finding(
        "lost", "", level, f"no sign of life for {duration(unheard_s)}",
        "Neither reports nor heartbeats come. The job may have been killed, or its machine is down or off the network.",
    )  # fmt: skip


def _stalled(facts: Facts, rules: Rules, now: float) -> Iterator[Finding]:
    """The whole run, if no counter moves; else those of its counters that stand still, which is no more than worth
    knowing: trainings have phases."""
    if not facts.counters:
        return
    usual, silent = facts.moves.usual_s, facts.moves.silent_s(now)
    patience = None if facts.starting else facts.moves.patience_s(rules.stalled_after_s)
    if "" in facts.standing or silent > (rules.stalled_unlearned_s if patience is None else patience):
        before = "" if usual is None else f" Before, one moved every {duration(usual)}."
        stand = ", ".join(f"{name} {step:,}" for name, step in list(facts.places.items())[:8])
        yield Finding(
            "stalled", "", "warn", f"no counter has moved for {duration(silent)}",
            f"The job is heard of, but does not get on: {stand}.{before}",
        )  # fmt: skip
        return
    for name, cadence in facts.counters.items():
        patience = None if facts.starting else cadence.patience_s(rules.stalled_after_s)
        silent = cadence.silent_s(now)
        if name in facts.standing or (patience is not None and silent > patience):
            yield Finding(
                "stalled", name, "info", f"{name} has not moved for {duration(silent)}",
                "Others do: it may be another phase of the training.",
            )  # fmt: skip


def _bad(kind: str, tag: str, bad: BadTag) -> Finding:
    if not bad.counter:
        title = f"{tag} is out of its bounds" if kind == BOUNDS else f"{tag} is not finite"
        return Finding(kind, tag, "warn" if kind == BOUNDS else "error", title, "So it was before the service started.")
    place = f"at {bad.counter} {bad.step:,}"
    if kind == BOUNDS:
        title = f"{tag} is {bad.value:g}, {bad.bound}"
        return Finding(BOUNDS, tag, "warn", title, f"The last such value stands {place}.")
    value = "NaN" if isnan(bad.value) else "infinite"
    return Finding(NONFINITE, tag, "error", f"{tag} is {value}", f"The last such value stands {place}.")


def over(kind: str, subject: str) -> str:
    """What is told when a finding is not so any more."""
    match kind:
        case "lost":
            return "it is heard of again"
        case "failed":
            return "it runs again"
        case "unmoved":
            return f"{subject} moves"
        case "stalled":
            return "its counters move again"
        case "refused":
            return f"no report was refused for 10 minutes ({subject})"
        case "bounds":
            return f"{subject} is within its bounds"
    return f"{subject} is finite again"


def duration(seconds: float) -> str:
    """A time in one or two words."""
    if seconds < 1:
        return "less than a second"
    for unit, size in (("days", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
