"""Conformance: for any accepted history, both of TensorBoard's readers show exactly the store's visible points."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tallyboard_server.eventfiles import Exporter, ExportSettings
from tallyboard_server.ingest import Merger
from tests.eventfiles_kit import Service, columns, settle
from tests.histories import Action, sample
from tests.stores import Stores, on
from tests.tensorboard_process import READERS, Curves, Reader, TensorBoardProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

FRESH_HISTORIES = {"sqlite": 120, "postgres": 24}
LIVE_HISTORIES = 24
LIVE_ROUNDS = 3
GRACE_S = 6.0
"""Longer than a reader that polls each second takes to leave a replaced file."""


def shown(service: Service, runs: list[str]) -> Curves:
    """What the store shows, without runs and tags that have no point."""
    found: Curves = {}
    for run in runs:
        with service.store.snapshot() as view:
            if view.load(run) is None:
                continue
        if curves := service.shown(run):
            found[run] = curves
    return found


@pytest.fixture(scope="module")
def exported(stores: Stores, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Curves]]:
    """Many histories as runs of one logdir, exported as they went, with restarts, merges and replaced files."""
    with Service(tmp_path_factory.mktemp("fresh"), stores=stores) as service:
        histories = sample(FRESH_HISTORIES[stores.engine])
        engine = service.engine()
        merger = Merger(service.store, service.ingest.record, min_blocks=2)
        for position in range(max(map(len, histories))):
            for number, history in enumerate(histories):
                if position < len(history):
                    history[position](service, f"p{number % 7}/h{number:03}")
            if position % 3 == 0:
                settle(engine)
            if position % 5 == 4:
                engine.close()
                for run_id in range(1, len(histories) + 1):
                    merger.merge_run(run_id)
                engine = service.engine()
            service.pass_time(3)
        settle(engine)
        yield service, shown(service, [f"p{n % 7}/h{n:03}" for n in range(len(histories))])
        engine.close()


@on("sqlite", "postgres")
@pytest.mark.parametrize("reader", READERS)
def test_a_fresh_reader_shows_what_the_store_shows(exported: tuple[Service, Curves], reader: Reader) -> None:
    service, expected = exported
    histories = FRESH_HISTORIES[service.stores.engine]
    assert len(expected) > histories // 2
    replaced = sum(len(service.event_files(run)) > 1 for run in expected)
    assert replaced > histories // 8  # some files wait for the end of their grace period
    with TensorBoardProcess(service.logdir, reader) as board:
        board.wait_for(lambda: expected)


class TestLive:
    """TensorBoard runs all the while."""

    @pytest.mark.parametrize("reader", READERS)
    def test_running_readers_follow_any_history(self, tmp_path: Path, reader: Reader) -> None:
        histories = sample(LIVE_HISTORIES)
        runs = [f"live/h{number:02}" for number in range(len(histories))]
        with (
            Service(tmp_path) as service,
            exporting(service) as exporter,
            TensorBoardProcess(service.logdir, reader) as board,
        ):
            for round_ in range(LIVE_ROUNDS):
                for run, history in zip(runs, histories, strict=True):
                    for action in part(history, round_):
                        action(service, run)
                assert exporter.drain(20)
                expected = shown(service, runs)
                board.wait_for(lambda expected=expected: expected)  # type: ignore[misc]
            for run in runs:  # once more after the replaced files are gone
                service.batch(run, columns=(columns([2**40], {"end": [1.0]}, counter="last"),))
            wait_for_removal(service, runs)
            assert exporter.drain(20)
            board.wait_for(lambda: shown(service, runs))

    @pytest.mark.parametrize(
        ("stores", "reader"), [("sqlite", "rust"), ("sqlite", "python"), ("postgres", "rust")], indirect=["stores"]
    )
    def test_what_a_rewind_hides_leaves_running_readers(self, stores: Stores, tmp_path: Path, reader: Reader) -> None:
        """Even of tags that have no point left, or none yet at the steps where they had some."""
        run = "digits/try1"
        with (
            Service(tmp_path, stores=stores) as service,
            exporting(service) as exporter,
            TensorBoardProcess(service.logdir, reader) as board,
        ):

            def agree() -> None:
                assert exporter.drain(20)
                board.wait_for(lambda: shown(service, [run]))

            service.report(run, range(10), {"loss": range(10), "acc": range(10)}, producer="a")
            service.report(run, [2, 8], {"eval": [2, 8]}, counter="epoch", producer="a")
            agree()
            service.report(run, [9], {"other": [1.0]}, counter="mine", producer="b")
            service.rewind(run, "b", global_step=6, epoch=0)
            agree()  # `eval` has no point any more
            service.report(run, [6, 7], {"loss": [60, 70]}, producer="b")
            service.report(run, [5], {"eval": [50]}, counter="epoch", producer="b")  # above the hidden step 2
            agree()
            service.report(run, [10, 11], {"loss": [0, 0]}, producer="a")  # late: beyond the cut
            service.rewind(run, "c", global_step=20)
            service.report(run, [8, 9], {"loss": [80, 90]}, producer="b")  # late: fills the curve
            service.report(run, [20], {"loss": [200]}, producer="c")
            agree()
            wait_for_removal(service, [run])
            service.report(run, [21], {"loss": [210], "acc": [1]}, producer="c")
            agree()

    @pytest.mark.parametrize("reader", READERS)
    def test_deleted_runs_vanish_and_may_come_back(self, tmp_path: Path, reader: Reader) -> None:
        with (
            Service(tmp_path) as service,
            exporting(service) as exporter,
            TensorBoardProcess(service.logdir, reader) as board,
        ):
            service.report("p/stays", [1], {"loss": [1]})
            service.report("p/goes", [1, 2], {"loss": [1, 2]})
            assert exporter.drain(20)
            board.wait_for(lambda: shown(service, ["p/stays", "p/goes"]))
            service.delete("p/goes")
            assert exporter.drain(20)
            assert not (service.logdir / "p/goes").exists()
            board.wait_for(lambda: shown(service, ["p/stays"]))
            service.batch("p/goes", columns=(columns([1], {"loss": [9]}),), explicit=True)
            assert exporter.drain(20)
            board.wait_for(lambda: shown(service, ["p/stays", "p/goes"]))


class exporting:  # noqa: N801 - reads as `with exporting(service)`
    """A real exporter with its thread and short intervals."""

    def __init__(self, service: Service) -> None:
        settings = ExportSettings(
            interval_s=0.1, sync_interval_s=0.3, generation_interval_s=0.2, grace_s=GRACE_S, sweep_interval_s=1.0
        )
        self.exporter = Exporter(service.store, service.logdir, service.ingest.record, settings=settings)
        service.ingest.on_commit(lambda done: self.exporter.notify([item.state.id for item in done]))

    def __enter__(self) -> Exporter:
        self.exporter.start()
        return self.exporter

    def __exit__(self, *_: object) -> None:
        self.exporter.stop()
        assert not self.exporter.is_alive()


def part(history: list[Action], round_: int) -> list[Action]:
    size = -(-len(history) // LIVE_ROUNDS)
    return history[round_ * size : (round_ + 1) * size]


def wait_for_removal(service: Service, runs: list[str]) -> None:
    """Return when each run is left with one event file."""
    until = time.monotonic() + GRACE_S + 20
    while any(len(service.event_files(run)) > 1 for run in runs):
        assert time.monotonic() < until, "replaced files are not removed"
        time.sleep(0.2)
