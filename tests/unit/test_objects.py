"""Event files as objects: turn by turn, killed at every call, and what is written in all."""

import errno
import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from fsspec.registry import _registry as _loaded
from hypothesis import given
from hypothesis import strategies as st

from tallyboard.wire import InvalidNameError, check_run
from tallyboard_server.eventfiles.objects import runobjects, storage
from tallyboard_server.eventfiles.objects.bucket import Bucket
from tallyboard_server.eventfiles.objects.faults import Breaker, ExtraMissingError, ObjectStorageError
from tallyboard_server.eventfiles.objects.keys import run_key
from tallyboard_server.eventfiles.tools import ExportSettings
from tallyboard_server.objecturl import ObjectUrl, parse_logdir, without_credentials
from tests.eventfiles_kit import Clock, same, settle
from tests.objects_kit import Crash, Fuse, FusedMemory, ObjectService, Reader, settle_objects

RUN = "digits/try1"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ObjectService]:
    with ObjectService(tmp_path) as service:
        yield service


def numbers(service: ObjectService, run: str = RUN) -> list[tuple[int, int]]:
    """(generation, segment) of a run's objects, in the order in which they are read."""
    return [tuple(map(int, name.split(".")[-2:])) for name in service.names(run)]  # type: ignore[misc]


def published(service: ObjectService, run: str = RUN) -> None:
    assert same(Reader(service.directory_of(run)).reload(), service.shown(run))


class TestUrls:
    @pytest.mark.parametrize("url", ["s3://bucket/some/prefix", "s3://bucket", "gs://b/p", "abfs://c@a.dfs.core.net/p",
                                     "file:///data/logdir", "memory://x"])  # fmt: skip
    def test_prefixes(self, url: str) -> None:
        assert parse_logdir(url + "/") == ObjectUrl(url)

    @pytest.mark.parametrize("path", ["logdir", "/data/logdir", "./s3", "C:/x"])
    def test_directories(self, path: str) -> None:
        assert parse_logdir(path) == Path(path)

    @pytest.mark.parametrize(
        ("url", "told"),
        [
            ("s3:///prefix", "no bucket"),
            ("s3://key:t0psecret@bucket/prefix", "credentials do not belong"),  # pragma: allowlist secret
            ("s3://bucket/a b", "no spaces"),
            ("s3://bucket/a?versionId=1", "without any of"),
            ("s3://bucket/*", "without any of"),
            ("simplecache::s3://bucket/a", "begins with its scheme"),
            ("s3://bucket/a::b", "chained"),
            ("s3://bucket/../other", "may be . or .."),
            ("file://relative/path", "absolute path"),
            ("file:///", "absolute path"),
        ],
    )
    def test_what_can_not_be_is_told_without_what_it_holds(self, url: str, told: str) -> None:
        with pytest.raises(ValueError, match=told) as raised:
            parse_logdir(url)
        assert "t0psecret" not in str(raised.value)
        assert "t0psecret" not in str(without_credentials(url))

    def test_a_missing_extra_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "s3fs", None)
        monkeypatch.delitem(_loaded, "s3", raising=False)  # other tests may have had it loaded
        with pytest.raises(ExtraMissingError, match=r"need s3fs: pip install 'tallyboard\[server,object-store"):
            Bucket(ObjectUrl("s3://b/p"))
        with pytest.raises(ValueError, match="nothing-like"):
            Bucket(ObjectUrl("nothing-like://b/p"))


class TestKeys:
    @given(st.lists(st.text(st.sampled_from("aA0%2?*[]#:/ ü"), min_size=1, max_size=8), min_size=2, max_size=2))
    def test_no_two_runs_share_one_and_nothing_misreads_them(self, texts: list[str]) -> None:
        one, other = ("p/" + text for text in texts)
        try:
            check_run(one), check_run(other)
        except InvalidNameError:
            return
        assert (run_key(one) == run_key(other)) == (one == other)
        assert not set(run_key(one)) & set("*?[]#")
        assert "::" not in run_key(one)

    def test_most_names_are_as_they_are(self) -> None:
        assert run_key("p/50% ü & co=1:2") == "p/50% ü & co=1:2"
        assert run_key("p/a::b?[x]%41") == "p/a:%3Ab%3F%5Bx%5D%2541"

    @pytest.mark.parametrize("name", ["../up", "/abs", "a//b", ".hidden/x", "a/tfevents"])
    def test_none_leads_out(self, name: str) -> None:
        with pytest.raises(OSError, match="run name"):
            run_key(name)


