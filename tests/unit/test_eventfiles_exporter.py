"""The exporter turn by turn: tails, generations, damage, deletion, trouble; real store and files, a fake clock."""

import errno
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tallyboard.wire import Open
from tallyboard_server.eventfiles.encoder import Encoder
from tallyboard_server.eventfiles.files.disk import Disk
from tallyboard_server.eventfiles.layout import LogDirectory, UnsafePathError
from tallyboard_server.eventfiles.ordering import encode_blocks
from tallyboard_server.eventfiles.reader import read_event_file
from tallyboard_server.eventfiles.tagnames import TagNames
from tallyboard_server.eventfiles.tools import ExportSettings
from tallyboard_server.store.protocol import StoreFullError
from tests.eventfiles_kit import Service, columns, curves, same, settle, until

RUN = "digits/try1"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with Service(tmp_path) as running:
        yield running


def assert_exported(service: Service, run: str = RUN) -> None:
    found, expected = curves(service.live_file(run)), service.shown(run)
    assert same(found, expected), (found, expected)


class TestTails:
    def test_reports_reach_a_file_and_then_its_tail(self, service: Service) -> None:
        engine = service.engine()
        service.report(RUN, [0, 1, 1], {"loss": [1.0, 0.5, 0.5], "acc": [0.1, 0.2, 0.2]})
        settle(engine)
        (path,) = service.event_files(RUN)
        assert path.name == "events.out.tfevents.1750000000.host.1.1"
        assert_exported(service)
        before = path.read_bytes()
        service.report(RUN, [5], {"loss": [0.25]})
        service.report(RUN, [2, 3], {"val": [7.0, 8.0]}, counter="epoch")
        settle(engine)
        assert service.event_files(RUN) == [path]
        assert path.read_bytes().startswith(before)
        assert_exported(service)
        (generation,) = service.generations(RUN)
        assert (generation.state, generation.exported_pos, generation.length) == ("live", 3, path.stat().st_size)

    def test_a_run_grows_once_an_interval_and_is_synced_now_and_then(self, service: Service) -> None:
        engine = service.engine()
        service.report(RUN, [0], {"loss": [1.0]})
        settle(engine)
        (path,) = service.event_files(RUN)
        sizes = []
        for step in range(1, 4):
            service.report(RUN, [step], {"loss": [1.0]})
            engine.notify([1])
            engine.turn()
            sizes.append(path.stat().st_size)
        assert sizes[0] == sizes[1] == sizes[2]
        service.pass_time(service.settings.interval_s)
        engine.turn()
        assert path.stat().st_size > sizes[0]
        assert service.generations(RUN)[0].exported_pos == 1  # written, but not synced yet
        service.pass_time(service.settings.sync_interval_s)
        engine.turn()
        assert service.generations(RUN)[0].exported_pos == 4
        assert engine.exported_pos(1) == 4

    def test_overlapping_blocks_of_a_batch_keep_each_tag_in_order(self, service: Service) -> None:
        engine = service.engine()
        service.report(RUN, [0], {"loss": [1.0]})
        settle(engine)
        service.batch(
            RUN,
            columns=(
                columns([1, 3, 5], {"loss": [1, 3, 5]}, block=0),
                columns([2, 4], {"loss": [2, 4], "acc": [0, 0]}, block=1),
            ),
        )
        settle(engine)
        assert curves(service.live_file(RUN))["loss"] == [(s, float(s) if s else 1.0) for s in range(6)]

    def test_bytes_after_the_opening_are_the_journals_alone(self, service: Service) -> None:
        engine = service.engine()
        service.report(RUN, [0], {"loss": [1.0]})
        settle(engine)
        opening = service.generations(RUN)[0].length
        for i in range(1, 30):
            service.batch(
                RUN,
                columns=(
                    columns([10 * i, 10 * i + 5], {"loss": [i, i]}, block=0),
                    columns([10 * i + 2, 10 * i + 7], {"acc": [i, i]}, block=1),
                ),
            )
            if i % 7 == 0:
                settle(engine)
        settle(engine)
        with service.store.snapshot() as view:
            state = view.load(RUN)
            assert state is not None
            blocks = view.journal(1, after_pos=1, bytes_max=2**30)
            names = TagNames({tag.id: tag.name for tag in state.tags.values()})
        expected = encode_blocks(Encoder(), blocks, names, {(1, 1): None})
        assert service.event_files(RUN)[0].read_bytes()[opening:] == expected

    def test_an_empty_run_has_no_file(self, service: Service) -> None:
        engine = service.engine()
        service.batch(RUN, open=Open(config={"lr": 0.1}))
        settle(engine)
        assert not (service.logdir / "digits").exists()

    def test_many_runs_need_few_descriptors(self, service: Service) -> None:
        service.settings = ExportSettings(open_files_max=5)
        engine = service.engine()
        for round_ in range(2):
            for i in range(20):
                service.report(f"many/run{i}", [round_], {"loss": [i]})
            settle(engine)
            assert engine.stats()["export_open_files"] <= 5
        for i in range(20):
            assert_exported(service, f"many/run{i}")

    def test_lag_is_seen_at_once_and_gone_after(self, service: Service) -> None:
        engine = service.engine()
        service.report(RUN, [0], {"loss": [1.0]})
        assert engine.backlog_bytes() == 0
        engine.notify([1, 1])
        assert engine.stats()["export_lag_blocks"] == 2
        assert engine.backlog_bytes() > 0
        settle(engine)
        assert (engine.backlog_bytes(), engine.stats()["export_lag_blocks"]) == (0, 0)


