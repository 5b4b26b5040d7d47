"""Pruning against a real store and real event files: what goes, what stays, and that verification knows it."""

from collections.abc import Callable, Iterator
from operator import methodcaller
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallyboard.wire import Rewind
from tallyboard_server.ingest import Delete, RunNotFoundError
from tallyboard_server.ingest.merger import mergeable_up_to
from tallyboard_server.model import RunState
from tallyboard_server.retention import Outcome, Policy, Pruner
from tallyboard_server.retention.thinning import kept, shift_for
from tallyboard_server.store.protocol import Transaction
from tests.eventfiles_kit import Service, curves, same, settle
from tests.summary_kit import columns_of, event, image_value, text_value
from tests.verify_kit import told, verify

RUN = "a/b"
EVERYTHING = Policy(superseded=True, thin=100)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with Service(tmp_path) as made:
        yield made


def pruner(service: Service, **parts: object) -> Pruner:
    made = {
        "store": service.store,
        "record": service.ingest.record,
        "delete": service.ingest.submit_blocking,
        "last_heard": lambda state: state.meta.updated_at,
    }
    return Pruner(**(made | parts))  # type: ignore[arg-type]


def prune(service: Service, policy: Policy, *, dry: bool = False, run: str = RUN) -> Outcome:
    pruning = pruner(service).run(run, policy, dry=dry)
    for _ in pruning.steps():
        pass
    return pruning.outcome


def rewound(service: Service, steps: int = 3_000, back_to: int = 2_000) -> None:
    """Two tags of many steps, the end of them superseded by a second attempt; exported and merged."""
    for first in range(0, steps, 500):
        numbers = range(first, first + 500)
        values = {"loss": [float(np.sin(step / 10)) for step in numbers], "acc": [step / 7 for step in numbers]}
        service.report(RUN, numbers, values)
    service.rewind(RUN, global_step=back_to)
    for first in range(back_to, back_to + 1_000, 100):
        service.report(RUN, range(first, first + 100), {"loss": [float(first)] * 100})
    exported_and_merged(service)


def exported_and_merged(service: Service) -> None:
    settle(service.engine())
    merge_all(service)


def merge_all(service: Service, rows_max: int = 1_000) -> None:
    """Merge whatever event files don't need any more, into groups of so many rows."""
    while True:
        with service.store.snapshot() as view:
            state = state_of(service)
            up_to = mergeable_up_to(view, state.id)
            places = view.mergeable(state.id, up_to_pos=up_to, min_blocks=1)
            if not places:
                return
            sources = view.whole_batches(state.id, *places[0], up_to_pos=up_to, rows_max=rows_max)
        merged = service.store.prepare_merge(state.id, sources)
        service.ingest.record(methodcaller("merge", merged))


def state_of(service: Service) -> RunState:
    with service.store.snapshot() as view:
        state = view.load(RUN)
    assert state is not None
    return state


def stored(service: Service) -> dict[tuple[int, str], dict[int, float]]:
    """Everything in the store: {(attempt, tag): {step: value}}."""
    state = state_of(service)
    names = {tag.id: name for name, tag in state.tags.items()}
    found: dict[tuple[int, str], dict[int, float]] = {}
    with service.store.snapshot() as view:
        for counter in state.counters.values():
            for attempt in counter.attempts:
                for block in view.blocks(state.id, counter.id, attempt.number):
                    for column, tag_id in enumerate(block.tag_ids.tolist()):
                        points = found.setdefault((attempt.number, names[tag_id]), {})
                        for step, value in zip(block.steps.tolist(), block.values[:, column].tolist(), strict=True):
                            assert step not in points
                            points[step] = value
    return found


