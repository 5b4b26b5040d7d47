"""Verification finds nothing amiss where all is well, and names what was changed, removed or added behind its back."""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tallyboard.wire import Open
from tallyboard_server.eventfiles import LogDirectory
from tallyboard_server.eventfiles.crc import masked_crc32c
from tallyboard_server.eventfiles.encoder import Encoder
from tallyboard_server.eventfiles.tfrecord import Damage, read_records
from tallyboard_server.verify import RunCheck, RunGoneError
from tests.eventfiles_kit import Service, columns, settle
from tests.verify_kit import merge, told, verify

RUN = "digits/try1"
FILE = ("event_file", None, None, None, None, None)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with Service(tmp_path) as running:
        yield running


@pytest.fixture
def played(service: Service) -> Service:
    """Two counters, a rewind, a late writer, merged and fresh blocks; the files up to date."""
    engine = service.engine()
    for i in range(8):
        steps = [10 * i, 10 * i + 5]
        service.report(RUN, steps, {"loss": [i + 0.1, i + 0.2], "acc": [i, float("nan")]}, producer="a")
    service.report(RUN, [1, 2, 3], {"val": [1.0, 2.0, 1e300]}, counter="epoch", producer="a")
    settle(engine)
    assert merge(service, RUN) >= 8
    service.rewind(RUN, "b", global_step=60)
    for i in range(6, 9):
        service.report(RUN, [10 * i + 1], {"loss": [i * 1.5], "acc": [0.5]}, producer="b")
    service.report(RUN, [80], {"loss": [7.0]}, producer="a")
    settle(engine)
    engine.close()
    return service


def sql(service: Service, text: str, *values: object) -> int:
    """Change the database behind the store's back; returns how many rows changed."""
    changed: list[int] = []

    def work(_transaction: object) -> None:
        service.sqlite._writer.execute(text, values)
        changed.append(service.sqlite._writer.changes())

    service.ingest.record(work)
    return changed[0]


def test_all_is_well(played: Service) -> None:
    report = verify(played, RUN)
    assert (report.ok, report.differences, report.warnings) == (True, [], [])
    rows = {(a.counter, a.attempt): (a.sent, a.stored, a.visible, a.in_file) for a in report.attempts}
    assert rows == {("global_step", 1): (33, 33, 24, 24), ("global_step", 2): (6, 6, 6, 6), ("epoch", 1): (3, 3, 3, 3)}
    assert all(a.sent_checksum == a.stored_checksum for a in report.attempts)
    assert report.exported_pos == report.pos


def test_an_empty_run_and_one_without_visible_points_are_well(service: Service) -> None:
    service.batch(RUN, open=Open(config={"lr": 1}))
    assert verify(service, RUN).ok
    service.report(RUN, [0, 1], {"loss": [1, 2]})
    service.rewind(RUN, global_step=0)
    settle(service.engine())
    report = verify(service, RUN)
    assert (report.ok, report.event_file) == (True, None)


def test_a_run_that_is_not_there(service: Service) -> None:
    with pytest.raises(RunGoneError):
        verify(service, "no/run")


