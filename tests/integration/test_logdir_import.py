"""What an import does with restarts, steps out of order, damage, names and shared counters; and that it repeats."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.proto import event_pb2, summary_pb2

from tallyboard.delivery.transport import HttpTransport
from tallyboard.logdir import runs
from tallyboard.logdir.command import EXIT_INCOMPLETE, EXIT_UNREACHABLE, EXIT_USAGE
from tallyboard.logdir.crc import masked_crc32c
from tallyboard.logdir.files import FoundFile
from tallyboard.logdir.scan import Lengths
from tallyboard.logdir.shipping import RunStoppedError, Service
from tallyboard_server.eventfiles.tfrecord import frame
from tests.cli_process import Cli
from tests.logdir_kit import counts, curve, event, import_from, start, write
from tests.service import RunningService


def imported(
    service: RunningService, run_name: str, logdir: Path, *rules: tuple[str, str]
) -> tuple[str, dict[str, int]]:
    """Import a logdir that is one run; its name, and what was mended."""
    summary = import_from(logdir, service, run_name, *rules)
    return f"{run_name}/{logdir.name}", counts(summary)


class TestSteps:
    """Restarts become rewinds; jitter is put in order; what is left is refused and told."""

    @pytest.fixture
    def check(self, service: RunningService, run_name: str, tmp_path: Path) -> Any:
        def check(*files: Iterable[bytes], steps: list[int], values: list[float] | None = None, **mended: int) -> None:
            for number, records in enumerate(files):
                write(tmp_path / "log", number, records)
            run, found = imported(service, run_name, tmp_path / "log")
            points = service.points(run, "loss")
            assert [step for step, _ in points] == steps
            if values is not None:
                assert [value for _, value in points] == values
            assert found == mended

        return check

    def test_a_second_file_that_goes_on(self, check: Any) -> None:
        check(curve("loss", range(5)), curve("loss", range(5, 9)), steps=list(range(9)))

    def test_a_second_file_that_goes_back_is_a_rewind(self, check: Any) -> None:
        check(
            curve("loss", range(10)), curve("loss", range(4, 7), 0.5),
            steps=list(range(7)), values=[0, 1, 2, 3, 4.5, 5.5, 6.5], restarted=1,
        )  # fmt: skip

    def test_a_restart_at_the_very_last_step(self, check: Any) -> None:
        check(curve("loss", range(3)), curve("loss", [2], 0.5), steps=[0, 1, 2], values=[0, 1, 2.5], restarted=1)

    def test_a_session_start_takes_back(self, check: Any) -> None:
        records = [*curve("loss", range(10)), start(6), *curve("loss", [8, 9], 0.5)]
        check(records, steps=[0, 1, 2, 3, 4, 5, 8, 9], values=[0, 1, 2, 3, 4, 5, 8.5, 9.5], restarted=1)

    def test_a_session_start_that_nothing_follows(self, check: Any) -> None:
        check([*curve("loss", range(10)), start(6)], steps=[0, 1, 2, 3, 4, 5], restarted=1)

    def test_a_session_start_at_zero_takes_everything_back(self, check: Any) -> None:
        check([start(0), *curve("loss", range(4)), start(0), *curve("loss", [2])], steps=[2], restarted=1)

    def test_jitter_is_put_in_order(self, check: Any) -> None:
        check(curve("loss", [0, 2, 1, 4, 3, 6, 5, 8, 7, 9]), steps=list(range(10)), reordered=4)

    def test_jitter_across_batches_is_put_in_order(self, check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(runs, "CHUNK_BYTES", 700)
        steps = [i + (1 if i % 2 == 0 else -1) for i in range(200)]
        check(curve("loss", steps), steps=list(range(200)), reordered=100)

    def test_a_step_twice_keeps_the_first_value(self, check: Any) -> None:
        records = [event(1, {"loss": 1}), event(2, {"loss": 2}), event(2, {"loss": 2}), event(2, {"loss": 3})]
        check(records, steps=[1, 2], values=[1, 2], repeated=1, refused=1)

    def test_what_comes_far_too_late_is_refused(self, check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(runs, "CHUNK_BYTES", 500)
        check(curve("loss", [*range(100, 200), 3]), steps=list(range(100, 200)), reordered=1, refused=1)

    def test_other_tags_stay_where_one_goes_back(self, service: RunningService, run_name: str, tmp_path: Path) -> None:
        write(tmp_path / "log", 0, [event(step, {"loss": step, "val": step}) for step in range(6)])
        write(tmp_path / "log", 1, curve("loss", [3, 4]))
        run, found = imported(service, run_name, tmp_path / "log")
        assert [step for step, _ in service.points(run, "loss")] == [0, 1, 2, 3, 4]
        assert [step for step, _ in service.points(run, "val")] == list(range(6))
        assert found == {"restarted": 1}


class TestSharedCounters:
    """--counter PATTERN=NAME."""

    def test_tags_fill_in_the_same_steps(self, service: RunningService, run_name: str, tmp_path: Path) -> None:
        records = [r for step in range(300) for tag in ("a", "b", "val/c") for r in curve(tag, [step])]
        write(tmp_path / "log", 0, records)
        run, found = imported(service, run_name, tmp_path / "log", ("val/*", "epoch"), ("*", "global_step"))
        view = service.get(f"/runs/{run}").json()
        assert {name: (c["last_step"], sorted(c["tags"])) for name, c in view["counters"].items()} == {
            "global_step": (299, ["a", "b"]),
            "epoch": (299, ["val/c"]),
        }
        assert (view["tag_counters"], found) == ({}, {})

    def test_pieces_are_cut_where_no_step_goes_back(
        self, service: RunningService, run_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(runs, "CHUNK_BYTES", 900)
        records = [r for step in range(100) for tag in ("a", "b", "c") for r in curve(tag, [step])]
        write(tmp_path / "log", 0, records)
        run, found = imported(service, run_name, tmp_path / "log", ("*", "global_step"))
        assert all([s for s, _ in service.points(run, tag)] == list(range(100)) for tag in "abc")
        assert found == {}

    def test_a_restart_rewinds_the_counter(self, service: RunningService, run_name: str, tmp_path: Path) -> None:
        write(tmp_path / "log", 0, [event(step, {"a": step, "b": step}) for step in range(10)])
        write(tmp_path / "log", 1, [event(step, {"a": -step, "b": -step}) for step in range(5, 8)])
        run, found = imported(service, run_name, tmp_path / "log", ("*", "global_step"))
        assert [v for _, v in service.points(run, "b")] == [0, 1, 2, 3, 4, -5, -6, -7]
        assert found == {"restarted": 1}


class TestDamage:
    """What can't be read is left out and told; the rest is in."""

    def check(self, service: RunningService, run_name: str, path: Path, steps: list[int], **mended: int) -> None:
        run, found = imported(service, run_name, path.parent)
        assert [step for step, _ in service.points(run, "loss")] == steps
        assert found == mended

    def test_an_unfinished_record(self, service: RunningService, run_name: str, tmp_path: Path) -> None:
        path = write(tmp_path / "log", 0, curve("loss", range(5)))
        path.write_bytes(path.read_bytes()[:-7])
        self.check(service, run_name, path, [0, 1, 2, 3], unfinished=1)

    def test_a_wrong_checksum_of_data_skips_the_record(
        self, service: RunningService, run_name: str, tmp_path: Path
    ) -> None:
        records = curve("loss", range(1, 30))
        records[20] = records[20][:-6] + b"\xff" + records[20][-5:]
        path = write(tmp_path / "log", 0, records)
        self.check(service, run_name, path, [*range(1, 21), *range(22, 30)], checksum=1)

    def test_a_wrong_checksum_of_a_length_ends_the_file(
        self, service: RunningService, run_name: str, tmp_path: Path
    ) -> None:
        records = curve("loss", range(1, 30))
        lost = sum(map(len, records[20:]))
        records[20] = b"\xff" + records[20][1:]
        path = write(tmp_path / "log", 0, records)
        self.check(service, run_name, path, list(range(1, 21)), lost=lost)

    def test_a_length_that_nobody_can_mean(self, service: RunningService, run_name: str, tmp_path: Path) -> None:
        huge = (2**40).to_bytes(8, "little")
        path = write(tmp_path / "log", 0, [*curve("loss", range(3)), huge, masked_crc32c(huge).to_bytes(4, "little")])
        self.check(service, run_name, path, [0, 1, 2], lost=12)

    @pytest.mark.parametrize("wall_time", [float("nan"), float("inf")])
    def test_wall_times_that_are_none(
        self, service: RunningService, run_name: str, tmp_path: Path, wall_time: float
    ) -> None:
        records = curve("loss", range(20))
        records[10] = event(10, {"loss": 10}, wall_time)
        path = write(tmp_path / "log", 0, records)
        self.check(service, run_name, path, [*range(10), *range(11, 20)], left_out=1)

    def test_negative_steps(self, service: RunningService, run_name: str, tmp_path: Path) -> None:
        path = write(tmp_path / "log", 0, curve("loss", [-1, 0, 1]))
        self.check(service, run_name, path, [0, 1], left_out=1)

    def test_no_event_files_at_all(self, tmp_path: Path) -> None:
        (tmp_path / "log").mkdir()
        (tmp_path / "log" / "events.out.tfevents.1.empty").write_bytes(b"")
        (tmp_path / "log" / "noise.tfevents").write_bytes(os.urandom(100))
        summary = import_from(tmp_path / "log", None)
        assert (summary.runs, summary.points_read, counts(summary)) == (1, 0, {"lost": 100})


