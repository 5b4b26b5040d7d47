"""Imports of any history: against a model of the rules, of damaged files, broken off anywhere, as files grow."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import crc32c as native
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tallyboard.delivery.transport import Answer, HttpTransport
from tallyboard.logdir import crc, runs
from tallyboard.logdir.chunk import Decoder
from tallyboard.logdir.importing import Import
from tallyboard.logdir.mends import Mends
from tallyboard.logdir.scan import Lengths
from tallyboard.logdir.shipping import Service
from tallyboard.logdir.tags import Tags
from tallyboard.logdir.watching import Watch
from tallyboard_server.settings import Settings
from tests.eventfiles_kit import Service as Local
from tests.eventfiles_kit import settle
from tests.histories import sample
from tests.logdir_kit import counts, event, header, import_from, start, write
from tests.service import RunningService, serving

TAGS: Final = ("a", "bb", "train/c")
EXAMPLES: Final = 40
SELDOM: Final = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

Record = tuple[str, int, float] | int
"""A point (tag, step, value), or a session start at a step."""
Log = list[list[Record]]
"""The files of one run."""

_points = st.tuples(st.sampled_from(TAGS), st.sampled_from([0, 1, 2, 3, 4, 5, 126, 127, 128, 16_384, 2**53 + 1]),
                    st.sampled_from([0.0, 0.5, -1.0, 3.25, float("inf")]))  # fmt: skip
_increasing = st.tuples(st.sampled_from(TAGS), st.lists(st.integers(0, 300), min_size=1, max_size=20, unique=True)).map(
    lambda drawn: [(drawn[0], step, step / 4) for step in sorted(drawn[1])]
)
_stretches = st.one_of(_increasing, _increasing, st.lists(_points, max_size=6), st.integers(0, 200).map(lambda s: [s]))
logs: st.SearchStrategy[Log] = st.lists(
    st.lists(_stretches, max_size=4).map(lambda found: [record for stretch in found for record in stretch]),
    min_size=1,
    max_size=3,
)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    with serving(Settings(data_dir=tmp_path_factory.mktemp("data"), port=0)) as running:
        yield running


@dataclass
class Model:
    """What the rules leave of a log: the points of each tag by step, and how many were refused."""

    curves: dict[str, dict[int, float]] = field(default_factory=dict)
    refused: int = 0

    def take(self, log: Log) -> "Model":
        for file in log:
            session: list[tuple[str, int, float]] = []
            for record in file:
                if isinstance(record, int):
                    self._session(session)
                    session = []
                    for curve in self.curves.values():
                        self._cut(curve, record)
                else:
                    session.append(record)
            self._session(session)
        return self

    def _session(self, points: list[tuple[str, int, float]]) -> None:
        for tag in TAGS:
            mine = sorted(((step, value) for t, step, value in points if t == tag), key=lambda point: point[0])
            curve = self.curves.setdefault(tag, {})
            if mine:
                self._cut(curve, mine[0][0])
            for step, value in mine:
                self.refused += curve.setdefault(step, value) != value

    def _cut(self, curve: dict[int, float], step: int) -> None:
        for later in [s for s in curve if s >= step]:
            del curve[later]


def bytes_of(record: Record) -> bytes:
    return start(record) if isinstance(record, int) else event(record[1], {record[0]: record[2]})


def write_log(folder: Path, log: Log) -> None:
    for number, records in enumerate(log):
        write(folder, number, map(bytes_of, records))


def shown(service: RunningService, run: str) -> dict[str, dict[int, float]]:
    return {tag: {step: float(value) for step, value in service.points(run, tag)} for tag in TAGS}


def expected(log: Log) -> dict[str, dict[int, float]]:
    return {tag: dict(sorted(Model().take(log).curves.get(tag, {}).items())) for tag in TAGS}


class _Numbers:
    """A project of its own for each example."""

    count = 0

    @classmethod
    def next(cls, what: str) -> str:
        cls.count += 1
        return f"{what}{cls.count}"


@SELDOM
@given(log=logs)
def test_any_log_is_what_the_rules_leave_of_it(
    service: RunningService, tmp_path_factory: pytest.TempPathFactory, log: Log
) -> None:
    folder, project = tmp_path_factory.mktemp("logs") / "log", _Numbers.next("model")
    write_log(folder, log)
    summary = import_from(folder, service, project)
    if any(file for file in log):
        assert shown(service, f"{project}/log") == expected(log)
    assert counts(summary).get("refused", 0) == Model().take(log).refused
    again = import_from(folder, service, project)
    assert (again.points_sent, counts(again)) == (0, {})


class _BrokenOff(BaseException):
    """The process ends here."""


class _Breaking(HttpTransport):
    """Ends the process before or after the n-th batch is applied."""

    def __init__(self, url: str, at: int, *, applied: bool) -> None:
        super().__init__(url, None, "test")
        self._left = at
        self._applied = applied

    def post(self, path: str, body: bytes, content_type: str) -> Answer:
        self._left -= 1
        if self._left > 0:
            return super().post(path, body, content_type)
        if self._applied:
            super().post(path, body, content_type)
        raise _BrokenOff


@SELDOM
@given(log=logs, at=st.integers(1, 6), applied=st.booleans())
@example(log=[[("a", 1, 0.25), 1], [("a", 0, 0.0)]], at=2, applied=True)
@example(log=[[("a", 0, 0.0), ("a", 9, 0.25), 5], [("a", 3, 0.5)]], at=2, applied=True)
def test_broken_off_anywhere_and_gone_on_with(
    service: RunningService, tmp_path_factory: pytest.TempPathFactory, log: Log, at: int, applied: bool
) -> None:
    folder, project = tmp_path_factory.mktemp("logs") / "log", _Numbers.next("broken")
    write_log(folder, log)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "CHUNK_BYTES", 2_000)
        whole = import_from(folder, service, f"{project}-whole")
        for number in range(at, 0, -1):
            way = Service(_Breaking(service.url, number, applied=applied), patience_s=5.0)
            try:
                Import(folder, way, project).run()
            except _BrokenOff:
                continue
            break
        import_from(folder, service, project)
    one, other = (service.get(f"/runs/{name}/log") for name in (project, f"{project}-whole"))
    assert one.status == other.status
    if whole.points_read:
        assert shown(service, f"{project}/log") == shown(service, f"{project}-whole/log")


class _Clock:
    """Time passes only when waited for."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds

    def wait(self, seconds: float) -> bool:
        self.seconds += seconds
        return True


