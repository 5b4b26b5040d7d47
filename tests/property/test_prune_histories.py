"""Any history, pruned at any time: nothing visible is lost with superseded points, and what is left verifies."""

import pytest
from hypothesis import strategies as st

from tallyboard_server.model import RunState
from tallyboard_server.retention import Outcome, Policy, Pruner
from tests.eventfiles_kit import Service, curves, same, settle
from tests.examples import given_on_engines
from tests.histories import Action, histories
from tests.stores import Stores, on
from tests.unit.test_retention import merge_all
from tests.verify_kit import verify

pytestmark = on("sqlite", "postgres")

RUN = "a/b"
PLACES = st.sets(st.integers(0, 15), min_size=1)


def prune(service: Service, policy: Policy) -> Outcome:
    pruner = Pruner(
        service.store, service.ingest.record, service.ingest.submit_blocking, lambda state: state.meta.updated_at
    )
    pruning = pruner.run(RUN, policy, dry=False)
    for _ in pruning.steps():
        pass
    return pruning.outcome


def state_of(service: Service) -> RunState | None:
    with service.store.snapshot() as view:
        return view.load(RUN)


def play(service: Service, history: list[Action], pruned_at: set[int], policy: Policy, rows_max: int) -> None:
    """Carry a history out, with exports, merges and prunes after some of its actions."""
    engine = service.engine()
    for index, action in enumerate(history):
        action(service, RUN)
        if index in pruned_at and state_of(service) is not None:
            settle(engine)
            merge_all(service, rows_max)
            prune(service, policy)
    if state_of(service) is not None:
        settle(engine)


@given_on_engines(40, elsewhere=4, history=histories, pruned_at=PLACES, rows_max=st.sampled_from([1, 4, 1_000]))
def test_pruning_superseded_points_changes_nothing_that_is_visible(
    stores: Stores, tmp_path_factory: pytest.TempPathFactory, history: list[Action], pruned_at: set[int], rows_max: int
) -> None:
    folders = tmp_path_factory.mktemp("pruned"), tmp_path_factory.mktemp("whole")
    with Service(folders[0], stores=stores) as pruned, Service(folders[1], stores=stores) as whole:
        play(pruned, history, pruned_at, Policy(superseded=True), rows_max)
        for action in history:
            action(whole, RUN)
        if state_of(pruned) is None:
            assert state_of(whole) is None
            return
        assert same(pruned.shown(RUN), whole.shown(RUN))
        report = verify(pruned, RUN)
        assert report.ok, report.differences
        merge_all(pruned, rows_max)
        outcome = prune(pruned, Policy(superseded=True))
        report = verify(pruned, RUN)
        assert report.ok, report.differences
        visible = sum(map(len, whole.shown(RUN).values()))
        assert not (outcome.unmerged and visible), "what event files hold can be merged to the last"
        if not outcome.unmerged:
            assert sum(attempt.stored for attempt in report.attempts) == visible


@given_on_engines(
    40, elsewhere=4, history=histories, pruned_at=PLACES, rows_max=st.sampled_from([1, 4, 1_000]),
    thin=st.sampled_from([4, 8, 40]),
)  # fmt: skip
def test_thinned_runs_go_on_and_verify(
    stores: Stores,
    tmp_path_factory: pytest.TempPathFactory,
    history: list[Action],
    pruned_at: set[int],
    rows_max: int,
    thin: int,
) -> None:
    with Service(tmp_path_factory.mktemp("run"), stores=stores) as service:
        play(service, history, pruned_at, Policy(superseded=True, thin=thin), rows_max)
        state = state_of(service)
        if state is None:
            return
        report = verify(service, RUN)
        assert report.ok, report.differences
        shown = service.shown(RUN)
        if shown:
            assert same(curves(service.live_file(RUN)), shown)
        merge_all(service, rows_max)
        prune(service, Policy(thin=thin))
        again = service.shown(RUN)
        for tag, points in shown.items():
            assert {repr(point) for point in again[tag]} <= {repr(point) for point in points}
            assert repr(again[tag][0]) == repr(points[0])
            assert repr(again[tag][-1]) == repr(points[-1])
        for known in state.tags.values():
            counter = state.counter_by_id(known.counter_id)
            assert (counter is not None and known.is_bound(counter)) == (known.name in shown)