class TestGenerations:
    def test_a_rewind_that_hides_points_begins_a_new_file(self, service: Service) -> None:
        engine = service.engine()
        service.report(RUN, [0, 1, 2, 3], {"loss": [0, 1, 2, 3], "acc": [0, 1, 2, 3]}, producer="a")
        settle(engine)
        service.rewind(RUN, "b", global_step=2)
        service.report(RUN, [2], {"loss": [20]}, producer="b")
        settle(engine)
        old, new = service.event_files(RUN)
        assert old.name < new.name
        assert curves(service.live_file(RUN)) == {
            "loss": [(0, 0.0), (1, 1.0), (2, 20.0)],
            "acc": [(0, 0.0), (1, 1.0)],
        }
        assert [g.state for g in service.generations(RUN)] == ["retired", "live"]

    def test_the_old_file_goes_after_its_grace_period(self, service: Service) -> None:
        engine = service.engine()
        service.report(RUN, [0, 1], {"loss": [0, 1]})
        settle(engine)
        service.rewind(RUN, global_step=1)
        settle(engine)
        assert len(service.event_files(RUN)) == 2
        service.pass_time(29)
        engine.turn()
        assert len(service.event_files(RUN)) == 2
        service.pass_time(1.5)
        engine.turn()
        assert len(service.event_files(RUN)) == 1
        assert [g.state for g in service.generations(RUN)] == ["live"]

    def test_also_after_a_restart(self, service: Service) -> None:
        engine = service.engine()
        service.report(RUN, [0, 1], {"loss": [0, 1]})
        settle(engine)
        service.rewind(RUN, global_step=1)
        settle(engine)
        engine.close()
        service.pass_time(20)
        engine = service.engine()
        settle(engine)
        assert len(service.event_files(RUN)) == 2
        service.pass_time(10.5)
        engine.turn()
        assert len(service.event_files(RUN)) == 1

    def test_a_rewind_that_hides_nothing_goes_on_in_the_same_file(self, service: Service) -> None:
        engine = service.engine()
        service.report(RUN, [0, 1], {"loss": [0, 1]}, producer="a")
        settle(engine)
        service.rewind(RUN, "b", global_step=5)
        service.report(RUN, [7], {"loss": [7]}, producer="b")
        service.report(RUN, [6, 8], {"loss": [6, 8]}, producer="a")  # hidden: the counter stands at 5 for others
        settle(engine)
        assert len(service.event_files(RUN)) == 1
        assert curves(service.live_file(RUN)) == {"loss": [(0, 0.0), (1, 1.0), (7, 7.0)]}

    def test_late_visible_reports_of_an_older_attempt_get_a_new_file(self, service: Service) -> None:
        engine = service.engine()
        service.report(RUN, [0, 1], {"loss": [0, 1]}, producer="a")
        service.rewind(RUN, "b", global_step=5)
        service.report(RUN, [5], {"loss": [5]}, producer="b")
        settle(engine)
        service.report(RUN, [3, 9], {"loss": [3, 9]}, producer="a")
        settle(engine)
        assert len(service.event_files(RUN)) == 2
        assert curves(service.live_file(RUN)) == {"loss": [(0, 0.0), (1, 1.0), (3, 3.0), (5, 5.0)]}

    def test_generations_are_throttled_and_coalesced(self, service: Service) -> None:
        engine = service.engine()
        service.report(RUN, [0, 1, 2], {"loss": [0, 1, 2]})
        settle(engine)
        for step in (2, 1):
            service.rewind(RUN, global_step=step)
            engine.notify([1])
            engine.turn()
        assert len(service.event_files(RUN)) == 1
        service.pass_time(service.settings.generation_interval_s)
        until(lambda: len(service.generations(RUN)) == 2, engine)
        assert curves(service.live_file(RUN)) == {"loss": [(0, 0.0)]}

    def test_a_run_rewound_to_nothing_keeps_a_file_without_points(self, service: Service) -> None:
        engine = service.engine()
        service.report(RUN, [3], {"loss": [3]})
        settle(engine)
        service.rewind(RUN, global_step=0)
        settle(engine)
        assert service.live_file(RUN).points == []
        service.report(RUN, [0], {"loss": [9]})
        settle(engine)
        assert curves(service.live_file(RUN)) == {"loss": [(0, 9.0)]}

    @pytest.mark.parametrize("harm", ["remove", "cut", "link", "directory", "header", "logdir"])
    def test_a_damaged_file_is_written_anew(self, service: Service, harm: str, tmp_path: Path) -> None:
        engine = service.engine()
        service.report(RUN, [0, 1], {"loss": [0, 1]})
        settle(engine)
        (path,) = service.event_files(RUN)
        data = path.read_bytes()
        path.unlink()
        if harm == "cut":
            path.write_bytes(data[:-1])
        elif harm == "link":
            (tmp_path / "elsewhere").write_bytes(data)
            path.symlink_to(tmp_path / "elsewhere")
        elif harm == "directory":
            path.mkdir()
        elif harm == "logdir":
            shutil.rmtree(service.logdir)
        elif harm == "header":
            path.write_bytes(b"x" + data[1:])
        service.report(RUN, [2], {"loss": [2]})
        settle(engine)
        assert_exported(service)
        assert [g.state for g in service.generations(RUN)] == ["retired", "live"]
        service.pass_time(31)
        settle(engine)
        assert [g.state for g in service.generations(RUN)] == ["live"]
        if harm == "link":
            assert (tmp_path / "elsewhere").read_bytes() == data

    def test_a_file_moved_away_while_nothing_happens_is_found_by_a_sweep(self, service: Service) -> None:
        engine = service.engine()
        service.report(RUN, [0, 1], {"loss": [0, 1]})
        settle(engine)
        (path,) = service.event_files(RUN)
        path.rename(service.directory / "moved")
        service.pass_time(service.settings.sweep_interval_s)
        until(lambda: len(service.generations(RUN)) == 2, engine)
        assert_exported(service)

    def test_another_encoder_writes_a_new_file(self, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        engine = service.engine()
        service.report(RUN, [0, 1], {"loss": [0, 1]})
        settle(engine)
        engine.close()
        monkeypatch.setattr("tallyboard_server.eventfiles.runfiles.ENCODER_VERSION", 2)
        settle(service.engine())
        assert [g.encoder for g in service.generations(RUN)] == [1, 2]
        assert_exported(service)

    def test_names_sort_in_order_even_if_the_clock_goes_back(self, service: Service) -> None:
        engine = service.engine()
        service.report(RUN, [0, 1], {"loss": [0, 1]})
        settle(engine)
        service.wall.now -= 1e6
        service.rewind(RUN, global_step=1)
        settle(engine)
        first, second = service.event_files(RUN)
        assert second.name == "events.out.tfevents.1750000001.host.1.2"
        assert first.name < second.name

    def test_foreign_event_files_are_reported_and_left_alone(
        self, service: Service, caplog: pytest.LogCaptureFixture
    ) -> None:
        engine = service.engine()
        foreign = service.logdir / RUN / "events.out.tfevents.1750000100.other"
        foreign.parent.mkdir(parents=True)
        foreign.write_bytes(b"theirs")
        service.report(RUN, [0], {"loss": [0]})
        with caplog.at_level(logging.WARNING):
            settle(engine)
        assert "is not one of ours" in caplog.text
        assert engine.stats()["export_foreign_files"] == 1
        assert foreign.read_bytes() == b"theirs"
        assert service.event_files(RUN)[-1].name > foreign.name

    def test_large_openings_are_read_in_slices(self, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tallyboard_server.eventfiles.opening.SLICE_BYTES", 300)
        engine = service.engine()
        for i in range(20):
            service.batch(
                RUN,
                "a",
                columns=(
                    columns(range(20 * i, 20 * i + 20, 2), {"loss": range(10)}, block=0),
                    columns(range(20 * i + 1, 20 * i + 20, 3), {"loss": range(7), "acc": range(7)}, block=1),
                ),
            )
        service.rewind(RUN, "b", global_step=333)
        service.report(RUN, range(340, 350), {"loss": range(10)}, producer="b")
        engine.notify([1])
        engine.turn()
        service.report(RUN, range(350, 360), {"loss": range(10)}, producer="b")  # after the opening's position
        service.report(RUN, [400], {"loss": [1.0]}, producer="a")
        settle(engine)
        assert_exported(service)
        assert len(service.event_files(RUN)) == 1


class TestDeletion:
    def test_a_deleted_runs_files_and_empty_directories_go(self, service: Service) -> None:
        engine = service.engine()
        service.report("p/q/r", [0], {"loss": [0]})
        service.report("p/other", [0], {"loss": [0]})
        settle(engine)
        service.delete("p/q/r")
        engine.notify([1])
        settle(engine)
        assert not (service.logdir / "p/q").exists()
        assert len(service.event_files("p/other")) == 1
        with service.store.snapshot() as view:
            assert view.deleted_run_ids() == []
            assert view.generations(1) == []

    def test_what_is_not_ours_stays(self, service: Service) -> None:
        engine = service.engine()
        service.report(RUN, [0], {"loss": [0]})
        settle(engine)
        note = service.logdir / RUN / "notes.txt"
        note.write_text("mine")
        service.delete(RUN)
        settle(engine)
        assert [p.name for p in (service.logdir / RUN).iterdir()] == ["notes.txt"]

    def test_deleted_while_the_service_was_down(self, service: Service) -> None:
        engine = service.engine()
        service.report(RUN, [0], {"loss": [0]})
        settle(engine)
        engine.close()
        service.delete(RUN)
        settle(service.engine())
        assert not (service.logdir / "digits").exists()

    def test_a_run_of_the_same_name_leaves_the_old_file_its_grace(self, service: Service) -> None:
        engine = service.engine()
        service.report(RUN, [0, 1], {"loss": [0, 1]})
        settle(engine)
        service.delete(RUN)
        service.batch(RUN, columns=(columns([5], {"loss": [5]}),), open=Open(), explicit=True)
        settle(engine)
        assert len(service.event_files(RUN)) == 2
        assert curves(service.live_file(RUN)) == {"loss": [(5, 5.0)]}
        service.pass_time(31)
        settle(engine)
        assert len(service.event_files(RUN)) == 1
        assert curves(service.live_file(RUN)) == {"loss": [(5, 5.0)]}


class TestPaths:
    @pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../b", "a//b", ".hidden", "a/tfevents", ""])
    def test_names_that_lead_elsewhere_are_refused(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(UnsafePathError):
            LogDirectory(tmp_path).of_run(name)

    def test_a_link_out_of_the_logdir_is_not_followed(self, service: Service, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (service.logdir / "digits").symlink_to(outside)
        engine = service.engine()
        service.report(RUN, [0], {"loss": [0]})
        service.report("fine/run", [0], {"loss": [0]})
        engine.notify([1, 2])
        until(lambda: bool(service.event_files("fine/run")), engine)
        assert list(outside.iterdir()) == []
        assert engine.stats()["export_runs_in_trouble"] == 1


class FullDisk(Disk):
    """Has no room for one run."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.full = True
        self.run_fds: set[int] = set()

    def create(self, path: Path) -> int:
        fd = super().create(path)
        (self.run_fds.add if path.parent == self.run else self.run_fds.discard)(fd)
        return fd

    def open(self, path: Path) -> int:
        fd = super().open(path)
        (self.run_fds.add if path.parent == self.run else self.run_fds.discard)(fd)
        return fd

    def write(self, fd: int, data: bytes, offset: int) -> None:
        if self.full and fd in self.run_fds:
            super().write(fd, data[: len(data) // 2], offset)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().write(fd, data, offset)


class TestTrouble:
    def test_one_runs_trouble_leaves_the_others_alone(self, service: Service, caplog: pytest.LogCaptureFixture) -> None:
        disk = FullDisk(service.logdir / RUN)
        engine = service.engine(disk=disk)
        service.report(RUN, [0], {"loss": [0]})
        service.report("fine/run", [0], {"loss": [0]})
        engine.notify([1, 2])
        with caplog.at_level(logging.WARNING):
            for _ in range(50):
                service.pass_time(1.0)
                engine.turn()
        assert caplog.text.count("No space left") == 1
        assert_exported(service, "fine/run")
        assert service.event_files(RUN) == []
        assert engine.stats()["export_errors_total"] > 3
        disk.full = False
        service.pass_time(60)
        settle(engine)
        assert_exported(service)
        assert engine.stats()["export_runs_in_trouble"] == 0
        assert [p.name for p in (service.logdir / RUN).iterdir() if p.suffix == ".part"] == []
        assert len(service.generations(RUN)) == 1

    def test_a_tail_that_did_not_fit_is_written_again(self, service: Service) -> None:
        disk = FullDisk(service.logdir / RUN)
        disk.full = False
        engine = service.engine(disk=disk)
        service.report(RUN, [0], {"loss": [0]})
        settle(engine)
        disk.full = True
        service.report(RUN, [1], {"loss": [1]})
        engine.notify([1])
        service.pass_time(2)
        engine.turn()
        assert engine.stats()["export_runs_in_trouble"] == 1
        assert engine.backlog_bytes() == 0  # or this run would stop the intake of all
        disk.full = False
        settle(engine)
        assert_exported(service)
        assert len(service.generations(RUN)) == 1

    def test_a_failed_sync_is_answered_with_a_new_file(self, service: Service) -> None:
        class FailingSync(Disk):
            fails = 0

            def sync(self, fd: int) -> None:
                if self.fails:
                    self.fails -= 1
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                super().sync(fd)

        disk = FailingSync()
        engine = service.engine(disk=disk)
        service.report(RUN, [0], {"loss": [0]})
        settle(engine)
        disk.fails = 1
        service.report(RUN, [1], {"loss": [1]})
        settle(engine)
        assert_exported(service)
        assert [g.state for g in service.generations(RUN)] == ["retired", "live"]

    def test_nothing_is_lost_while_the_store_refuses_records(self, service: Service) -> None:
        refuse = [True]

        def record(work: Callable[..., None]) -> None:
            if refuse[0]:
                raise StoreFullError("no space")
            service.ingest.record(work)

        engine = service.engine(record=record)
        service.report(RUN, [0], {"loss": [0]})
        engine.notify([1])
        for _ in range(3):
            with pytest.raises(StoreFullError):
                engine.turn(force=True)
        assert service.event_files(RUN) == []
        refuse[0] = False
        settle(engine)
        assert_exported(service)
        assert len(service.generations(RUN)) == 1
        assert read_event_file(service.event_files(RUN)[0]).records == 3
