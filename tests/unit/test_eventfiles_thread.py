"""The exporter as a thread: drained, stopped, without notifications, and while the store refuses."""

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tallyboard_server.eventfiles import Exporter, ExportSettings
from tallyboard_server.store.protocol import StoreFullError, Transaction
from tests.eventfiles_kit import Service, curves, same

RUN = "digits/try1"
EAGER = ExportSettings(interval_s=0.01, sync_interval_s=0.01, generation_interval_s=0.01, sweep_interval_s=0.05)
LAZY = ExportSettings(interval_s=3600, sync_interval_s=3600, generation_interval_s=3600, sweep_interval_s=3600)
TIMEOUT_S = 30.0


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with Service(tmp_path) as running:
        yield running


class Recorder:
    """Records through the service's writer, unless told to refuse."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.refuses = threading.Event()
        self.refused = threading.Event()

    def __call__(self, work: Callable[[Transaction], None]) -> None:
        if self.refuses.is_set():
            self.refused.set()
            raise StoreFullError("no space left")
        self._service.ingest.record(work)


@pytest.fixture
def recorder(service: Service) -> Recorder:
    return Recorder(service)


@pytest.fixture
def start(service: Service, recorder: Recorder) -> Iterator[Callable[[ExportSettings], Exporter]]:
    running: list[Exporter] = []

    def started(settings: ExportSettings) -> Exporter:
        exporter = Exporter(service.store, service.logdir, recorder, settings=settings)
        exporter.start()
        running.append(exporter)
        return exporter

    yield started
    for exporter in running:
        exporter.stop(TIMEOUT_S)
        assert not exporter.is_alive()


Start = Callable[[ExportSettings], Exporter]


def assert_exported(service: Service) -> None:
    assert same(curves(service.live_file(RUN)), service.shown(RUN))
    (generation,) = [g for g in service.generations(RUN) if g.state == "live"]
    with service.store.snapshot() as view:
        state = view.load(RUN)
    assert state is not None
    assert generation.exported_pos == state.pos


def test_drain_waits_for_no_interval(service: Service, start: Start) -> None:
    exporter = start(LAZY)
    for step in range(5):
        service.report(RUN, [step], {"loss": [step]})
        exporter.notify([1])
        assert exporter.drain(TIMEOUT_S)
        assert_exported(service)
    service.rewind(RUN, global_step=2)
    assert exporter.drain(TIMEOUT_S)
    assert_exported(service)
    assert exporter.backlog_bytes() == 0
    assert exporter.stats()["export_generations_total"] == 2


def test_drain_also_finds_what_nobody_told_of(service: Service, start: Start) -> None:
    exporter = start(LAZY)
    service.report(RUN, [1], {"loss": [1]})
    assert exporter.drain(TIMEOUT_S)
    assert_exported(service)


def test_drain_says_when_it_did_not_get_there(service: Service, start: Start) -> None:
    (service.logdir / "digits").write_text("a file where a directory should be")
    exporter = start(LAZY)
    service.report(RUN, [1], {"loss": [1]})
    assert not exporter.drain(0.2)
    assert exporter.is_alive()
    (service.logdir / "digits").unlink()
    assert exporter.drain(TIMEOUT_S)
    assert_exported(service)


def test_drain_takes_a_running_exporter(service: Service) -> None:
    with pytest.raises(RuntimeError, match="does not run"):
        Exporter(service.store, service.logdir, service.ingest.record).drain(1.0)


def test_stopping_syncs_and_records(service: Service, start: Start) -> None:
    exporter = start(LAZY)
    service.report(RUN, [1], {"loss": [1]})
    assert exporter.drain(TIMEOUT_S)
    service.report(RUN, [2], {"loss": [2]})
    exporter.notify([1])
    exporter.stop(TIMEOUT_S)
    assert_exported(service)


def test_a_sweep_finds_what_nobody_told_of(service: Service, start: Start) -> None:
    exporter = start(EAGER)
    service.report(RUN, [1], {"loss": [1]})
    done = threading.Event()
    for _ in range(int(TIMEOUT_S / 0.05)):
        if exporter.exported_pos(1) == 1:
            break
        done.wait(0.05)
    assert_exported(service)


def test_a_full_disk_is_said_once_and_got_over(
    service: Service, start: Start, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    recorder.refuses.set()
    with caplog.at_level(logging.INFO, "tallyboard_server.eventfiles"):
        exporter = start(EAGER)
        service.report(RUN, [1], {"loss": [1]})
        for _ in range(3):
            recorder.refused.clear()
            exporter.notify([1])
            assert recorder.refused.wait(TIMEOUT_S)
        assert exporter.is_alive()
        assert exporter.stats()["export_failures_in_a_row"] > 0
        recorder.refuses.clear()
        assert exporter.drain(TIMEOUT_S)
    assert caplog.text.count("event files wait: StoreFullError: no space left") == 1
    assert "event files go on" in caplog.text
    assert exporter.stats()["export_failures_in_a_row"] == 0
    assert_exported(service)
