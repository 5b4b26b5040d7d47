"""What to tell people when the service does not answer, or wants nothing more."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tallyboard.wire import DEFAULT_COUNTER, Problem, names

GOES_ON: Final = "Training goes on: reports are kept on this machine and sent when it is back"
_NAMED_MAX: Final = 5
"""Counters that one message names."""


def away(url: str, why: str) -> str:
    """The service can't be reached, or is busy."""
    return (
        f"{url} takes nothing at the moment ({why}). {GOES_ON}. Start one with `tallyboard serve`, or set"
        " TALLYBOARD_URL"
    )


def foreign(url: str, problem: Problem) -> str:
    """Something else answers in the service's place, and what a person can do about it."""
    match problem.status:
        case 401 | 403 | 407:
            remedy = "something in front of it asks who you are: check TALLYBOARD_TOKEN and TALLYBOARD_URL"
        case 413:
            remedy = "something in front of it takes no batch of this size: let it take larger bodies"
        case status if 300 <= status < 400:
            remedy = "it redirects elsewhere: set TALLYBOARD_URL to where the service itself is"
        case _:
            remedy = "check TALLYBOARD_URL, and what stands in front of it"
    return f"{url} does not answer as a Tallyboard does (status {problem.status}: {problem.detail}); {remedy}"


def misses(url: str, run: str, batches: int) -> str:
    """The service has forgotten what it had acknowledged."""
    lost = f"{batches:,} batches" if batches != 1 else "1 batch"
    return (
        f"{url} no longer has {lost} of run {run} that it had acknowledged: was an older copy of its data restored?"
        " They are lost; what comes from now on is sent under a new producer"
    )


def mislabelled(run: str, counters: Sequence[str]) -> str:
    """The job counted from 0 before it was known where the run stands."""
    names = ", ".join(counters)
    return (
        f"run {run} exists, and this job counted {names} from 0 before the server could say where it stands: its points"
        " would get wrong steps. Say where a job goes on: tallyboard.init(…, next_steps={…}) or run.load_state_dict(…)"
    )


def unplaced(counter: str) -> str:
    """The job counts before it is known where the run stands."""
    if names.is_implicit(counter):
        return (
            f"{counter.removeprefix(names.IMPLICIT_PREFIX)!r} counts from 0 in a run that was begun before: give it a"
            " global_step, or say where all go on by SummaryWriter(…, purge_step=…)"
        )
    return (
        f"{counter} counts from 0, as the server has not said yet where the run stands. If this run was begun before,"
        " say where it goes on: tallyboard.init(…, next_steps={…}) or run.load_state_dict(…)"
    )


def stands(counter: str, value: int, times: str, *, counts_reports: bool = False) -> str:
    """Nobody seems to move a counter, which may count reports instead."""
    if counts_reports:
        state = f"nobody has moved {counter} for {times}, so it counts the reports, of which there were {value}"
    else:
        state = f"{counter} has been {value} for {times}"
    return (
        f"{state}; is it being incremented? Once per update, before anything is reported, say"
        f' run.counter("{counter}").increment(), or go through the updates with its track(…)'
    )


def unlogged(counter: str, tag: str) -> str:
    """A schedule is not reported, since its counter has no steps yet."""
    return (
        f"{tag!r} is not reported: nobody has moved {counter}, so it counts the reports, and this would be one more."
        f' Once per update, before anything is reported, say run.counter("{counter}").increment()'
    )


def unrouted(tag: str, moved: Sequence[str]) -> str:
    """A report names no counter, and the job moves others than the one that it goes to."""
    prefix, slash, _ = tag.partition("/")
    likely = next((name for name in moved if slash and name.startswith(prefix)), moved[0])
    pattern = f"{prefix}/*" if slash else tag
    others = ", ".join(moved[:_NAMED_MAX]) + (", …" if len(moved) > _NAMED_MAX else "")
    return (
        f"{tag!r} is reported without a counter, and so on {DEFAULT_COUNTER}, which nobody moves: it counts the"
        f" reports, while this job moves {others}. Say where it belongs: tallyboard.init(…,"
        f" counters={{{_quoted(pattern)}: {_quoted(likely)}}}), run.counter({_quoted(likely)}).log(…) or"
        f" run.log(…, counter={_quoted(likely)}); or, to have it so, run.counter({_quoted(DEFAULT_COUNTER)})"
    )


def exists(counter: str) -> str:
    """A counter was to be new, and the server knows it."""
    return (
        f"counter {counter!r} was asked for with create='new', and the server now says that the run has it: it goes on"
        " where the run stands. For figures of their own, use another name"
    )


def missing(counter: str) -> str:
    """A counter was to be there, and the server does not know it."""
    return (
        f"counter {counter!r} was asked for with create='existing', and the server now says that the run has none of"
        " that name: it begins at 0. Is it misspelt?"
    )


def ahead(counter: str, value: int, last_step: int) -> str:
    """The server has steps that a resumed job has not come to yet."""
    return (
        f"{counter} is at {value} here, and the server has it at {last_step}: it is ahead of this job's checkpoint, and"
        " refuses steps up to there. To replace them, go back with"
        f' tallyboard.init(…, next_steps={{"{counter}": {value}}}) or run.load_state_dict(…)'
    )


def unsent(reports: int, path: Path) -> str:
    """What is left to do about reports that could not be sent."""
    return f"{reports:,} reports kept on disk; send them with: tallyboard sync {shlex.quote(str(path))}"


def remedy(problem: Problem, url: str, run: str) -> str:
    """Nothing more is sent, and what a person can do about it."""
    if problem.code == "held":
        return (
            f"{problem.detail}. Nothing more is sent; training goes on, and its reports are kept on this machine"
            " (`tallyboard sync --as-new` gives them a run of their own)"
        )
    said = problem.detail or problem.title or f"status {problem.status}"
    return (
        f"{cause(problem, url, run)}. Nothing more is sent; training goes on, and its reports are kept on this machine."
        f" The server said: {said}"
    )


def cause(problem: Problem, url: str, run: str) -> str:
    """Why the service wants nothing more of a run, and what a person can do about it."""
    match problem.status, problem.code:
        case 401, _:
            return f"{url} does not accept the token: set TALLYBOARD_TOKEN to one that it made, or was started with"
        case 403, _:
            return f"the token may not report to run {run} at {url}: set TALLYBOARD_TOKEN to one that may"
        case 404, "run_not_found":
            return f"{url} has no run {run}: check its name and TALLYBOARD_URL"
        case 410, _:
            return f"run {run} was deleted: choose another name, or create it again with PUT /api/v1/runs/{run}"
        case 409, _:
            return f"{url} can't take this run's batches in order"
        case 421, _:
            return f"the service does not go by the name in {url}: set TALLYBOARD_URL to one of its names"
        case _:
            return f"{url} does not take what this client sends: check TALLYBOARD_URL, and that their versions fit"


def _quoted(text: str) -> str:
    """As it is written in Python, with the quotes of the documentation."""
    return f'"{text}"' if text.isprintable() and not {'"', "\\"} & set(text) else repr(text)
