"""Reading back: what was acknowledged must be in the store, step by step, and in the event files, report by report."""

import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from tallyboard.wire import Int64, names
from tests.bench.load import Loaded, Plan
from tests.bench.result import Stored
from tests.bench.service import Service

POINTS_PER_ANSWER: Final = 200_000
POINTS_READ: Final = 4_000_000
"""About how many points of a row are read and compared; of more, fewer tags are read, but one of every stream."""
FAULTS_MAX: Final = 5
_HEAD_BYTES: Final = 12
_FRAME_BYTES: Final = 16
"""Length, its CRC and the CRC of the data: what a record has beside its data; the first two stand before it."""
_FIELD_AT: Final = _HEAD_BYTES + 9
"""Where the field after an Event's wall time begins."""
_STEP_FIELD: Final = 0x10
_SUMMARY_FIELD: Final = 0x2A


@dataclass(slots=True, frozen=True)
class Sent:
    """Acknowledged reports of one counter: steps 1 to `reports`, each with all tags."""

    run: str
    counter: str
    tags: tuple[str, ...]
    reports: int


def sent(plan: Plan, loaded: Loaded) -> list[Sent]:
    """What a plan's streams got acknowledged."""
    return [
        Sent(stream.run, stream.counter, stream.tags, acked * stream.rows)
        for streams, batches in zip(plan.connections, loaded.batches, strict=True)
        for stream, acked in zip(streams, batches, strict=True)
    ]


def read_back(service: Service, expected: Sequence[Sent]) -> Stored:
    """Compare a service, whose event files are complete, with what it acknowledged."""
    by_run: dict[str, list[Sent]] = {}
    for one in expected:
        by_run.setdefault(one.run, []).append(one)
    reports_total = max(1, sum(one.reports for one in expected))
    tags_read = max(1, POINTS_READ // reports_total)
    stored = points = event_reports = 0
    faults: list[str] = []
    for run, parts in by_run.items():
        view = service.run(run)
        for part in parts:
            stored += _check_counter(view, part, faults)
            points += _check_points(service, part, _spread(part.tags, tags_read), faults)
        events = count_reports(service, run)
        event_reports += events
        if events != (reports := sum(part.reports for part in parts)):
            faults.append(f"{run}: {events} reports in its event file, {reports} sent")
    return Stored(
        sent_scalars=sum(one.reports * len(one.tags) for one in expected),
        stored_scalars=stored,
        points=points,
        event_reports=event_reports,
        faults=tuple(faults[:FAULTS_MAX]),
    )


def count_reports(service: Service, run: str) -> int:
    """Reports in the newest event file of a run; 0 if there is none."""
    files = sorted((service.logdir / run).glob("*tfevents*"))
    return sum(_reports(files[-1])) if files else 0


def _check_counter(view: Any, part: Sent, faults: list[str]) -> int:
    """Compare a counter's own figures; returns the scalars it says it holds."""
    if names.is_implicit(part.counter):
        return _check_own_counter(view, part, faults)
    counter = view["counters"].get(part.counter)
    if counter is None:
        faults.append(f"{part.run}: no counter {part.counter}")
        return 0
    reports = sum(attempt["reports"] for attempt in counter["attempts"])
    scalars: int = sum(attempt["scalars"] for attempt in counter["attempts"])
    if reports != part.reports or scalars != part.reports * len(part.tags) or counter["last_step"] != part.reports:
        faults.append(
            f"{part.run} {part.counter}: {reports} reports, {scalars} scalars, step {counter['last_step']}; "
            f"sent {part.reports} reports of {len(part.tags)}"
        )
    return scalars


def _check_own_counter(view: Any, part: Sent, faults: list[str]) -> int:
    """The same of a counter that a tag has to itself, of which only the last step is shown."""
    own = view["tag_counters"].get(part.counter.removeprefix(names.IMPLICIT_PREFIX))
    if own is None or own["last_step"] != part.reports:
        faults.append(f"{part.run} {part.counter}: {own}; sent {part.reports} reports")
        return 0
    return part.reports


def _check_points(service: Service, part: Sent, tags: Sequence[str], faults: list[str]) -> int:
    """Read every point of some tags and compare the steps; returns how many there were."""
    found = 0
    reports = POINTS_PER_ANSWER // len(tags)
    for first in range(1, part.reports + 1, reports):
        last = min(first + reports - 1, part.reports)
        expected = np.arange(first, last + 1)
        for tag, steps in read_steps(service, part.run, tags, first, last).items():
            found += len(steps)
            if not np.array_equal(steps, expected):
                faults.append(f"{part.run} {tag}: {len(steps)} points in steps {first} to {last}, or other ones")
    return found


def read_steps(service: Service, run: str, tags: Sequence[str], first: int, last: int) -> dict[str, Int64]:
    """The steps of the tags' visible points in a range, through GET /scalars; empty for a tag that has none."""
    query: list[tuple[str, str | int]] = [("run", run), *(("tag", tag) for tag in tags), ("from", first), ("to", last)]
    found = {
        series["tag"]: np.frombuffer(series["points"]["step"], dtype="<i8")
        for series in service.get("/scalars", query)["series"]
    }
    return {tag: found.get(tag, np.empty(0, np.int64)) for tag in tags}


def _spread(tags: Sequence[str], count: int) -> Sequence[str]:
    """So many of the tags, evenly chosen."""
    if count >= len(tags):
        return tags
    return [tags[i * len(tags) // count] for i in range(count)]


def _reports(path: Path) -> Iterator[bool]:
    """Of each whole record of an event file, whether it is a report: a summary at a step.

    Sent steps begin at 1, and step 0 is not written down; what a file opens with is at step 0.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at, end = 0, len(data)
        while at + _FRAME_BYTES <= end:
            following = at + _FRAME_BYTES + int.from_bytes(data[at : at + 8], "little")
            if following > end:
                return
            field = at + _FIELD_AT
            has_step = data[field] == _STEP_FIELD
            if has_step:
                field += 1
                while data[field] >= 0x80:
                    field += 1
                field += 1
            yield has_step and data[field] == _SUMMARY_FIELD
            at = following