class TestOtherKinds:
    """Values that are no scalars: too large, lying, or too many for one batch."""

    def record(self, step: int, *values: summary_pb2.Summary.Value) -> bytes:
        whole = event_pb2.Event(wall_time=1.7e9, step=step, summary=summary_pb2.Summary(value=values))
        return frame(whole.SerializeToString())

    def test_values_that_the_service_can_not_take(self, service: RunningService, run_name: str, tmp_path: Path) -> None:
        def tensor(count: int) -> summary_pb2.Summary.Value:
            value = summary_pb2.Summary.Value(tag="weights")
            value.metadata.plugin_data.plugin_name = "histograms"
            value.tensor.dtype = 1
            value.tensor.tensor_shape.dim.add().size = count
            value.tensor.float_val.extend([0.5] * 6)
            return value

        records = [self.record(step, tensor(7 if step in (2, 5) else 6)) for step in range(9)]
        write(tmp_path / "log", 0, [*records, *curve("loss", range(3))])
        run, found = imported(service, run_name, tmp_path / "log")
        assert found == {"left_out": 2}
        shown = [step for step in range(9) if service.get(f"/blobs/{run}?tag=weights&step={step}").status == 200]
        assert shown == [0, 1, 3, 4, 6, 7, 8]
        assert len(service.points(run, "loss")) == 3

    def test_pictures_of_many_sizes(self, service: RunningService, run_name: str, tmp_path: Path) -> None:
        def image(nbytes: int) -> summary_pb2.Summary.Value:
            value = summary_pb2.Summary.Value(tag="picture")
            value.image.encoded_image_string = os.urandom(nbytes)
            return value

        sizes = [10, 5_000_000, 7_000_000, 7_500_000, 9_000_000, 3_000_000, 20]
        write(tmp_path / "log", 0, [self.record(step, image(size)) for step, size in enumerate(sizes)])
        run, found = imported(service, run_name, tmp_path / "log")
        assert found == {"left_out": 1}
        answers = [service.get(f"/blobs/{run}?tag=picture&step={step}") for step in range(len(sizes))]
        assert [answer.status for answer in answers] == [200, 200, 200, 200, 404, 200, 200]
        assert len(answers[3].body) > 7_500_000

    def test_more_tags_in_a_record_than_a_batch_may_have(
        self, service: RunningService, run_name: str, tmp_path: Path
    ) -> None:
        tags = [f"t{i:04}" for i in range(2_500)]
        write(tmp_path / "log", 0, [event(step, dict.fromkeys(tags, step)) for step in range(3)])
        run, found = imported(service, run_name, tmp_path / "log")
        assert found == {}
        counters = service.get(f"/runs/{run}").json()["tag_counters"]
        assert len(counters) == 2_500
        assert service.points(run, "t2499") == [(0, 0), (1, 1), (2, 2)]

    def test_scalars_and_pictures_under_one_tag(self, service: RunningService, run_name: str, tmp_path: Path) -> None:
        value = summary_pb2.Summary.Value(tag="loss")
        value.image.encoded_image_string = b"png"
        write(tmp_path / "log", 0, [*curve("loss", range(3)), self.record(3, value)])
        run, found = imported(service, run_name, tmp_path / "log")
        assert (len(service.points(run, "loss")), found) == (3, {"left_out": 1})


