"""What to tell people when the service does not answer, or wants nothing more."""

from tallyboard.wire import Problem


def away(url: str, why: str) -> str:
    """The service can't be reached, or is busy."""
    return (
        f"{url} takes nothing at the moment ({why}). Training goes on: reports wait in memory, up to about 64 MiB, and"
        " are sent when it is back. Start one with `tallyboard serve`, or set TALLYBOARD_URL"
    )


def remedy(problem: Problem, url: str, run: str) -> str:
    """Nothing more is sent, and what a person can do about it."""
    said = problem.detail or problem.title or f"status {problem.status}"
    return f"{_cause(problem, url, run)}. Nothing more is sent; training goes on. The server said: {said}"


def _cause(problem: Problem, url: str, run: str) -> str:
    match problem.status, problem.code:
        case 401 | 403, _:
            return f"{url} does not accept the token: set TALLYBOARD_TOKEN to the one it was started with"
        case 404, _:
            return f"{url} has no run {run}: check its name and TALLYBOARD_URL"
        case 410, _:
            return f"run {run} was deleted: choose another name, or create it again with PUT /api/v1/runs/{run}"
        case 409, "seq_gap":
            return f"{url} misses batches of run {run} that it had acknowledged: was an old copy of its data restored?"
        case 409, _:
            return f"{url} can't take this run's batches in order"
        case status, _ if 300 <= status < 400:
            return f"{url} redirects elsewhere: set TALLYBOARD_URL to where the service itself is"
        case _:
            return f"{url} does not answer as a Tallyboard does: check TALLYBOARD_URL"