class TestThinning:
    @given(
        st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=60, unique=True).map(sorted),
        st.lists(
            st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e308, float("nan"), float("inf"), float("-inf")]), min_size=60
        ),
        st.integers(100, 400),
        st.integers(0, 40),
    )
    def test_what_stays_is_what_a_walk_finds(
        self, steps: list[int], values: list[float], points: int, more: int
    ) -> None:
        values = values[: len(steps)]
        shift = min(62, shift_for(steps[0], steps[-1], points) + more)
        stays = kept(np.array(steps), np.array(values), shift).tolist()
        expected = set()
        for bucket in {step >> shift for step in steps}:
            rows = [i for i, step in enumerate(steps) if step >> shift == bucket]
            finite = [i for i in rows if np.isfinite(values[i])]
            expected |= {rows[0], rows[-1]}
            if finite:
                expected |= {min(finite, key=lambda i: values[i]), max(finite, key=lambda i: values[i])}
            for text in ("nan", "inf", "-inf"):
                expected |= {i for i in rows if str(values[i]) == text and not any(
                    str(values[j]) == text for j in rows if j < i)}  # fmt: skip
        assert [i for i, stay in enumerate(stays) if stay] == sorted(expected)

    @given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1), st.integers(100, 10_000))
    def test_buckets_are_as_many_as_may_be(self, one: int, other: int, points: int) -> None:
        first, last = min(one, other), max(one, other)
        shift = shift_for(first, last, points)
        assert (last >> shift) - (first >> shift) + 1 <= points // 4
        if shift:
            assert (last >> (shift - 1)) - (first >> (shift - 1)) + 1 > points // 4

    @given(st.lists(st.floats(width=16), min_size=1, max_size=300), st.integers(0, 6), st.integers(0, 6))
    def test_thinning_in_two_goes_is_thinning_in_one(self, values: list[float], fine: int, more: int) -> None:
        steps, column = np.arange(len(values)) * 3, np.array(values)
        first = kept(steps, column, fine)
        second = kept(steps[first], column[first], fine + more)
        assert steps[first][second].tolist() == steps[kept(steps, column, fine + more)].tolist()


def test_dry_says_what_would_go_and_removes_nothing(service: Service) -> None:
    rewound(service)
    before, state = stored(service), state_of(service)
    looked = prune(service, EVERYTHING, dry=True)
    assert looked.superseded == 2_000
    assert looked.thinned > 4_000
    assert stored(service) == before
    assert state_of(service) == state
    assert prune(service, EVERYTHING) == looked
    assert sum(map(len, stored(service).values())) == 7_000 - looked.total


def test_superseded_points_go_and_the_rest_stays(service: Service) -> None:
    rewound(service)
    before, epoch, files = stored(service), state_of(service).epoch, service.event_files(RUN)
    assert prune(service, Policy(superseded=True)) == Outcome(run=RUN, superseded=2_000)
    assert stored(service) == {
        place: {step: value for step, value in points.items() if place[0] == 2 or step < 2_000}
        for place, points in before.items()
    }
    assert state_of(service).epoch == epoch
    settle(service.engine())
    assert service.event_files(RUN) == files
    report = verify(service, RUN)
    assert report.ok, report.differences
    assert [(a.sent, a.pruned, a.stored, a.visible, a.in_file) for a in report.attempts] == [
        (6_000, 2_000, 4_000, 4_000, 4_000),
        (1_000, 0, 1_000, 1_000, 1_000),
    ]
    assert prune(service, Policy(superseded=True)).total == 0


def test_thinned_curves_keep_what_charts_show(service: Service) -> None:
    rewound(service)
    before = service.shown(RUN)
    outcome = prune(service, Policy(thin=400))
    assert outcome.superseded == 0
    after = service.shown(RUN)
    for tag, points in before.items():
        left = dict(after[tag])
        assert 100 < len(left) <= 800
        shift = shift_for(points[0][0], points[-1][0], 400)
        for bucket in {step >> shift for step, _ in points}:
            own = [(step, value) for step, value in points if step >> shift == bucket]
            values = [value for _, value in own]
            found = [value for step, value in left.items() if step >> shift == bucket]
            assert (min(found), max(found)) == (min(values), max(values))
            assert {own[0][0], own[-1][0]} <= left.keys()
        assert left.items() <= dict(points).items()
    settle(service.engine())
    assert same(curves(service.live_file(RUN)), after)
    assert verify(service, RUN).ok


def test_a_run_goes_on_after_pruning(service: Service) -> None:
    rewound(service)
    prune(service, EVERYTHING)
    service.report(RUN, range(3_000, 3_200), {"loss": [0.5] * 200})
    service.rewind(RUN, global_step=2_500)
    service.report(RUN, range(2_500, 2_600), {"loss": [0.25] * 100})
    exported_and_merged(service)
    report = verify(service, RUN)
    assert report.ok, report.differences
    again = prune(service, EVERYTHING)
    assert again.superseded > 200
    settle(service.engine())
    assert verify(service, RUN).ok
    assert same(curves(service.live_file(RUN)), service.shown(RUN))