class TestNames:
    """Runs by their paths; what can't be a name is mended and told."""

    def test_runs_are_paths(self, service: RunningService, run_name: str, tmp_path: Path) -> None:
        for below in (".", "a", "a/b c/ü"):
            write(tmp_path / "log" / below, 0, curve("loss", [0]))
        import_from(tmp_path / "log", service, run_name)
        rows = service.get(f"/runs?project={run_name}").json()["runs"]
        assert [row["run"] for row in rows] == [f"{run_name}/{name}" for name in ("a", "a/b c/ü", "log")]

    def test_strange_directories(self, service: RunningService, run_name: str, tmp_path: Path) -> None:
        for below in (b"bad\xff", b".hidden", b"new\nline", b"back\\slash", b"1/2/3/4/5/6/7/8/9/10/11/12"):
            write(tmp_path / "log" / os.fsdecode(below), 0, curve("loss", [0]))
        summary = import_from(tmp_path / "log", service, run_name)
        rows = service.get(f"/runs?project={run_name}").json()["runs"]
        assert (len(rows), counts(summary)) == (5, {"run_renamed": 5})
        assert counts(import_from(tmp_path / "log", service, run_name)) == {"run_renamed": 5}

    def test_strange_tags(self, service: RunningService, run_name: str, tmp_path: Path) -> None:
        tags = ["*", "", "a\nb", "x" * 1000, "good"]
        write(tmp_path / "log", 0, [event(step, dict.fromkeys(tags, step)) for step in range(9)])
        run, found = imported(service, run_name, tmp_path / "log")
        shown = service.get(f"/runs/{run}").json()["tag_counters"]
        assert len(shown) == 5
        assert "good" in shown
        assert found == {"tag_renamed": 4}

    def test_a_run_of_somebody_else_is_left_alone(self, service: RunningService, run_name: str, tmp_path: Path) -> None:
        assert service.report(f"{run_name}/log", {"step": 1, "scalars": {"loss": 0.5}}).status == 200
        write(tmp_path / "log", 0, curve("loss", range(3)))
        run, found = imported(service, run_name, tmp_path / "log")
        assert (service.points(run, "loss"), found) == ([(1, 0.5)], {"failed": 1})

    def test_another_logdir_of_the_same_name_is_kept_apart(
        self, service: RunningService, run_name: str, tmp_path: Path
    ) -> None:
        for folder in ("one", "two"):
            path = write(tmp_path / folder / "log", 0, curve("loss", range(3), 0.25 * len(folder)))
            path.write_bytes(path.read_bytes() if folder == "one" else event(0, {folder: 1}) + path.read_bytes())
        _, first = imported(service, run_name, tmp_path / "one" / "log")
        _, second = imported(service, run_name, tmp_path / "two" / "log")
        assert (first, second) == ({}, {"failed": 1})


