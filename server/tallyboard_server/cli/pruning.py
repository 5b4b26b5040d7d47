"""`tallyboard prune`: remove superseded points, thin long curves, delete old runs; or only say what would go."""

import re
from typing import Annotated, Final

import typer

from tallyboard_server.api.messages import PruneBody
from tallyboard_server.cli.exporting import matching
from tallyboard_server.cli.http import ApiProblemError
from tallyboard_server.cli.output import count, fail, stderr, stdout, table
from tallyboard_server.cli.sources import Source, source
from tallyboard_server.cli.verifying import DatabaseUrl, DataDir
from tallyboard_server.retention import THIN_MIN, Outcome
from tallyboard_server.store.protocol import StoreError

_UNITS_S: Final = {"m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0, "y": 365 * 86_400.0}
_AGE: Final = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)([mhdwy])")


def prune(
    runs: Annotated[
        list[str] | None, typer.Argument(help="Runs, or patterns as in a shell; all, with --older-than, if absent.")
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option(
            metavar="AGE", help="Only runs of which nothing was heard for so long: 90d, 12w, 36h.", show_default="any"
        ),
    ] = None,
    attempts: Annotated[bool, typer.Option("--attempts", help="Remove superseded points.")] = False,
    thin: Annotated[
        int | None,
        typer.Option(
            metavar="POINTS", min=THIN_MIN, help="Keep about so many points of tags that have more.", show_default="no"
        ),
    ] = None,
    whole: Annotated[
        bool, typer.Option("--runs", help="Delete the runs themselves; --older-than must be given.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do it. Without, nothing changes.")] = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Say which old points and runs would go, and with --yes remove them for good.

    --attempts takes points that rewinds hid. --thin keeps of each stretch of steps the first, least, greatest and last
    point, and the first NaN, Infinity and -Infinity, so that a chart of that resolution looks the same. Points that
    event files still need stay. `tallyboard verify` knows what was pruned.
    """
    older_than_s = parse_age(older_than) if older_than is not None else 0.0
    if not (attempts or thin is not None or whole):
        raise typer.BadParameter("say what is to go: --attempts, --thin 10000, or --runs")
    if not runs and older_than is None:
        raise typer.BadParameter("say which runs: by name, or all that are --older-than 90d")
    if whole and older_than is None:
        raise typer.BadParameter("--runs deletes whole runs: say which by --older-than; 0d is any")
    body = PruneBody(dry_run=not yes, older_than_s=older_than_s, superseded=attempts, thin=thin, whole=whole)
    try:
        with source(data_dir, None, database_url) as where:
            names = matching(where, runs) if runs else list(where.runs())
            found = [_pruned(where, name, body, must_exist=name in (runs or ())) for name in names]
    except StoreError as error:
        fail(str(error))
    _tell([outcome for outcome in found if outcome is not None], done=yes)


def parse_age(text: str) -> float:
    """An age as 90d, 12w, 36h in seconds; ends the command if it is none."""
    parts = _AGE.fullmatch(text)
    if parts is None:
        raise typer.BadParameter(f"{text!r} is no age; write for example 90d, 12w or 36h")
    return float(parts[1]) * _UNITS_S[parts[2]]


def _pruned(where: Source, run: str, body: PruneBody, *, must_exist: bool) -> Outcome | None:
    """What became of a run; None if it was deleted since the runs were listed."""
    with stderr.status(f"{run} …") as status:
        try:
            return where.prune(run, body, lambda scalars: status.update(f"{run}: {scalars:,} scalars read"))
        except ApiProblemError as error:
            if must_exist or error.problem.status not in (404, 410):
                raise
            return None


def _tell(outcomes: list[Outcome], *, done: bool) -> None:
    numbers = ("superseded", "thinned", "points", "bytes, about")
    shown = table("run", *numbers, "", right=numbers)
    going = [outcome for outcome in outcomes if outcome.total or outcome.deleted or outcome.blobs]
    for outcome in going:
        figures = (outcome.superseded, outcome.thinned, outcome.total, outcome.nbytes)
        shown.add_row(outcome.run, *(f"{figure:,}" for figure in figures), "the whole run" if outcome.deleted else "")
    if going:
        stdout.print(shown)
    if skipped := sum(outcome.skipped is not None for outcome in outcomes):
        stdout.print(f"{count(skipped, 'run')} not old enough")
    if blobs := sum(outcome.blobs for outcome in outcomes):
        stdout.print(f"{blobs:,} images, texts, histograms, … went that no point shows any more")
    if waiting := sum(outcome.unmerged for outcome in outcomes):
        stdout.print(f"{count(waiting, 'run')} with points that are not merged yet: those stay for now")
    points, nbytes = sum(outcome.total for outcome in going), sum(outcome.nbytes for outcome in going)
    what = f"{count(points, 'point')} of {count(len(going), 'run')}, about {nbytes:,} bytes"
    stdout.print(f"{what}, {'went' if done else 'would go; --yes does it'}" if going else "nothing to remove")