def test_what_event_files_need_stays(service: Service) -> None:
    """Without an exporter nothing is merged, and what is not merged does not go."""
    for first in range(0, 1_000, 100):
        service.report(RUN, range(first, first + 100), {"loss": [0.5] * 100})
    service.rewind(RUN, global_step=10)
    merge_all(service)
    assert prune(service, EVERYTHING) == Outcome(run=RUN, unmerged=True)
    exported_and_merged(service)
    assert prune(service, Policy(superseded=True)).superseded == 990


def test_losing_the_same_points_by_accident_is_found(service: Service) -> None:
    """The store loses exactly what pruning would have taken, but nobody kept account."""
    rewound(service)
    state = state_of(service)
    prune(service, Policy(superseded=True))

    def forget(transaction: Transaction) -> None:
        transaction.save(state)  # the account as it was before

    service.ingest.record(forget)
    report = verify(service, RUN)
    assert not report.ok
    assert told(report)[0][:3] == ("store", "global_step", 1)
    assert any("6,000 scalars were acknowledged, 4,000 are stored" in found.detail for found in report.differences)


def test_losing_other_points_than_pruned_is_found(service: Service) -> None:
    """As many are missing as were pruned, but others: the checksum tells."""
    rewound(service)
    prune(service, Policy(superseded=True))
    with service.store.snapshot() as view:
        group = view.groups(state_of(service).id, 1, 1)[0]
        blocks = view.group_blocks(group)
    really = state_of(service)
    other = service.store.prepare_prune(group, blocks, lambda block: block.steps > 0)

    def lose(transaction: Transaction) -> None:
        assert transaction.prune(other)
        transaction.save(really)

    service.ingest.record(lose)
    report = verify(service, RUN)
    assert any("4,000 scalars" not in d.detail and "are stored" in d.detail for d in report.differences)
    assert not report.ok


def test_pruning_while_it_is_verified_begins_the_verification_anew(service: Service) -> None:
    rewound(service)
    done: list[Outcome] = []

    def once() -> None:
        if not done:
            done.append(prune(service, Policy(superseded=True)))

    report = verify(service, RUN, between=once)
    assert done[0].superseded == 2_000
    assert report.ok, report.differences
    assert report.attempts[0].pruned == 2_000


@pytest.mark.parametrize("stop_after", [0, 1, 2, 3])
def test_stopped_halfway_and_asked_again(service: Service, stop_after: int) -> None:
    """After each transaction everything is in order, and a second time takes the rest."""
    rewound(service)
    whole = prune(service, EVERYTHING, dry=True)
    calls = 0

    def until_it_fails(work: Callable[[Transaction], None]) -> None:
        nonlocal calls
        if calls == stop_after:
            raise InterruptedError("the process ends here")
        calls += 1
        service.ingest.record(work)

    pruning = pruner(service, record=until_it_fails).run(RUN, EVERYTHING, dry=False)
    with pytest.raises(InterruptedError):
        list(pruning.steps())
    settle(service.engine())
    assert verify(service, RUN).ok
    rest = prune(service, EVERYTHING)
    assert pruning.outcome.total + rest.total == whole.total
    settle(service.engine())
    assert verify(service, RUN).ok


def test_a_merge_that_is_faster_is_followed(service: Service) -> None:
    """Groups are merged again between being read and being written: they are read anew."""
    rewound(service)
    compacted = 0

    def after_a_merge(work: Callable[[Transaction], None]) -> None:
        nonlocal compacted
        with service.store.snapshot() as view:
            groups = view.groups(state_of(service).id, 1, 1)[-2:]
            blocks = [block for group in groups for block in view.group_blocks(group)]
        if len(groups) > 1:
            again = service.store.prepare_merge(state_of(service).id, blocks, groups)
            service.ingest.record(methodcaller("merge", again))
            compacted += 1
        service.ingest.record(work)

    pruning = pruner(service, record=after_a_merge).run(RUN, Policy(superseded=True), dry=False)
    list(pruning.steps())
    assert compacted
    assert pruning.outcome.superseded == 2_000
    settle(service.engine())
    assert verify(service, RUN).ok


def test_only_runs_that_are_old(service: Service) -> None:
    rewound(service)
    updated_at = state_of(service).meta.updated_at
    young = prune(service, Policy(updated_at - 1, superseded=True, thin=100, whole=True))
    assert young.skipped is not None
    assert young.total == 0
    assert prune(service, Policy(updated_at + 1, superseded=True)).superseded == 2_000


