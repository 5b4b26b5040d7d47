"""Backups taken while the store is written to, and data directories made of them."""

from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from tallyboard_server.model import Block, RunState
from tallyboard_server.store.protocol import Generation, StoreBusyError, StoreError
from tallyboard_server.store.sqlite import SqliteStore, backup
from tallyboard_server.store.sqlite.backup import check_backup, restore
from tests.contract.blocks import alert, block, points, rich_state, run_state


def begin(store: SqliteStore) -> RunState:
    with store.transaction() as transaction:
        state = run_state(transaction.next_run_id(), "p/run")
        transaction.save(state)
    return state


def append(store: SqliteStore, state: RunState) -> tuple[RunState, Block]:
    made = block(state.pos + 1, range(state.pos * 1000, state.pos * 1000 + 1000), (1, 2, 3))
    state = replace(state, pos=made.pos)
    with store.transaction() as transaction:
        transaction.save(state, [made])
    return state, made


def held(path: Path) -> tuple[int, list[object]]:
    """The run's position and points in a data directory."""
    store = SqliteStore.open(path)
    try:
        with store.snapshot() as view:
            state = view.load("p/run")
            assert state is not None
            return state.pos, list(points(list(view.blocks(state.id, 1, 1))))
    finally:
        store.close()


def test_a_backup_holds_what_was_committed_while_it_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup, "SLICE_PAGES", 4)
    store = SqliteStore.open(tmp_path / "data")
    state = begin(store)
    written = []
    for _ in range(30):
        state, made = append(store, state)
        written.append(made)
    slices = 0
    for share in store.backup(tmp_path / "copy.sqlite3"):
        assert 0.0 <= share <= 1.0
        slices += 1
        if slices <= 20:
            state, made = append(store, state)
            written.append(made)
            store.maintain()
    assert slices > 15
    store.close()
    check_backup(tmp_path / "copy.sqlite3")
    restore(tmp_path / "copy.sqlite3", tmp_path / "restored")
    assert held(tmp_path / "restored") == (state.pos, points(written))


def test_alerts_and_counters_that_do_not_move_are_in_it(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "data")
    with store.transaction() as transaction:
        state = rich_state(transaction.next_run_id(), "p/rich")
        transaction.save(state, alerts=[alert(1), alert(2)])
    for _ in store.backup(tmp_path / "copy.sqlite3"):
        pass
    store.close()
    restore(tmp_path / "copy.sqlite3", tmp_path / "restored")
    restored = SqliteStore.open(tmp_path / "restored")
    with restored.snapshot() as view:
        assert view.alerts(state.id) == [alert(2), alert(1)]
        found = view.load("p/rich")
        assert found is not None
        assert [attempt.unmoved for attempt in found.counters["global_step"].attempts] == [11, 0]
    restored.close()


def test_a_backup_that_is_given_up_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "data")
    state = begin(store)
    copying = store.backup(tmp_path / "copy.sqlite3")
    copying.close()  # type: ignore[attr-defined]
    state, made = append(store, state)
    with store.snapshot() as view:
        assert points(list(view.blocks(state.id, 1, 1))) == points([made])
    store.close()


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "data")
    there = tmp_path / "copy.sqlite3"
    there.write_text("precious")
    with pytest.raises(StoreError, match="exists already"):
        list(store.backup(there))
    assert there.read_text() == "precious"
    store.close()


def test_a_backup_that_begins_anew_for_ever_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup, "SLICE_PAGES", 1)
    monkeypatch.setattr(backup, "_ROUNDS_MAX", 0)
    store = SqliteStore.open(tmp_path / "data")
    with pytest.raises(StoreBusyError, match="too often"):
        list(store.backup(tmp_path / "copy.sqlite3"))
    store.close()


def copy(tmp_path: Path) -> Path:
    """A backup of a store with one run and one live event file."""
    store = SqliteStore.open(tmp_path / "data")
    state, _ = append(store, begin(store))
    with store.transaction() as transaction:
        for number, kind in enumerate(("retired", "live"), 1):
            transaction.save_generation(Generation(state.id, number, f"e.{number}", 1000, 1, 0, 0, 1, 50, kind, 5.0))
    path = tmp_path / "copy.sqlite3"
    list(store.backup(path))
    store.close()
    return path


def test_restored_event_files_are_begun_anew(tmp_path: Path) -> None:
    restore(copy(tmp_path), tmp_path / "restored")
    store = SqliteStore.open(tmp_path / "restored")
    with store.snapshot() as view:
        assert [g.state for g in view.generations(1)] == ["retired", "retired"]
    store.close()
    assert sorted(p.name for p in (tmp_path / "restored").iterdir()) == ["tallyboard.lock", "tallyboard.sqlite3"]


def test_a_directory_that_is_not_empty_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = copy(tmp_path)
    with pytest.raises(StoreError, match=r"is not empty \(it holds tallyboard.sqlite3\)"):
        restore(path, tmp_path / "data")
    assert held(tmp_path / "data")[0] == 1


def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    path = copy(tmp_path)
    store = SqliteStore.open(tmp_path / "other")
    with pytest.raises(StoreBusyError, match="is in use by process"):
        restore(path, tmp_path / "other")
    store.close()


def test_what_is_no_backup_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database" * 1000)
    apsw.Connection(str(tmp_path / "foreign")).execute("CREATE TABLE t (x)")
    newer = apsw.Connection(str(copy(tmp_path)))
    newer.execute("PRAGMA user_version=999")
    newer.close()
    for name, message in (
        ("absent", "there is no file"), ("text", "no backup of Tallyboard"), ("foreign", "is no backup of Tallyboard"),
        ("copy.sqlite3", "newer Tallyboard"),
    ):  # fmt: skip
        with pytest.raises(StoreError, match=message):
            restore(tmp_path / name, tmp_path / "restored")
    assert not (tmp_path / "restored").exists()


def test_a_damaged_backup_is_refused(tmp_path: Path) -> None:
    path = copy(tmp_path)
    data = bytearray(path.read_bytes())
    pages = len(data) // 16384
    for page in range(1, pages):
        data[page * 16384 : page * 16384 + 8] = b"\xff" * 8
    path.write_bytes(data)
    with pytest.raises(StoreError, match="damaged"):
        restore(path, tmp_path / "restored")
    assert not (tmp_path / "restored").exists()
