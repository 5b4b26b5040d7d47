"""The details of refusals: what was wrong with a report and what to do about it, in one sentence or two."""

import struct
from collections.abc import Mapping

from tallyboard.wire.summaries import SCALARS
from tallyboard_server.contract.segments import Conflict
from tallyboard_server.model import ANONYMOUS, Producer

HINT_FROM = 3
"""A step reported this often in a row is likely never incremented; twice may be an accident."""


def step_decreased(counter: str, step: int, last_step: int | None, start: int) -> str:
    """For a step below the one before it, or below the start of its attempt."""
    if last_step is None:
        return (
            f"{counter} was rewound to start at {start} and step {step} lies before it; "
            f"report {start} or more, or rewind {counter} to {step}"
        )
    went = f"{counter} went back from {last_step} to {step}"
    began = f" (this attempt started at {start})" if start else ""
    return (
        f"{went}{began}; steps never decrease: increment {counter} before each report, "
        f"or rewind {counter} to {step} to start again from there"
    )


def tag_repeated(counter: str, step: int, conflict: Conflict, kind: str, times: int) -> str:
    """For a tag of a kind that has another value at the same step, which was now reported so many times in a row."""
    tag = conflict.tags[0]
    more = f" (and {len(conflict.tags) - 1} more tags)" if len(conflict.tags) > 1 else ""
    value, got = (struct.unpack("<d", struct.pack("<q", bits))[0] for bits in (conflict.bits, conflict.got_bits))
    if kind == SCALARS:
        said = f"tag {tag!r}{more} is {value!r} at {counter} {step} already, got {got!r}"
    else:
        said = f"tag {tag!r} has other {kind} at {counter} {step} already"
    if times >= HINT_FROM:
        return f"{said}; {counter} has been {step} for {times} reports; is it being incremented?"
    return f"{said}; a tag has one value per step: increment {counter}, or rewind it to {step} to replace it"


def tag_of_other_counter(counter: str, foreign: Mapping[str, str]) -> str:
    """For tags that belong to other counters: `foreign` names the counter of each."""
    tag, owner = next(iter(foreign.items()))
    more = f" (and {len(foreign) - 1} more of its tags)" if len(foreign) > 1 else ""
    return (
        f"tag {tag!r}{more} belongs to counter {owner!r}, where it has points; "
        f"report it there, or under another name on {counter!r}"
    )


def tag_of_other_kind(kind: str, others: Mapping[str, str]) -> str:
    """For tags reported as one kind that are of another: `others` names the kind of each."""
    tag, known = next(iter(others.items()))
    more = f" (and {len(others) - 1} more of its tags)" if len(others) > 1 else ""
    return f"tag {tag!r}{more} has {known}, got {kind}; a tag keeps its kind: report these under another name"


def counter_taken(counter: str, writer: str, holder: Producer | None, now: float) -> str:
    """For a counter that another writer holds."""
    who = "reports without a producer" if writer == ANONYMOUS else f"producer {writer!r}"
    if holder is not None:
        known = [f"{key} {holder.origin[key]}" for key in ("host", "pid", "user") if key in holder.origin]
        seen = max(0.0, now - holder.last_seen)
        who = f"{who} ({', '.join([*known, f'last seen {seen:.0f} s ago'])})"
    return (
        f"counter {counter!r} is being written by {who}; use another counter, rewind {counter!r} to start an "
        'attempt of your own, or resume the run (open with resume="continue") to go on in its place'
    )


def blob_collision(key: float) -> str:
    """For a value whose key another value of the run has."""
    return (
        f"two values of the run can't be told apart by their hashes (key {key!r}); change one in any bit, or "
        "report it to another run"
    )


def too_many_counters(most: int) -> str:
    """For a report that would create one counter too many."""
    return f"a run has at most {most} counters; is a step or an id part of the counter's name?"


def too_many_tags(most: int) -> str:
    """For a report that would create one tag too many."""
    return f"a run has at most {most} tags; is a step or an id part of the tag's name?"


def beyond_cut(counter: str, count: int, limit: int, attempt: int, later: int) -> str:
    """The warning for reports of a superseded attempt that were stored but never show."""
    reports = "1 report" if count == 1 else f"{count} reports"
    return (
        f"{reports} of {counter} at step {limit} or later came to attempt {attempt}, which attempt {later} "
        f"superseded from step {limit} on: kept as history, not shown"
    )
