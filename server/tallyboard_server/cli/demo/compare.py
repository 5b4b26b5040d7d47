"""Whether what was sent, what is stored and what TensorBoard shows are the same points."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from tallyboard_server.cli.demo.recorder import Points

CATCH_UP_TIMEOUT_S: Final = 60.0
"""The exporter syncs every few seconds and TensorBoard polls each second: this is ample."""
_POLL_S: Final = 0.5

Curve = tuple[str, str, str]
"""(run, counter, tag)."""


@dataclass(slots=True, frozen=True)
class Line:
    """One run and counter in the demo's table: number of scalars at each station, and the first difference."""

    run: str
    counter: str
    sent: int
    stored: int
    shown: int
    difference: str | None


def as_float32(points: Points) -> Points:
    """Points as event files hold them: values rounded to float32."""
    return {step: float(np.float32(value)) for step, value in points.items()}


def compare(sent: Mapping[Curve, Points], stored: Mapping[Curve, Points], shown: Mapping[Curve, Points]) -> list[Line]:
    """One line per run and counter. Stored values must equal those sent bit for bit, shown ones as float32."""
    lines = []
    for run, counter in dict.fromkeys((run, counter) for run, counter, _ in sent):
        curves = [curve for curve in sent if curve[:2] == (run, counter)]
        differences = [
            difference
            for curve in curves
            if (difference := _first_difference(curve[2], sent[curve], stored[curve], shown[curve]))
        ]
        lines.append(
            Line(
                run,
                counter,
                sent=sum(len(sent[curve]) for curve in curves),
                stored=sum(len(stored[curve]) for curve in curves),
                shown=sum(len(shown[curve]) for curve in curves),
                difference=differences[0] if differences else None,
            )
        )
    return lines


def read_until_equal(sent: Mapping[Curve, Points], read: Callable[[Curve], Points]) -> dict[Curve, Points]:
    """What `read` gives for each curve, read again until it is what was sent (as float32) or time is up."""
    deadline = time.monotonic() + CATCH_UP_TIMEOUT_S
    shown = {curve: read(curve) for curve in sent}
    while late := [curve for curve in sent if shown[curve] != as_float32(sent[curve])]:
        if time.monotonic() > deadline:
            break
        time.sleep(_POLL_S)
        shown.update({curve: read(curve) for curve in late})
    return shown


def _first_difference(tag: str, sent: Points, stored: Points, shown: Points) -> str | None:
    for where, expected, found in (("stored", sent, stored), ("TensorBoard", as_float32(sent), shown)):
        for step in sorted(expected.keys() | found.keys()):
            if expected.get(step) != found.get(step):
                return f"{tag} at step {step}: sent {expected.get(step)}, {where} {found.get(step)}"
    return None
