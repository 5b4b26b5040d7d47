"""Verification as tests use it, on the store and files of an eventfiles_kit.Service."""

from collections.abc import Callable

from tallyboard_server.eventfiles import LogDirectory
from tallyboard_server.ingest import Merger
from tallyboard_server.verify import RunCheck, RunReport
from tests.eventfiles_kit import Service


def verify(service: Service, run: str, between: Callable[[], object] = lambda: None) -> RunReport:
    """Check a run, with something happening between any two steps."""
    check = RunCheck(service.store, LogDirectory(service.logdir), run, catch_up_s=0.0)
    for _ in check.steps():
        between()
    return check.report


def told(report: RunReport) -> list[tuple[str, str | None, int | None, str | None, int | None, int | None]]:
    """(kind, counter, attempt, tag, first step, last step) of every difference."""
    return [(d.kind, d.counter, d.attempt, d.tag, d.first_step, d.last_step) for d in report.differences]


def merge(service: Service, run: str) -> int:
    """Merge all there is to merge of a run; returns how many blocks were."""
    with service.store.snapshot() as view:
        state = view.load(run)
    assert state is not None
    return Merger(service.store, service.ingest.record, min_blocks=2, slice_rows=4).merge_run(state.id)
