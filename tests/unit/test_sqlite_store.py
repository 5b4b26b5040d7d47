"""What is SQLite's own: migrations, the log under readers, a full disk, the data directory, compression."""

import threading
from dataclasses import replace
from pathlib import Path

import apsw
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallyboard_server.model import POSITION_MAX
from tallyboard_server.principal import AuditEntry
from tallyboard_server.store.protocol import StoreBusyError, StoreError, StoreFullError
from tallyboard_server.store.sql import codec
from tallyboard_server.store.sql.journal import MERGEABLE
from tallyboard_server.store.sqlite import SqliteStore
from tallyboard_server.store.sqlite import store as sqlite_store
from tallyboard_server.store.sqlite.directory import DataDirectory, refuse_network
from tallyboard_server.store.sqlite.gate import ReaderGate
from tallyboard_server.store.sqlite.migrate import migrations, schema_version
from tests.contract.blocks import block, points, run_state

WORDS = st.integers(-(2**63), 2**63 - 1)


def test_the_last_positions_of_a_run_are_its_own(tmp_path: Path) -> None:
    """Position and run share one key: the last of one run must not reach into the next."""
    store = SqliteStore.open(tmp_path)
    for run_id in (1, 2, 3):
        with store.transaction() as transaction:
            transaction.save(run_state(run_id, f"p/{run_id}"), [block(1, [1])])
            transaction.save(run_state(run_id, f"p/{run_id}", pos=POSITION_MAX), [block(POSITION_MAX, [2])])
    with store.snapshot() as view:
        for run_id in (1, 2, 3):
            for after, expected in ((0, [1, POSITION_MAX]), (POSITION_MAX - 1, [POSITION_MAX]), (POSITION_MAX, [])):
                found = view.journal(run_id, after_pos=after, bytes_max=10**6)
                assert [one.pos for one in found] == expected
    store.close()


def test_migrations_are_numbered_and_recorded(tmp_path: Path) -> None:
    SqliteStore.open(tmp_path).close()
    connection = apsw.Connection(str(tmp_path / "tallyboard.sqlite3"))
    assert schema_version(connection) == len(migrations()) >= 1


def test_a_second_owner_is_refused(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path)
    with pytest.raises(StoreBusyError, match="in use by process"):
        SqliteStore.open(tmp_path)
    store.close()
    SqliteStore.open(tmp_path).close()


def test_a_newer_schema_is_refused_untouched(tmp_path: Path) -> None:
    SqliteStore.open(tmp_path).close()
    connection = apsw.Connection(str(tmp_path / "tallyboard.sqlite3"))
    connection.execute("PRAGMA user_version=999")
    connection.close()
    with pytest.raises(StoreError, match="newer Tallyboard"):
        SqliteStore.open(tmp_path)
    with pytest.raises(StoreError, match="newer Tallyboard"):  # and the directory was let go
        SqliteStore.open(tmp_path)


def test_commits_are_synced(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path)
    settings = {
        name: store._writer.execute(f"PRAGMA {name}").get
        for name in ("synchronous", "journal_mode", "page_size", "auto_vacuum", "wal_autocheckpoint")
    }
    store.close()
    assert settings == {
        "synchronous": 2, "journal_mode": "wal", "page_size": 16384, "auto_vacuum": 2, "wal_autocheckpoint": 0,
    }  # fmt: skip


def test_the_log_stays_bounded_while_readers_overlap(tmp_path: Path) -> None:
    """Readers that always overlap keep SQLite from ever resetting its log by itself."""
    limit = 8 * 2**20
    store = SqliteStore(DataDirectory(tmp_path), checkpoint_bytes=2**20, truncate_bytes=limit)
    state = run_state(1, "p/run")
    with store.transaction() as transaction:
        transaction.save(state)
    stop = threading.Event()
    largest = [0]
    errors: list[Exception] = []

    def read() -> None:
        try:
            while not stop.is_set():
                with store.snapshot() as view:
                    view.head(1)
                    stop.wait(0.02)
        except Exception as error:  # noqa: BLE001 - whatever it was, the test must see it
            errors.append(error)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    try:
        written = 0
        for pos in range(1, 400):
            made = block(pos, range(pos * 1000, pos * 1000 + 1000), tuple(range(1, 16)))
            with store.transaction() as transaction:
                state = replace(state, pos=pos)
                transaction.save(state, [made])
            store.maintain()
            written += made.nbytes
            largest[0] = max(largest[0], (tmp_path / "tallyboard.sqlite3-wal").stat().st_size)
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    truncations = store.stats()["store_truncations_total"]
    store.close()
    assert not errors
    assert written > 5 * limit
    assert truncations > 0
    assert largest[0] < 1.5 * limit


