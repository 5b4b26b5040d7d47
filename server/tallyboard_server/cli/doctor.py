"""`tallyboard doctor`: why do I see no points? One line for each thing that can be wrong, with what to do."""

import time
from collections import Counter as Tally
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from itertools import islice
from pathlib import Path
from typing import Annotated, Final

import typer

from tallyboard.wire import names
from tallyboard_server.api.messages import AlertsPage, Readiness, RefusedPage, RunView
from tallyboard_server.cli.finding import Finding, bad, good, note
from tallyboard_server.cli.http import ApiProblemError, Service, UnreachableError, run_path, service_from
from tallyboard_server.cli.logdir import look_at_logdir
from tallyboard_server.cli.looking import stalled
from tallyboard_server.cli.output import Exit, ago, count, fail, printable, stdout
from tallyboard_server.objecturl import ObjectUrl, parse_logdir

SKEW_MAX_S: Final = 5.0
"""Beyond it, curves against wall time from several machines no longer line up; HTTP dates have whole seconds."""


def doctor(
    run: Annotated[str | None, typer.Argument(help="The run whose points are missing: project/name.")] = None,
    logdir: Annotated[
        str | None,
        typer.Option(help="What TensorBoard was given: a directory, or a URL.", show_default="the service's own"),
    ] = None,
) -> None:
    """Find out why no points show: asks the service, then looks at the run and at TensorBoard's directory.

    Exit code 1 if anything is wrong.
    """
    try:
        given = None if logdir is None else parse_logdir(logdir)
    except ValueError as error:
        fail(f"--logdir: {error}")
    healthy = True
    for finding in examine(service_from(), run, given):
        stdout.print(f"{finding.mark} {finding.text}", markup=False)
        if finding.remedy:
            stdout.print(f"    {finding.remedy}", markup=False)
        healthy &= finding.ok
    if not healthy:
        raise typer.Exit(Exit.FAILED)


def examine(service: Service, run: str | None, logdir: Path | ObjectUrl | None) -> Iterator[Finding]:
    """Everything that is found, in the order in which a report travels; ends early where nothing more can be told."""
    try:
        response = service.raw("/healthz")
    except UnreachableError as error:
        yield bad(f"no service at {service.url}", str(error))
        return
    yield good(f"{service.url} answers")
    yield _clock(response.headers.get("Date"))
    try:
        next(service.runs(limit=1), None)
    except (ApiProblemError, UnreachableError) as error:
        yield bad(f"the service does not let us in: {error}", "set TALLYBOARD_URL and TALLYBOARD_TOKEN as it expects")
        return
    yield good("it lets us in")
    try:
        ready = service.readiness()
        yield _ready(ready)
    except ApiProblemError as error:
        if error.problem.status != 403:
            raise
        ready = None
        yield note("it does not say whether it is ready", "that takes a token for all projects")
    view = None
    if run is not None:
        try:
            view = service.get(run_path("/runs", run), RunView)
        except ApiProblemError as error:
            yield bad(f"{run}: {error}", _names_like(service, run))
            return
        yield from _run(service, view)
    yield from look_at_logdir(view, logdir, _logdir_of(ready))


def _clock(date: str | None) -> Finding:
    if date is None:
        return good("the service does not tell its time (a proxy in between?)")
    ahead = time.time() - parsedate_to_datetime(date).timestamp()
    if abs(ahead) <= SKEW_MAX_S:
        return good("the clocks agree")
    direction = "ahead of" if ahead > 0 else "behind"
    return bad(
        f"this machine's clock is {ago(abs(ahead))} {direction} the service's",
        "keep both in time (NTP): wall times come from the reporting machine",
    )


def _ready(ready: Readiness) -> Finding:
    if ready.ready:
        return good("it is ready: the store can be written, its views follow")
    return bad("it is not ready: " + "; ".join(ready.reasons), "see its log, and GET /readyz")


def _logdir_of(ready: Readiness | None) -> Path | ObjectUrl | None:
    logdir = None if ready is None else ready.checks.get("logdir")
    return parse_logdir(logdir) if isinstance(logdir, str) else None


def _names_like(service: Service, run: str) -> str:
    alike = service.runs(q=run.rpartition("/")[2])
    names = [row.run for row in islice(alike, 5)]
    return f"there is {', '.join(names)}" if names else "`tallyboard runs` lists what there is"


def _run(service: Service, view: RunView) -> Iterator[Finding]:
    refused = service.get(run_path("/refused", view.run), RefusedPage)
    trained = {name for name in view.counters if name != names.SYSTEM_COUNTER}
    shown = bool(view.tag_counters) or any(view.counters[name].last_step is not None for name in trained)
    refused_on = {item.refusal.counter for item in refused.refused}
    for name, counter in view.counters.items():
        scalars = sum(attempt.scalars for attempt in counter.attempts)
        if counter.last_step is None:
            found = note if shown and name not in refused_on else bad
            yield found(f"{view.run}: {name} shows no point", _why_hidden(scalars))
        else:
            tags = count(len(counter.tags), "tag")
            yield good(f"{view.run}: {name} is at {counter.last_step:,} ({count(scalars, 'scalar')} stored, {tags})")
        if counter.stalled:
            yield bad(
                f"{view.run}: {stalled(name, counter)}", "is it being incremented, once per update, before each report?"
            )
    if not (trained or view.tag_counters):
        yield bad(
            f"{view.run}: no report was ever accepted",
            "is the job reporting under this name, and to this URL? Where it reports at every(n) or log_every(n, …) of"
            " a counter, is that being incremented? They hold at its steps 1, n+1, … alone",
        )
    yield _refusals(refused)
    yield _alerts(view, service.get(run_path("/alerts", view.run), AlertsPage, limit=1))
    if view.status == "lost":
        yield bad(
            f"{view.run} says it is running, but was last heard of {ago(view.health.silent_s or 0.0)} ago",
            "look at the job: has it died, or lost its way to the service?",
        )


def _why_hidden(scalars: int) -> str:
    if scalars:
        return f"all of its {count(scalars, 'scalar')} were superseded by rewinds: report again from there"
    return "it was declared or rewound, and nothing was reported on it yet"


def _refusals(page: RefusedPage) -> Finding:
    if not page.refused:
        return good("no report was refused")
    reasons = Tally(item.refusal.reason for item in page.refused)
    told = ", ".join(f"{number} × {reason}" for reason, number in reasons.most_common())
    newest = page.refused[0]
    return bad(
        f"reports were refused: {told}; the newest {ago(time.time() - newest.at)} ago",
        f"{newest.refusal.counter} at step {newest.refusal.step}: {newest.refusal.detail}",
    )


def _alerts(view: RunView, newest: AlertsPage) -> Finding:
    """What the job itself had to say; only an error is something amiss."""
    if not newest.alerts:
        return good("the job raised no alert")
    alert = newest.alerts[0]
    told = (
        f"{count(view.health.alerts_kept, 'alert')} of the job; the newest {ago(time.time() - alert.received_at)} ago"
    )
    text = f"{told}: {printable(alert.title)} ({alert.level})"
    return bad(text, f"see `tallyboard alerts {view.run}`") if alert.level == "error" else good(text)