def test_a_whole_run(service: Service) -> None:
    rewound(service)
    prune(service, Policy(superseded=True))
    looked = prune(service, Policy(whole=True), dry=True)
    assert looked == Outcome(run=RUN, deleted=True, scalars=5_000)
    assert state_of(service).name == RUN
    assert prune(service, Policy(whole=True)) == looked
    with service.store.snapshot() as view:
        assert view.load(RUN) is None
        assert view.is_deleted(RUN)
    with pytest.raises(RunNotFoundError):
        prune(service, Policy(whole=True))


def test_a_run_that_wakes_up_is_not_deleted(service: Service) -> None:
    rewound(service)

    def late(command: Delete) -> object:
        service.report(RUN, [5_000], {"loss": [0.5]})
        return service.ingest.submit_blocking(command)

    pruning = pruner(service, delete=late).run(RUN, Policy(whole=True), dry=False)
    assert list(pruning.steps()) == []
    assert (pruning.outcome.deleted, pruning.outcome.skipped) == (False, "run 'a/b' has changed meanwhile")
    assert state_of(service).name == RUN


def pictured(service: Service, steps: int = 300, back_to: int = 200, counter: str | None = None) -> None:
    """An image a step, and one of three texts; the end of them superseded by a second attempt. Exported and merged."""
    for first in range(0, steps, 50):
        events = (event(s, image_value("image", s), text_value("text", str(s % 3))) for s in range(first, first + 50))
        service.batch(RUN, columns=columns_of(*events, counter=counter))
    counters = (counter,) if counter else ("tag:image", "tag:text")
    service.batch(RUN, rewind=Rewind(next_steps=dict.fromkeys(counters, back_to)))
    again = (event(s, image_value("image", 10_000 + s), text_value("text", "0")) for s in range(back_to, back_to + 10))
    service.batch(RUN, columns=columns_of(*again, counter=counter))
    exported_and_merged(service)


def blob_keys(service: Service) -> set[float]:
    with service.store.snapshot() as view:
        return set(view.blob_size_page(state_of(service).id, after=None, limit=10_000))


def stored_keys(service: Service) -> set[float]:
    return {key for points in stored(service).values() for key in points.values()}


def test_images_are_never_thinned(service: Service) -> None:
    pictured(service)
    before, blobs = stored(service), blob_keys(service)
    assert prune(service, Policy(thin=100)) == Outcome(run=RUN)
    assert (stored(service), blob_keys(service)) == (before, blobs)
    assert verify(service, RUN).ok


@pytest.mark.parametrize("counter", [None, "global_step"])
def test_blobs_go_with_the_last_point_that_has_them(
    service: Service, counter: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallyboard_server.retention.blobs._KEYS_AT_ONCE", 40)
    monkeypatch.setattr("tallyboard_server.retention.blobs._DROP_AT_ONCE", 7)
    pictured(service, counter=counter)
    service.report("other/run", [1], {"loss": [0.5]})
    assert len(blob_keys(service)) == 300 + 10 + 3
    outcome = prune(service, EVERYTHING)
    assert (outcome.superseded, outcome.thinned, outcome.blobs) == (200, 0, 100)
    assert outcome.blob_bytes > 100 * 64
    assert blob_keys(service) == stored_keys(service)
    assert len(blob_keys(service)) == 200 + 10 + 3
    settle(service.engine())
    report = verify(service, RUN)
    assert report.ok, report.differences
    assert prune(service, EVERYTHING) == Outcome(run=RUN)
    # What went may come back.
    service.batch(RUN, columns=columns_of(event(250, image_value("image", 250)), counter=counter))
    settle(service.engine())
    assert blob_keys(service) == stored_keys(service)
    assert verify(service, RUN).ok


def test_a_blob_that_a_new_report_uses_stays(service: Service) -> None:
    """Between the look at what is used and the removal, a report comes with a blob that nothing used by then."""
    pictured(service)
    calls = 0

    def after_a_report(work: Callable[[Transaction], None]) -> None:
        nonlocal calls
        calls += 1
        if not stored_keys(service) >= blob_keys(service):
            service.batch(RUN, columns=columns_of(event(250 + calls, image_value("image", 250))))
        service.ingest.record(work)

    pruning = pruner(service, record=after_a_report).run(RUN, Policy(superseded=True), dry=False)
    list(pruning.steps())
    assert (pruning.outcome.superseded, pruning.outcome.blobs) == (200, 0)
    assert stored_keys(service) < blob_keys(service)
    settle(service.engine())
    report = verify(service, RUN)
    assert report.ok, report.differences
    assert prune(service, Policy(superseded=True)).blobs == 99
    assert blob_keys(service) == stored_keys(service)
    assert verify(service, RUN).ok