class TestAgain:
    """Twice without doubling; grown files go on where they were left."""

    def test_growing_files(self, service: RunningService, run_name: str, tmp_path: Path) -> None:
        records = curve("loss", range(60))
        for count in (1, 2, 30, 60):
            write(tmp_path / "log", 0, records[:count])
            run, found = imported(service, run_name, tmp_path / "log")
            assert (len(service.points(run, "loss")), found) == (count, {})

    def test_a_file_that_was_replaced_begins_anew(self, service: RunningService, run_name: str, tmp_path: Path) -> None:
        write(tmp_path / "log", 0, curve("loss", range(9)))
        imported(service, run_name, tmp_path / "log")
        path = write(tmp_path / "log", 0, curve("loss", range(3), 0.5))
        path.write_bytes(event(0, {"loss": 0.5}, wall_time=5.0) + path.read_bytes())
        run, found = imported(service, run_name, tmp_path / "log")
        assert [value for _, value in service.points(run, "loss")] == [0.5, 1.5, 2.5]
        assert found == {"replaced": 1, "restarted": 1, "repeated": 1}

    def test_a_file_that_became_shorter(self, service: RunningService, run_name: str, tmp_path: Path) -> None:
        path = write(tmp_path / "log", 0, curve("loss", range(9)))
        imported(service, run_name, tmp_path / "log")
        path.write_bytes(path.read_bytes()[:-50])
        run, found = imported(service, run_name, tmp_path / "log")
        assert (len(service.points(run, "loss")), found) == (9, {"gone": 1})

    def test_a_deleted_run_is_made_again(self, service: RunningService, run_name: str, tmp_path: Path) -> None:
        write(tmp_path / "log", 0, curve("loss", range(9)))
        run, _ = imported(service, run_name, tmp_path / "log")
        service.request("DELETE", f"/api/v1/runs/{run}")
        imported(service, run_name, tmp_path / "log")
        assert len(service.points(run, "loss")) == 9

    def test_a_run_that_others_report_to_meanwhile(
        self, service: RunningService, run_name: str, tmp_path: Path
    ) -> None:
        path = write(tmp_path / "log", 0, curve("loss", range(9)))
        way = Service(HttpTransport(service.url, None, "test"), patience_s=5.0)
        run = f"{run_name}/log"
        first = runs.LogdirRun(run, way, (), Lengths(), runs.origin(tmp_path))
        found = [FoundFile(path, path.stat().st_size)]
        first.begin(found, recreate=False)
        list(first.turn(found, final=True))
        write(tmp_path / "log", 0, curve("loss", range(20)))
        second = runs.LogdirRun(run, way, (), Lengths(), runs.origin(tmp_path))
        second.begin(found, recreate=False)
        list(second.turn(found, final=True))
        write(tmp_path / "log", 0, curve("loss", range(30)))
        with pytest.raises(RunStoppedError, match="somebody else"):
            list(first.turn(found, final=True))
        list(second.turn(found, final=True))
        assert [step for step, _ in service.points(run, "loss")] == list(range(30))