class TestGrowth:
    def test_an_opening_then_segments(self, service: ObjectService) -> None:
        engine = service.objects()
        for step in range(4):
            service.report(RUN, [step], {"loss": [step]})
            settle_objects(engine)
        assert numbers(service) == [(1, 0), (1, 1), (1, 2), (1, 3)]
        published(service)
        with service.store.snapshot() as view:
            segments = view.segments(1, 1)
        assert [(s.number, s.first_pos, s.last_pos, s.published) for s in segments] == [
            (0, 1, 1, True), (1, 2, 2, True), (2, 3, 3, True), (3, 4, 4, True)
        ]  # fmt: skip
        assert [s.nbytes for s in segments] == [len(data) for _, data in sorted(service.stored().items())]
        assert service.generations(RUN)[0].exported_pos == 4

    def test_no_sooner_than_the_interval_unless_much_waits(self, service: ObjectService) -> None:
        service.settings = ExportSettings(interval_s=20.0)
        engine = service.objects(segment_bytes=100_000)
        service.report(RUN, [0], {"loss": [0]})
        settle_objects(engine)
        steps = itertools.count(1)

        def more(rows: int = 1) -> None:
            at = [next(steps) for _ in range(rows)]
            service.report(RUN, at, {"loss": [0.0] * rows})
            engine.notify([1])
            engine.turn()

        more()
        assert len(numbers(service)) == 2
        for _ in range(19):
            service.pass_time(1)
            more()
        assert len(numbers(service)) == 2
        service.pass_time(1.1)
        engine.turn()
        assert len(numbers(service)) == 3
        for _ in range(40):
            more(100)
        service.pass_time(21)
        engine.turn()
        before = len(numbers(service))
        for _ in range(200):
            more(100)
        assert 2 <= len(numbers(service)) - before <= 8
        settle_objects(engine)
        published(service)

    def test_a_run_that_is_new_every_time_is_not(self, service: ObjectService) -> None:
        """Restarting goes on with the same generation."""
        for step in range(3):
            engine = service.objects()
            service.report(RUN, [step], {"loss": [step]})
            settle_objects(engine)
            engine.close()
        assert numbers(service) == [(1, 0), (1, 1), (1, 2)]
        published(service)

    def test_what_no_reader_may_see_is_no_object(self, service: ObjectService) -> None:
        engine = service.objects()
        service.report(RUN, [0, 1, 2], {"loss": [0, 1, 2]}, producer="a")
        service.rewind(RUN, "b", global_step=1)
        service.report(RUN, [1], {"loss": [10]}, producer="b")
        settle_objects(engine)
        service.report(RUN, [5], {"loss": [50]}, producer="a")  # late, and superseded already
        settle_objects(engine)
        assert len(numbers(service)) == 1
        assert service.generations(RUN)[-1].exported_pos == 3
        published(service)

    def test_what_is_written_in_all_is_a_small_multiple_of_what_was_logged(
        self, service: ObjectService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(runobjects, "MANY", 8)
        service.settings = ExportSettings(interval_s=1.0, generation_interval_s=1.0, grace_s=0.0)
        engine = service.objects()
        written: dict[str, int] = {}
        most = 0
        for step in range(300):
            service.report(RUN, [step], {"loss": [step], "acc": [step]})
            engine.notify([1])
            service.pass_time(2)
            engine.turn()
            engine.turn()
            written |= {path: len(data) for path, data in service.stored().items()}
            live = service.generations(RUN)[-1].file_name
            most = max(most, sum(name.startswith(live) for name in service.names(RUN)))
        settle_objects(engine)
        published(service)
        logged = sum(map(len, service.stored().values()))
        assert sum(written.values()) < 4 * logged
        assert len({path.rpartition(".")[0] for path in written}) <= 8
        assert most < 180

    def test_a_run_that_ended_and_is_quiet_becomes_one_object(self, service: ObjectService) -> None:
        engine = service.objects()
        for step in range(6):
            service.report(RUN, [step], {"loss": [step]})
            settle_objects(engine)
        running = Reader(service.directory_of(RUN))
        running.reload()
        service.batch(RUN, status="finished")
        settle_objects(engine)
        service.wall.now = 0  # updated_at is of the writer's clock, which runs
        settle_objects(engine)
        assert len(numbers(service)) > 1
        service.wall.now = 2**33
        settle_objects(engine)
        assert numbers(service)[-1] == (2, 0)
        service.clock.now += 31
        service.wall.now += 31
        settle_objects(engine)
        assert numbers(service) == [(2, 0)]
        assert same(running.reload(), service.shown(RUN))
        published(service)


class TestReplaced:
    def test_a_rewind_is_a_new_generation_and_the_old_one_goes_after_a_while(self, service: ObjectService) -> None:
        engine = service.objects()
        for step in range(3):
            service.report(RUN, [step], {"loss": [step]}, producer="a")
            settle_objects(engine)
        service.rewind(RUN, "b", global_step=1)
        service.report(RUN, [1], {"loss": [10]}, producer="b")
        settle_objects(engine)
        assert numbers(service) == [(1, 0), (1, 1), (1, 2), (2, 0)]
        published(service)
        service.pass_time(31)
        engine.turn()
        assert numbers(service) == [(2, 0)]
        published(service)

    def test_the_opening_goes_last(self, service: ObjectService) -> None:
        """Who begins to read meanwhile takes nothing for what came first that is not taken back."""
        memory = FusedMemory()
        engine = service.objects(memory)
        for step in range(4):
            service.report(RUN, [step], {"loss": [step]}, producer="a")
            settle_objects(engine)
        service.rewind(RUN, "a", global_step=2)
        service.report(RUN, [2], {"loss": [20]}, producer="a")
        settle_objects(engine)
        service.pass_time(31)
        for nth in range(1, 4):
            memory.fuse = Fuse(nth, error=lambda: OSError(errno.EINVAL, "not now"))
            engine.turn()
            assert (1, 0) in numbers(service)
            published(service)
            service.pass_time(11)
        memory.fuse = Fuse()
        engine.turn()
        assert numbers(service) == [(2, 0)]

    def test_a_deleted_run_is_gone_and_nothing_else(self, service: ObjectService) -> None:
        memory = FusedMemory()
        engine = service.objects(memory)
        service.report(RUN, [0], {"loss": [0]})
        service.report(RUN + "/below", [0], {"loss": [0]})
        settle_objects(engine)
        foreign = f"{engine._storage._bucket.root}/{RUN}/events.out.tfevents.1.other"  # type: ignore[attr-defined]
        memory.pipe_file(foreign, b"not ours")
        service.delete(RUN)
        settle_objects(engine)
        engine.turn(force=True)
        assert service.names(RUN) == ["events.out.tfevents.1.other"]
        assert len(service.names(RUN + "/below")) == 1
        with service.store.snapshot() as view:
            assert view.generations(1) == []
            assert view.segments(1, 1) == []

    def test_a_logdir_that_was_a_directory(self, service: ObjectService) -> None:
        service.report(RUN, [0], {"loss": [0]})
        files = service.engine()
        settle(files)
        files.close()
        engine = service.objects()
        settle_objects(engine)
        assert numbers(service) == [(2, 0)]
        published(service)

    def test_objects_that_are_gone_are_written_anew(
        self, service: ObjectService, caplog: pytest.LogCaptureFixture
    ) -> None:
        memory = FusedMemory()
        engine = service.objects(memory)
        for step in range(3):
            service.report(RUN, [step], {"loss": [step]})
            settle_objects(engine)
        path = sorted(service.stored())[1]
        memory.rm_file(path)
        memory.pipe_file(path.rpartition("/")[0] + "/events.out.tfevents.1.other", b"")
        service.pass_time(storage.LISTED_EVERY_S + 31)
        engine.turn()
        assert "000001 is missing" in caplog.text
        assert any("tfevents.1.other is not one of ours" in warning for warning in engine.warnings())
        memory.rm_file(path.rpartition("/")[0] + "/events.out.tfevents.1.other")
        settle_objects(engine)
        published(service)

    def test_a_bucket_that_was_emptied_is_noticed_by_the_first_segment(self, service: ObjectService) -> None:
        memory = FusedMemory()
        engine = service.objects(memory)
        service.report(RUN, [0], {"loss": [0]})
        settle_objects(engine)
        engine.close()
        for path in service.stored():
            memory.rm_file(path)
        engine = service.objects(memory)
        service.report(RUN, [1], {"loss": [1]})
        settle_objects(engine)
        assert numbers(service) == [(2, 0)]
        published(service)


HISTORY: list[Callable[[ObjectService], object]] = [
    lambda s: s.report(RUN, [0, 1], {"loss": [1, 2], "acc": [3, 4]}, producer="a"),
    lambda s: s.report(RUN, [2], {"loss": [2]}, producer="a"),
    lambda s: s.rewind(RUN, "b", global_step=1),
    lambda s: s.report(RUN, [1, 2], {"loss": [40, 50]}, producer="b"),
    lambda s: s.report(RUN, [10], {"loss": [100]}, producer="a"),
    lambda s: s.report(RUN, [3], {"loss": [60]}, producer="b"),
]


def play(service: ObjectService, fuse: Fuse) -> dict[str, bytes]:
    """Write a short history; start again after a crash. What was there at any time, by its name."""
    memory = FusedMemory(fuse)
    seen: dict[str, bytes] = {}

    def record(work: Any) -> None:
        with fuse.around("record"):
            service.ingest.record(work)

    engine = service.objects(memory, record=record)

    def guarded() -> None:
        nonlocal engine
        try:
            settle_objects(engine)
        except Crash:
            engine.close()
            engine = service.objects(memory, record=record)
            settle_objects(engine)
        for path, data in service.stored().items():
            assert seen.setdefault(path, data) == data or path.endswith(".000000")

    for event in HISTORY:
        event(service)
        guarded()
        service.pass_time(7)
    service.pass_time(60)
    guarded()
    guarded()
    engine.close()
    return seen


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_at_any_call_leaves_no_trace(tmp_path: Path, after: bool) -> None:
    with ObjectService(tmp_path / "uninterrupted") as service:
        log = Fuse()
        play(service, log)
    assert {"put", "upload", "remove", "list", "record"} <= set(log.log)
    for at in range(1, len(log.log) + 1):
        where = f"{log.log[at - 1]} ({at} of {len(log.log)})"
        with ObjectService(tmp_path / f"crash{at}") as service:
            fuse = Fuse(at, after)
            play(service, fuse)
            assert len(fuse.log) >= at, where
            assert [g.state for g in service.generations(RUN)] == ["live"], where
            (generation,) = service.generations(RUN)
            assert same(Reader(service.directory_of(RUN)).reload(), service.shown(RUN)), where
            with service.store.snapshot() as view:
                segments = view.segments(1, generation.number)
            assert all(segment.published for segment in segments), where
            assert len(segments) == len(service.stored()), where
            assert generation.exported_pos == segments[-1].last_pos, where


class TestTrouble:
    def test_all_wait_for_one_storage_and_the_backlog_tells(self, service: ObjectService) -> None:
        memory = FusedMemory()
        engine = service.objects(memory)
        runs = [f"p/run{i}" for i in range(5)]
        for run in runs:
            service.report(run, [0], {"loss": [0]})
        settle_objects(engine)
        error = PermissionError("The AWS Access Key Id is not for you; X-Amz-Signature=abcdef0123")
        fuse = memory.fuse = Fuse()

        def refused(path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
            fuse.log.append("put")
            raise error

        memory.pipe_file = refused  # type: ignore[method-assign]
        for run in runs:
            service.report(run, [1], {"loss": [1]})
        engine.notify(range(1, 6))
        service.pass_time(2)
        engine.turn()
        assert fuse.log.count("put") < 5 or engine.stats()["export_object_errors_total"] == 5
        assert engine.backlog_bytes() > 0
        assert len(engine.faults()) == 5
        assert "the object storage does not serve us: PermissionError" in engine.faults()[0]
        assert "abcdef" not in engine.faults()[0]
        engine.turn()
        del memory.pipe_file
        service.pass_time(61)
        settle_objects(engine)
        assert engine.faults() == []
        assert engine.backlog_bytes() == 0
        for run in runs:
            published(service, run)

    def test_a_key_that_is_too_long_is_one_runs_own(self, service: ObjectService) -> None:
        memory = FusedMemory(Fuse(1, error=lambda: OSError(errno.ENAMETOOLONG, "your key is too long")))
        engine = service.objects(memory)
        service.report(RUN, [0], {"loss": [0]})
        engine.begin_sweep()
        engine.turn()
        assert engine.faults() == []
        assert "your key is too long" in engine.warnings()[0]
        assert engine.backlog_bytes() == 0  # or this run would stop the intake of all

    def test_the_breaker_lets_one_through_at_a_time(self) -> None:
        clock = Clock()
        breaker = Breaker(clock)

        def call(error: Exception | None) -> str:
            try:
                with breaker.calling("writing x"):
                    if error is not None:
                        raise error
            except ObjectStorageError as told:
                return str(told)
            return ""

        assert "TimeoutError: slow" in call(TimeoutError("slow"))
        assert "TimeoutError: slow" in call(None), "not tried"
        clock.now += 1.1
        assert call(None) == ""
        assert not breaker.failing
        for _ in range(10):
            assert call(TimeoutError("slow"))
            clock.now += 10
        assert call(None) == ""
        assert breaker.errors_total == 11


@dataclass
class Some:
    """A share of some runs."""

    runs: set[int] = field(default_factory=set)
    version: int = 0

    def has(self, run_id: int) -> bool:
        return run_id in self.runs

    def working(self) -> Any:
        return nullcontext()

    def take(self, *runs: int) -> None:
        self.runs, self.version = set(runs), self.version + 1


def test_only_who_has_a_run_writes_its_objects_and_goes_on_where_another_stopped(service: ObjectService) -> None:
    one, other = Some({1}), Some({2})
    first, second = service.objects(shares=one), service.objects(shares=other)
    steps = itertools.count()

    def both() -> None:
        step = next(steps)
        for run in ("p/one", "p/two"):
            service.report(run, [step], {"loss": [step]})
        for engine in (first, second):
            settle_objects(engine)

    both()
    both()
    assert numbers(service, "p/one") == numbers(service, "p/two") == [(1, 0), (1, 1)]
    assert first.stats()["export_runs"] == second.stats()["export_runs"] == 1
    one.take(2)
    other.take(1)
    both()
    one.take(1, 2)
    other.take()
    both()
    assert numbers(service, "p/one") == numbers(service, "p/two") == [(1, 0), (1, 1), (1, 2), (1, 3)]
    assert second.stats()["export_runs"] == 0
    for run in ("p/one", "p/two"):
        published(service, run)


def test_a_segment_that_was_begun_is_the_same_again(service: ObjectService) -> None:
    """Recorded, perhaps written, and not recorded as such: more was reported since, and goes into the next one."""
    memory = FusedMemory()
    engine = service.objects(memory)
    service.report(RUN, [0], {"loss": [0]})
    settle_objects(engine)
    service.report(RUN, [1], {"loss": [1]})
    memory.fuse = Fuse(1, after=True, only="put")
    with pytest.raises(Crash):
        settle_objects(engine)
    before = service.stored()
    assert len(before) == 2
    memory.fuse = Fuse()
    service.report(RUN, [2], {"loss": [2]})
    engine = service.objects(memory)
    settle_objects(engine)
    assert service.stored() | before == service.stored()
    assert numbers(service) == [(1, 0), (1, 1), (1, 2)]
    published(service)


def test_a_replaced_generation_waits_for_one_that_stands(service: ObjectService) -> None:
    """What failed to be built stays as long as readers may stand at it, and the one before never grows again."""
    memory = FusedMemory()
    engine = service.objects(memory)
    service.report(RUN, [0, 1], {"loss": [0, 1]}, producer="a")
    settle_objects(engine)
    service.rewind(RUN, "a", global_step=1)
    service.report(RUN, [1], {"loss": [10]}, producer="a")
    records = itertools.count()

    def record(work: Any) -> None:
        if next(records) == 1:
            raise Crash
        service.ingest.record(work)

    engine = service.objects(memory, record=record)
    with pytest.raises(Crash):
        settle_objects(engine)
    assert numbers(service) == [(1, 0), (2, 0)]
    assert [g.state for g in service.generations(RUN)] == ["live", "building"]
    engine = service.objects(memory)
    service.pass_time(100)
    settle_objects(engine)
    assert numbers(service)[-1] == (3, 0)
    assert replace(service.generations(RUN)[-1], changed_at=0).state == "live"
    published(service)
    service.pass_time(31)
    engine.turn()
    assert numbers(service) == [(3, 0)]
