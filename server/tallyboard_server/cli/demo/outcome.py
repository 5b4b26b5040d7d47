"""What came of the preemption demo: both curves beside the one that should be there, drawn and in words."""

from dataclasses import dataclass

from tallyboard_server.cli.demo import chart
from tallyboard_server.cli.demo.job import LOSS
from tallyboard_server.cli.demo.recorder import Points
from tallyboard_server.cli.output import count


@dataclass(slots=True, frozen=True)
class Shown:
    """A curve in TensorBoard: in one that was open all along, and in one that was started at the end."""

    live: Points
    fresh: Points


@dataclass(slots=True, frozen=True)
class Outcome:
    """The loss at each step: expected (of each step the last job that trained on from it), and as TensorBoard shows it.

    tallyboard, plain: of Tallyboard's event files, and of tensorboardX's. logged: points that all jobs reported.
    """

    expected: Points
    tallyboard: Shown
    plain: Shown
    logged: int
    verified: bool

    @property
    def is_whole(self) -> bool:
        """Whether Tallyboard's curve is exactly the expected one."""
        return self.verified and self.tallyboard.live == self.tallyboard.fresh == self.expected


def surviving(jobs: list[Points]) -> Points:
    """Of each job what lies before the first step of the next: what one undisturbed training would have reported."""
    found: Points = {}
    for points in jobs:
        first = min(points)
        found = {step: value for step, value in found.items() if step < first} | points
    return found


def drawn(outcome: Outcome, steps: int) -> str:
    """Both curves, twice each, in a few lines."""
    lines = [
        f"{LOSS} as TensorBoard's default reader shows it. The first line says where points are (█ all of a stretch",
        "of steps, ▒ some, · none), the second is the curve.",
    ]
    for name, shown in (("Tallyboard", outcome.tallyboard), ("plain tensorboardX", outcome.plain)):
        for when, points in (("open all along", shown.live), ("started at the end", shown.fresh)):
            lines += ["", f"{name}, TensorBoard {when}: {_balance(points, outcome.expected)}"]
            lines += [f"  {line(points, range(1, steps + 1))}" for line in (chart.presence, chart.curve)]
    return "\n".join(lines)


def concluded(outcome: Outcome) -> str:
    """What to take from it."""
    total = len(outcome.expected)
    lines = [
        f"Five jobs reported {count(outcome.logged, 'point')}. {total:,} of them are the training, one a step;",
        f"the other {outcome.logged - total:,} are of steps that a later job took again.",
    ]
    if outcome.is_whole:
        lines += [
            "Tallyboard shows exactly the training, live and afterwards, and keeps the rest as history: a job that",
            "goes on from a checkpoint says so, what can't be sent waits on disk, and late reports hide nothing.",
        ]
    else:
        lines.append("Tallyboard does not show exactly the training: that is a bug.")
    live, fresh = (_balance(points, outcome.expected) for points in (outcome.plain.live, outcome.plain.fresh))
    if outcome.plain.live == outcome.plain.fresh == outcome.expected:
        lines.append("Plain tensorboardX came through this time.")
    else:
        lines += [f"Plain tensorboardX shows {live} in the open TensorBoard,", f"{fresh} in a new one, and no warning."]
    return "\n".join(lines)


def _balance(points: Points, expected: Points) -> str:
    """How many of the expected points are there, and how many others."""
    right = sum(expected.get(step) == value for step, value in points.items())
    stale = f", and {len(points) - right:,} of superseded jobs" if len(points) > right else ""
    return f"{right:,} of {len(expected):,} points{stale}"