class TestCommand:
    """`tallyboard import` says what it did and how it ended."""

    def test_a_clean_logdir(self, cli: Cli, run_name: str, tmp_path: Path) -> None:
        write(tmp_path / "log", 0, curve("loss", range(50)))
        done = cli("import", str(tmp_path / "log"), "--project", run_name)
        assert (done.code, done.err) == (0, "")
        assert done.out.startswith("1 run, 1 with something new: 50 points sent")

    def test_a_damaged_one(self, cli: Cli, run_name: str, tmp_path: Path) -> None:
        path = write(tmp_path / "log", 0, curve("loss", range(50)))
        path.write_bytes(path.read_bytes() + b"\x01" * 20)
        done = cli("import", str(tmp_path / "log"), "--project", run_name)
        assert done.code == EXIT_INCOMPLETE
        assert "20 bytes follow a record whose length can't be believed" in done.out

    def test_a_dry_run_sends_nothing(self, cli: Cli, service: RunningService, run_name: str, tmp_path: Path) -> None:
        write(tmp_path / "log", 0, curve("loss", range(50)))
        done = cli("import", str(tmp_path / "log"), "--project", run_name, "--dry-run")
        assert (done.code, "50 points read" in done.out) == (0, True)
        assert service.get(f"/runs/{run_name}/log").status == 404

    @pytest.mark.parametrize(
        "arguments",
        [
            ["/nowhere/at/all"],
            [".", "--counter", "loss"],
            [".", "--counter", "*=wall_time"],
            [".", "--project", "a//b"],
        ],
    )
    def test_wrong_usage(self, cli: Cli, arguments: list[str]) -> None:
        done = cli("import", *arguments)
        assert (done.code, done.out) == (EXIT_USAGE, "")

    def test_no_service(self, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write(tmp_path / "log", 0, curve("loss", range(5)))
        monkeypatch.setattr("tallyboard.logdir.command.IMPORT_PATIENCE_S", 0.1)
        done = cli("import", str(tmp_path / "log"), "--url", "http://127.0.0.1:9")
        assert done.code == EXIT_UNREACHABLE