class TestStore:
    def test_a_block_that_is_gone(self, played: Service) -> None:
        assert sql(played, "DELETE FROM journal WHERE id = (SELECT max(id) FROM journal WHERE attempt = 2)") == 1
        report = verify(played, RUN)
        assert ("store", "global_step", 2, None, 60, 81) in told(report)
        details = [d.detail for d in report.differences]
        assert any("6 scalars were acknowledged, 4 are stored" in detail for detail in details)
        assert any("ends at step 71, acknowledged was step 81" in detail for detail in details)

    @pytest.mark.parametrize("what", ["step", "wall time", "value"])
    def test_one_bit_in_a_fresh_block(self, played: Service, what: str) -> None:
        at = {"step": 1, "wall time": 9, "value": 17}[what]
        row = played.sqlite._writer.execute("SELECT min(id), data FROM journal WHERE attempt = 2").fetchone()
        assert row is not None
        key, data = row
        changed = bytearray(data)
        changed[at - 1] ^= 1
        assert sql(played, "UPDATE journal SET data = ? WHERE id = ?", bytes(changed), key) == 1
        report = verify(played, RUN)
        assert any(
            d.kind == "store" and "6 scalars stored are not those that were acknowledged" in d.detail
            for d in report.differences
        )
        in_file = any(d.kind == "event_file" and d.attempt == 2 for d in report.differences)
        assert in_file == (what != "value")  # the lowest bit of a double is not in a float32

    def test_a_merged_column_of_another_tag(self, played: Service) -> None:
        swap = (
            "UPDATE value_columns SET vals = (SELECT v.vals FROM value_columns v WHERE v.tag_id = 2 "
            "AND v.axis_id = value_columns.axis_id) WHERE tag_id = 1 AND counter_id = 1 "
            "AND axis_id = (SELECT min(axis_id) FROM value_columns WHERE tag_id = 1 AND counter_id = 1)"
        )
        assert sql(played, swap) == 1
        report = verify(played, RUN)
        assert any(d.kind == "store" and (d.counter, d.attempt) == ("global_step", 1) for d in report.differences)
        assert any(d.kind == "event_file" and d.tag == "loss" for d in report.differences)

    def test_a_block_that_is_there_twice(self, played: Service) -> None:
        copy = (
            "INSERT INTO journal SELECT id + 100, counter_id, attempt, batch, n, first_step, last_step, tag_ids, "
            "at_counters, data FROM journal WHERE attempt = 2"
        )
        assert sql(played, copy) == 3
        report = verify(played, RUN)
        assert any("holds a tag twice at step 61" in d.detail for d in report.differences)
        assert any("6 scalars were acknowledged, 12 are stored" in d.detail for d in report.differences)

    def test_an_attempt_from_before_checksums_is_compared_by_count(self, played: Service) -> None:
        played.ingest.close()
        connection = played.sqlite._writer
        connection.execute("UPDATE attempts SET checksum = NULL")
        connection.execute("UPDATE heads SET version = version + 1")
        report = verify(played, RUN)
        assert report.ok
        assert {a.sent_checksum for a in report.attempts} == {None}

    def test_a_receipt_that_told_of_more_than_there_is(self, played: Service) -> None:
        connection = played.sqlite._writer
        played.ingest.close()
        connection.execute("DELETE FROM attempts WHERE number = 2")
        connection.execute("DELETE FROM journal WHERE attempt = 2")
        connection.execute("UPDATE heads SET version = version + 1, epoch = epoch + 1")
        kinds = {d.kind for d in verify(played, RUN).differences}
        assert "receipt" in kinds


