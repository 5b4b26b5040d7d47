"""`tallyboard verify` and `repair`: is everything that was acknowledged there, and if not in the files, there again."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from tallyboard_server.api.messages import RepairAnswer
from tallyboard_server.cli.http import ApiProblemError
from tallyboard_server.cli.output import Exit, count, fail, stderr, stdout, table
from tallyboard_server.cli.sources import Source, source
from tallyboard_server.verify import Difference, RunReport

DataDir = Annotated[
    Path | None,
    typer.Option(help="A data directory that no service owns now.", show_default="ask the running service"),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        help="The store in a PostgreSQL database; - is TALLYBOARD_DATABASE_URL.", show_default="ask the running service"
    ),
]
Logdir = Annotated[
    str | None,
    typer.Option(
        help="Its event files: a directory, or s3://bucket/prefix.", show_default="logdir in the data directory"
    ),
]


def verify(
    run: Annotated[str | None, typer.Argument(help="The run's name; all runs if absent.", show_default=False)] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    logdir: Logdir = None,
) -> None:
    """Compare what was acknowledged, what is stored and what the event files hold, scalar by scalar.

    Per run, counter and attempt, by counts and checksums; where they differ it says in which tag and at which steps.
    Exit code 1 if anything differs.
    """
    amiss = 0
    total = 0
    with source(data_dir, logdir, database_url) as where:
        for name in [run] if run is not None else where.runs():
            report = _verified(where, name, must_exist=run is not None)
            if report is None:
                continue
            total += 1
            amiss += not report.ok
            tell(report, whole=run is not None)
    if amiss:
        fail(f"{count(amiss, 'run')} of {total:,} differ")
    if not total:
        stderr.print("no runs yet")


def repair(
    run: Annotated[
        str | None, typer.Argument(help="The run's name; every run whose event file differs, if absent.")
    ] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    logdir: Logdir = None,
) -> None:
    """Write a run's event file anew from the store, under a new name; the old one goes half a minute later.

    Exit code 1 if it was not done in time, or if the store itself differs from what was acknowledged.
    """
    unhealed = 0
    with source(data_dir, logdir, database_url) as where:
        if run is not None:
            unhealed += not _tell_repair(where.repair(run))
        else:
            for name in where.runs():
                report = _verified(where, name, must_exist=False)
                if report is None or report.ok:
                    continue
                kinds = {difference.kind for difference in report.differences}
                if "event_file" in kinds:
                    unhealed += not _tell_repair(where.repair(name))
                if kinds - {"event_file"}:
                    unhealed += 1
                    tell(report, whole=False)
    if unhealed:
        raise typer.Exit(Exit.FAILED)


def _verified(where: Source, run: str, *, must_exist: bool) -> RunReport | None:
    """The report of a run; None if it was deleted since the runs were listed."""
    with stderr.status(f"{run} …") as status:
        try:
            return where.verify(run, lambda scalars: status.update(f"{run}: {scalars:,} scalars read"))
        except ApiProblemError as error:
            if must_exist or error.problem.status not in (404, 410):
                raise
            return None


def tell(report: RunReport, *, whole: bool) -> None:
    """Print a report: a line if all is well, and with `whole` (or if not) every attempt, then what differs."""
    stored = sum(attempt.sent - attempt.pruned for attempt in report.attempts)
    pruned = sum(attempt.pruned for attempt in report.attempts)
    visible = sum(attempt.visible for attempt in report.attempts)
    mark = "✓" if report.ok else "✗"
    told = f"{count(stored, 'scalar')} acknowledged and stored, {visible:,} visible and in the event file"
    told += f", {pruned:,} pruned" if pruned else ""
    stdout.print(f"{mark} {report.run}: {told if report.ok else 'differs'}", markup=False)
    if whole or not report.ok:
        stdout.print(_attempts(report))
    for difference in report.differences:
        stdout.print(f"  ✗ {_place(difference)}{difference.detail}", markup=False)
    if (more := report.difference_count - len(report.differences)) > 0:
        stdout.print(f"  … and {count(more, 'difference')} more", markup=False)
    for warning in report.warnings:
        stdout.print(f"  ! {warning}", markup=False)


def _attempts(report: RunReport) -> Table:
    numbers = ("attempt", "sent", "pruned", "stored", "visible", "in event file")
    shown = table("counter", *numbers, "checksum", right=numbers)
    for attempt in report.attempts:
        same = attempt.sent_checksum in (None, attempt.stored_checksum)
        figures = (attempt.attempt, attempt.sent, attempt.pruned, attempt.stored, attempt.visible, attempt.in_file)
        checksum = "not kept" if attempt.sent_checksum is None else attempt.stored_checksum if same else "differs"
        shown.add_row(attempt.counter, *(f"{figure:,}" for figure in figures), checksum)
    return shown


def _place(difference: Difference) -> str:
    """Where a difference lies: counter, attempt, tag and steps, as far as known."""
    parts = []
    if difference.counter is not None:
        parts.append(f"{difference.counter}, attempt {difference.attempt}")
    if difference.tag is not None:
        parts.append(difference.tag)
    if difference.first_step is not None:
        last = difference.last_step
        same = last in (None, difference.first_step)
        parts.append(f"step {difference.first_step}" if same else f"steps {difference.first_step} to {last}")
    return ", ".join(parts) + ": " if parts else ""


def _tell_repair(answer: RepairAnswer) -> bool:
    if answer.event_file is None:
        stdout.print(f"{answer.run}: nothing is visible, so there is no event file", markup=False)
    elif answer.done:
        stdout.print(f"{answer.run}: written anew as {answer.event_file}", markup=False)
    else:
        stdout.print(f"{answer.run}: still being written; see GET /readyz", markup=False)
    return answer.done