def test_a_full_disk_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path)
    state = run_state(1, "p/run")
    with store.transaction() as transaction:
        transaction.save(state)
    pages = store._writer.execute("PRAGMA page_count").get
    store._writer.execute(f"PRAGMA max_page_count={pages + 20}")
    kept = []

    def fill() -> None:
        nonlocal state
        for pos in range(1, 100):
            made = block(pos, range(pos * 1000, pos * 1000 + 1000))
            ahead = replace(state, pos=pos)
            with store.transaction() as transaction:
                transaction.save(ahead, [made])
            state = ahead
            kept.append(made)

    with pytest.raises(StoreFullError, match="free disk space"):
        fill()
    assert kept
    with store.snapshot() as view:
        loaded = view.load("p/run")
        assert loaded is not None
        assert loaded.pos == state.pos
        assert points(list(view.blocks(1, 1, 1))) == points(kept)
    store._writer.execute("PRAGMA max_page_count=1000000")
    with store.transaction() as transaction:  # and goes on when there is room again
        transaction.save(replace(state, pos=state.pos + 1), [block(state.pos + 1, [10**9])])
    store.close()


def test_an_unwritable_data_directory_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    with pytest.raises(StoreFullError, match=str(blocked)):
        SqliteStore.open(blocked / "data")


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs"])
def test_network_file_systems_are_refused(tmp_path: Path, kind: str) -> None:
    mounts = f"/dev/sda / ext4 rw 0 0\nserver:/x {tmp_path} {kind} rw 0 0\n"
    with pytest.raises(StoreError, match="network file system"):
        refuse_network(tmp_path / "data", mounts)
    refuse_network(Path("/elsewhere"), mounts)


def test_the_gate_lets_nobody_in_while_it_is_closed() -> None:
    gate = ReaderGate()
    entered = threading.Event()

    def enter() -> None:
        with gate.reading():
            entered.set()

    with gate.reading(), gate.reading(), gate.closed(timeout_s=0.01) as inside:
        assert inside == 2
    with gate.closed(timeout_s=1) as inside:
        assert inside == 0
        reader = threading.Thread(target=enter)
        reader.start()
        assert not entered.wait(0.05)
    assert entered.wait(5)
    reader.join()


@given(st.lists(WORDS, max_size=50))
def test_ints_survive_compression(numbers: list[int]) -> None:
    column = np.array(numbers, np.int64)
    assert codec.decompress_ints(codec.compress_ints(column), len(column)).tolist() == numbers


@given(st.lists(WORDS, max_size=50))
def test_every_float_bit_pattern_survives_compression(bits: list[int]) -> None:
    column = np.array(bits, np.int64).view(np.float64)
    assert codec.decompress_floats(codec.compress_floats(column), len(column)).tobytes() == column.tobytes()


def test_a_reader_that_overstays_does_not_hold_the_writer_up_at_every_group(tmp_path: Path) -> None:
    store = SqliteStore(DataDirectory(tmp_path), checkpoint_bytes=2**20, truncate_bytes=2**20)
    state = run_state(1, "p/run")
    with store.transaction() as transaction:
        transaction.save(state)
    closings = []
    gate = store._gate.closed
    store._gate.closed = lambda timeout_s: closings.append(timeout_s) or gate(0.01)  # type: ignore[method-assign, func-returns-value]
    with store.snapshot() as view:
        assert view.head(1) is not None
        for pos in range(1, 60):
            state = replace(state, pos=pos)
            with store.transaction() as transaction:
                transaction.save(state, [block(pos, range(pos * 1000, pos * 1000 + 1000), (1, 2, 3, 4))])
            store.maintain()
    assert len(closings) == 1
    store.close()