class TestEventFile:
    def file(self, service: Service) -> Path:
        return service.event_files(RUN)[-1]

    def rewrite(self, service: Service, index: int, change: bytes | None, at: int = 0) -> None:
        """Change the data of a record (or leave the record out) and put its checksum right again."""
        path = self.file(service)
        with path.open("rb") as stream:
            records = [r.data for r in read_records(stream) if not isinstance(r, Damage)]
        data = b""
        for i, record in enumerate(records):
            if i == index:
                if change is None:
                    continue
                record = record[:at] + change + record[at + len(change) :]
            length = struct.pack("<Q", len(record))
            data += length + struct.pack("<I", masked_crc32c(length))
            data += record + struct.pack("<I", masked_crc32c(record))
        path.write_bytes(data.ljust(path.stat().st_size, b"\0") if change is None else data)

    def test_a_value_that_was_changed_is_found_by_tag_and_step(self, played: Service) -> None:
        record = Encoder().encode_reports(
            ("loss", "acc"), np.array([81]), np.array([1.7e9]), np.array([[12.0, 0.5]])
        )  # as the last of attempt 2
        path = self.file(played)
        data = path.read_bytes()
        (old,) = [data[i : i + len(record)] for i in (data.rfind(record[:40]),)]
        assert old == record
        changed = Encoder().encode_reports(("loss", "acc"), np.array([81]), np.array([1.7e9]), np.array([[12.5, 0.5]]))
        path.write_bytes(data.replace(old, changed))
        report = verify(played, RUN)
        assert told(report) == [("event_file", "global_step", 2, "loss", 81, 81)]
        assert "1 changed" in report.differences[0].detail
        assert "tallyboard repair digits/try1" in report.differences[0].detail

    def test_a_point_at_another_step_is_missing_and_extra(self, played: Service) -> None:
        path = self.file(played)
        one, other = (
            Encoder().encode_reports(("loss", "acc"), np.array([s]), np.array([1.7e9]), np.array([[9.0, 0.5]]))
            for s in (61, 63)
        )
        data = path.read_bytes()
        assert data.count(one) == 1
        path.write_bytes(data.replace(one, other))
        report = verify(played, RUN)
        assert told(report) == [
            ("event_file", "global_step", 2, "loss", 61, 63),
            ("event_file", "global_step", 2, "acc", 61, 63),
        ]
        assert "1 missing, 1 that should not be there" in report.differences[0].detail

    def test_a_superseded_point_is_one_too_many(self, played: Service) -> None:
        path = self.file(played)
        (generation,) = [g for g in played.generations(RUN) if g.state == "live"]
        late = Encoder().encode_reports(("loss",), np.array([65]), np.array([1.7e9]), np.array([[1.0]]))
        path.write_bytes(path.read_bytes() + late)
        assert verify(played, RUN).ok  # beyond what is recorded: as a write in progress looks
        sql(played, "UPDATE generations SET length = ? WHERE number = ?", path.stat().st_size, generation.number)
        report = verify(played, RUN)
        assert told(report) == [("event_file", "global_step", 2, "loss", 65, 65)]
        assert "1 that should not be there" in report.differences[0].detail

    def test_a_tag_that_the_run_does_not_have(self, played: Service) -> None:
        path = self.file(played)
        stray = Encoder().encode_reports(("stray",), np.array([5]), np.array([1.7e9]), np.array([[1.0]]))
        path.write_bytes(path.read_bytes() + stray)
        sql(played, "UPDATE generations SET length = ? WHERE state = 'live'", path.stat().st_size)
        report = verify(played, RUN)
        assert told(report) == [("event_file", None, None, "stray", 5, 5)]
        assert "none of the run's" in report.differences[0].detail

    def test_a_record_left_out(self, played: Service) -> None:
        self.rewrite(played, 4, None)
        report = verify(played, RUN)
        assert not report.ok
        assert {d.kind for d in report.differences} == {"event_file"}

    def test_a_flipped_byte(self, played: Service) -> None:
        path = self.file(played)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 4
        path.write_bytes(data)
        report = verify(played, RUN)
        assert told(report) == [FILE]
        assert "is damaged at byte" in report.differences[0].detail

    def test_a_torn_a_missing_and_a_foreign_file(self, played: Service) -> None:
        path = self.file(played)
        data = path.read_bytes()
        foreign = path.parent / "events.out.tfevents.1.elsewhere"
        foreign.write_bytes(b"")
        path.write_bytes(data[:-10])
        report = verify(played, RUN)
        assert told(report) == [FILE]
        assert f"has {len(data) - 10:,} of {len(data):,} bytes" in report.differences[0].detail
        assert [str(foreign) in warning for warning in report.warnings] == [True]
        path.write_bytes(b"x" * len(data))
        assert "begins with another header" in verify(played, RUN).differences[0].detail
        path.unlink()
        assert "it is missing" in verify(played, RUN).differences[0].detail
        path.symlink_to(foreign)
        assert told(verify(played, RUN)) == [FILE]

    def test_a_file_that_is_behind(self, played: Service) -> None:
        for step in (90, 91):
            played.report(RUN, [step], {"loss": [1.0]}, producer="b")
        report = verify(played, RUN)
        assert told(report) == [FILE]
        assert "2 blocks behind" in report.differences[0].detail
        by_attempt = {(a.counter, a.attempt): a for a in report.attempts}
        assert (by_attempt["global_step", 2].stored, by_attempt["global_step", 2].in_file) == (8, 6)
        settle(played.engine())
        assert verify(played, RUN).ok

    def test_a_file_from_before_a_rewind(self, played: Service) -> None:
        played.rewind(RUN, "b", global_step=30)
        report = verify(played, RUN)
        assert told(report) == [FILE]
        assert "from before a rewind" in report.differences[0].detail


def test_a_check_waits_for_the_file(service: Service) -> None:
    service.report(RUN, [0, 1], {"loss": [1, 2]})
    engine = service.engine()
    check = RunCheck(
        service.store, LogDirectory(service.logdir), RUN, clock=service.clock, sleep=lambda _: settle(engine)
    )
    assert sum(check.steps()) == 2 * 2
    assert check.report.ok


def test_a_wait_for_the_file_ends(service: Service) -> None:
    service.report(RUN, [0, 1], {"loss": [1, 2]})
    check = RunCheck(service.store, LogDirectory(service.logdir), RUN, clock=service.clock, sleep=service.pass_time)
    assert sum(check.steps()) == 2
    assert "there is no event file yet" in check.report.differences[0].detail


def test_a_run_that_grows_meanwhile_is_compared_as_it_was(played: Service) -> None:
    engine = played.engine()
    step = iter(range(100, 10_000))

    def grow() -> None:
        at = next(step)
        played.batch(
            RUN, "b",
            columns=(columns([at], {"loss": [at / 7], "acc": [1.0]}), columns([at], {"x": [2.0]}, block=1)),
        )  # fmt: skip
        if at % 3 == 0:
            settle(engine)
            merge(played, RUN)

    for _ in range(30):
        grow()
    settle(engine)
    grow()
    report = verify(played, RUN, grow)
    assert [d for d in told(report) if d != FILE] == []
    assert all("behind" in d.detail for d in report.differences)
