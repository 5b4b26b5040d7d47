"""Reading a run's state, with the errors that a missing one deserves."""

from tallyboard_server.ingest.errors import RunDeletedError, RunNotFoundError
from tallyboard_server.model import RunState
from tallyboard_server.store.protocol import Snapshot, Store


def load_run(view: Snapshot, run: str) -> RunState:
    """The run's state; raises RunNotFoundError or RunDeletedError."""
    state = view.load(run)
    if state is not None:
        return state
    if view.is_deleted(run):
        raise RunDeletedError(f"run {run!r} was deleted; PUT /api/v1/runs/{run} creates it again")
    raise RunNotFoundError(f"there is no run {run!r}; GET /api/v1/runs lists them, a first report creates one")


def check_exists(store: Store, run: str) -> None:
    """Raise RunNotFoundError or RunDeletedError if there is no such run."""
    with store.snapshot() as view:
        load_run(view, run)