@SELDOM
@given(log=logs, pieces=st.lists(st.integers(1, 400), min_size=1, max_size=30), restart_at=st.integers(0, 30))
def test_watched_as_it_grows_in_awkward_pieces(
    service: RunningService, tmp_path_factory: pytest.TempPathFactory, log: Log, pieces: list[int], restart_at: int
) -> None:
    in_order: Log = [_ordered(file) for file in log]
    folder, project = tmp_path_factory.mktemp("logs") / "log", _Numbers.next("watched")
    folder.mkdir()

    def watch() -> Watch:
        way = Service(HttpTransport(service.url, None, "test"), patience_s=5.0)
        return Watch(folder, way, project, clock=_Clock())

    watching, polls = watch(), 0
    for number, records in enumerate(in_order):
        path = write(folder, number, ())
        path.write_bytes(b"")
        data, at, turn = header() + b"".join(map(bytes_of, records)), 0, 0
        while at < len(data):
            at += pieces[turn % len(pieces)]
            turn += 1
            path.write_bytes(data[:at])
            watching.poll()
            polls += 1
            if polls == restart_at:
                watching = watch()
        watching.poll()
        watching.poll()
    if any(in_order):
        assert shown(service, f"{project}/log") == expected(in_order)


def _ordered(file: list[Record]) -> list[Record]:
    """The file without steps that go back or repeat within a session: what reading ahead would mend."""
    last: dict[str, int] = {}
    kept: list[Record] = []
    for record in file:
        if isinstance(record, int):
            last = {}
        elif record[1] <= last.get(record[0], -1):
            continue
        else:
            last[record[0]] = record[1]
        kept.append(record)
    return kept


def test_the_services_own_event_files_of_any_history(
    service: RunningService, tmp_path_factory: pytest.TempPathFactory
) -> None:
    histories = sample(30)
    with Local(tmp_path_factory.mktemp("local")) as local:
        engine = local.engine()
        for number, history in enumerate(histories):
            for action in history:
                action(local, f"h/{number:02}")
                settle(engine)
        engine.close()
        summary = import_from(local.logdir / "h", service, "own")
        assert summary.mends.lossless, counts(summary)
        seen = 0
        for number in range(len(histories)):
            with local.store.snapshot() as view:
                if view.load(f"h/{number:02}") is None:
                    continue
            mine = local.shown(f"h/{number:02}")
            theirs = {
                tag: [(step, float(value)) for step, value in service.points(f"own/{number:02}", tag)] for tag in mine
            }
            assert repr(theirs) == repr(mine)
            seen += len(mine)
        assert seen > len(histories)


def decoded(data: bytes) -> tuple[set[tuple[int, float]], str]:
    """The points that a file's bytes hold, and what is wrong with it."""
    decoder = Decoder(Tags((), Mends()), Lengths())
    chunk = decoder.decode(data)
    return set(zip(chunk.steps.tolist(), chunk.values.tolist(), strict=True)), chunk.damage


WHOLE: Final = header() + b"".join(event(step, {"loss": step / 2, "acc": -step}) for step in range(1, 13))


def test_a_file_cut_at_every_byte_gives_a_beginning_of_it() -> None:
    everything, damage = decoded(WHOLE)
    assert (len(everything), damage) == (24, "")
    before = 0
    for at in range(len(WHOLE) + 1):
        found, damage = decoded(WHOLE[:at])
        assert found <= everything
        assert (len(found) >= before, damage) == (True, "")
        before = len(found)
    assert before == 24


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_any_byte_changed_changes_no_other_record(flip: int) -> None:
    everything, _ = decoded(WHOLE)
    for at in range(len(WHOLE)):
        changed = bytearray(WHOLE)
        changed[at] ^= flip
        found, damage = decoded(bytes(changed))
        assert found < everything or (found == everything and at < 40)
        assert damage or len(everything - found) <= 2


@given(st.binary(max_size=3_000), st.integers(0, 64))
def test_the_checksum_is_crc32c(data: bytes, zeros: int) -> None:
    data += bytes(zeros)
    assert crc.crc32c(data) == native.crc32c(data)
    tables = crc.tables_for(list(range(len(data) - 1, -1, -1)))
    added = np.bitwise_xor.reduce(tables[np.arange(len(data)), np.frombuffer(data, np.uint8)]) if data else 0
    assert int(added) ^ crc.crc32c(bytes(len(data))) == native.crc32c(data)
