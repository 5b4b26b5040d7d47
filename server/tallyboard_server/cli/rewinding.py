"""`tallyboard rewind`: take a run's counters back by hand, after showing what that supersedes."""

import sys
import uuid
from typing import Annotated

import typer

from tallyboard.wire import InvalidNameError, Receipt, check_counter
from tallyboard.wire.limits import STEP_MAX
from tallyboard_server.api.messages import CounterView, RewindBody, RunView
from tallyboard_server.cli.http import run_path, service_from
from tallyboard_server.cli.looking import writer
from tallyboard_server.cli.output import Exit, count, fail, stdout, table


def rewind(
    run: Annotated[str, typer.Argument(help="The run's name: project/name.")],
    next_steps: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="COUNTER=STEP...",
            help="The next step of each counter: global_step=1000 epoch=4. 0 starts afresh.",
            show_default=False,
        ),
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; kept with the run.")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
) -> None:
    """Take counters back: each goes on at its next step, and what it holds from there on is superseded.

    Superseded points leave the charts and TensorBoard. All counters named are rewound together or not at all.
    """
    if not next_steps:
        raise typer.BadParameter(
            f"name each counter with its next step, for example: tallyboard rewind {run} global_step=1000 epoch=4"
        )
    steps = parse_next_steps(next_steps)
    service = service_from()
    view = service.get(run_path("/runs", run), RunView)
    if unknown := steps.keys() - view.counters.keys():
        there = ", ".join(view.counters) or "none"
        fail(f"{run} has no counter {', '.join(sorted(unknown))}; it has {there}", Exit.NOT_FOUND)
    _show(view, steps)
    if not yes and sys.stdin.isatty():
        typer.confirm("Rewind?", abort=True)
    body = RewindBody(next_steps=steps, reason=reason, id=uuid.uuid4().hex)
    receipt = service.post(run_path("/rewind", run), body, Receipt)
    names = ", ".join(f"{name} goes on at {step}" for name, step in steps.items())
    stdout.print(f"rewound {run}: {names}", markup=False)
    for name, value in receipt.not_rewound.items():
        stdout.print(f"not rewound: {name}, at {value.last_step}", markup=False)


def parse_next_steps(arguments: list[str]) -> dict[str, int]:
    """`counter=step` arguments as a mapping; ends the command if one is neither or a counter comes twice."""
    steps: dict[str, int] = {}
    for argument in arguments:
        name, equals, text = argument.rpartition("=")
        if not equals or not (text.isascii() and text.isdigit()) or int(text) > STEP_MAX:
            raise typer.BadParameter(f"{argument!r} is not counter=step; write for example global_step=1000")
        try:
            check_counter(name)
        except InvalidNameError as error:
            raise typer.BadParameter(str(error)) from error
        if name in steps:
            raise typer.BadParameter(f"counter {name} is named twice")
        steps[name] = int(text)
    return steps


def superseded(counter: CounterView, next_step: int) -> int:
    """How many of a counter's steps lie at or after next_step at most: the span, not the number of reports."""
    return 0 if counter.last_step is None else max(0, counter.last_step - next_step + 1)


def _show(view: RunView, steps: dict[str, int]) -> None:
    shown = table(
        "counter",
        "is at",
        "goes on at",
        "superseded",
        "writer now",
        right=("is at", "goes on at"),
        wrap=("superseded", "writer now"),
    )
    for name, counter in view.counters.items():
        if name in steps:
            span = superseded(counter, steps[name])
            gone = f"{steps[name]:,} … {counter.last_step:,} ({count(span, 'step')})" if span else "nothing"
        else:
            gone = "– (not rewound)"
        shown.add_row(
            name,
            "–" if counter.last_step is None else f"{counter.last_step:,}",
            f"{steps[name]:,}" if name in steps else "",
            gone,
            writer(counter.attempts[-1]) if counter.attempts else "",
        )
    stdout.print(shown)