def test_readers_that_wait_for_a_connection_do_not_keep_the_log_from_being_trimmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Six readers inside, six more waiting; as those inside leave, the gate empties although others still wait."""
    monkeypatch.setattr(sqlite_store, "READ_MAX_S", 1.0)
    store = SqliteStore(DataDirectory(tmp_path), checkpoint_bytes=2**20, truncate_bytes=2**20)
    leave, inside, waiting = threading.Event(), threading.Semaphore(0), threading.Semaphore(0)

    def read(until: threading.Event) -> None:
        waiting.release()
        with store.snapshot():
            inside.release()
            until.wait(10)

    stay = threading.Event()
    readers = [threading.Thread(target=read, args=(leave,)) for _ in range(sqlite_store.READERS)]
    for reader in readers:
        reader.start()
        assert inside.acquire(timeout=5)
    readers += [threading.Thread(target=read, args=(stay,)) for _ in range(sqlite_store.READERS)]
    for reader in readers[sqlite_store.READERS :]:
        reader.start()
    for _ in readers:
        assert waiting.acquire(timeout=5)
    with store.transaction() as transaction:
        transaction.save(run_state(1, "p/run"), [block(1, range(100_000), (1, 2, 3, 4))])
    threading.Timer(0.3, leave.set).start()  # while the writer waits at the gate
    store.maintain()
    stay.set()
    for reader in readers:
        reader.join(10)
    assert store.stats()["store_truncations_total"] == 1
    assert "the log can't be trimmed yet" not in caplog.text
    store.close()


def test_the_warning_says_how_many_reads_last(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = SqliteStore(DataDirectory(tmp_path), checkpoint_bytes=2**20, truncate_bytes=2**20)
    with store.snapshot(), store.snapshot():
        with store.transaction() as transaction:
            transaction.save(run_state(1, "p/run"), [block(1, range(100_000), (1, 2, 3, 4))])
        store.maintain()
    assert "2 of 6 reads last longer than 0.50 s; the log can't be trimmed yet" in caplog.text
    store.close()


def test_a_transaction_left_open_by_a_failed_rollback_is_ended_first(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path)
    store._writer.execute("BEGIN IMMEDIATE")
    store._writer.execute("INSERT INTO tombstones VALUES ('p/ghost', 1.0)")
    with store.transaction() as transaction:
        assert not transaction.is_deleted("p/ghost")
        transaction.save(run_state(1, "p/run"))
    with store.snapshot() as view:
        assert view.load("p/run") is not None
    store.close()


def test_what_may_be_merged_is_found_without_going_through_the_journal(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path)
    names = {"run_id": 1, "first": 0, "last": 2**62, "more": 63, "few": 7}
    plan = [row[3] for row in store._writer.execute(f"EXPLAIN QUERY PLAN {MERGEABLE}", names)]
    store.close()
    assert "SEARCH a USING PRIMARY KEY (run_id=?)" in plan
    by_index = "USING COVERING INDEX journal_by_attempt (counter_id=? AND attempt=? AND rowid>? AND rowid<?)"
    assert [line for line in plan if "journal" in line] == [f"SEARCH journal {by_index}"] * 2
    assert not [line for line in plan if "SCAN" in line or "TEMP B-TREE" in line]


@pytest.mark.parametrize("statement", ["UPDATE audit SET actor = 'x'", "DELETE FROM audit"])
def test_the_audit_can_not_be_changed_even_by_a_mistake_here(tmp_path: Path, statement: str) -> None:
    store = SqliteStore.open(tmp_path)
    with store.transaction() as transaction:
        transaction.append_audit(AuditEntry(0, 1.0, "ada", None, "", "run.delete", "p/one"))
    store.close()
    connection = apsw.Connection(str(tmp_path / "tallyboard.sqlite3"))
    with pytest.raises(apsw.ConstraintError, match="append-only"):
        connection.execute(statement)
    assert connection.execute("SELECT count(*) FROM audit").get == 1
    connection.close()
