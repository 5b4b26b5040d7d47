"""Whatever is asked of the writer, and whatever fails: the audit has an entry for each thing done, and no other."""

import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tallyboard.wire import Batch, Columns, Open, Rewind
from tallyboard_server.contract import ContractError
from tallyboard_server.ingest import Append, Command, Delete, Done, Ingest, Patch
from tallyboard_server.ingest.errors import IngestError
from tallyboard_server.principal import Principal
from tallyboard_server.store.protocol import Store, StoreError, Transaction
from tallyboard_server.store.sqlite import SqliteStore

NAMES = st.sampled_from(["a/one", "a/two", "b/one"])
PEOPLE = st.sampled_from(
    [Principal("ada", "admin", project="a", token="tb_a"), Principal("bob", "admin", address="192.0.2.1")]
)
PRODUCERS = st.sampled_from([None, "p1", "p2"])


def columns(step: int) -> tuple[Columns, ...]:
    return (Columns("global_step", ("loss",), np.array([step]), np.full(1, 1e9), np.full((1, 1), 0.5)),)


@st.composite
def commands(draw: st.DrawFn) -> Command:
    name, by, kind = draw(NAMES), draw(PEOPLE), draw(st.sampled_from(["report", "open", "rewind", "patch", "delete"]))
    producer = draw(PRODUCERS)
    step = draw(st.integers(0, 9))
    match kind:
        case "report":
            return Append(name, Batch(producer=producer, columns=columns(step), nbytes=100), by=by)
        case "open":
            opening = Open(uid=draw(st.sampled_from([None, "u1", "u2"])), resume=draw(st.sampled_from(
                ["new", "continue", "must"])))  # fmt: skip
            return Append(name, Batch(producer=producer, open=opening), explicit=draw(st.booleans()), by=by)
        case "rewind":
            rewind = Rewind(next_steps={"global_step": step}, reason="why", id=draw(st.sampled_from([None, "r1"])))
            return Append(name, Batch(producer=producer, rewind=rewind), create=False, by=by)
        case "patch":
            return Patch(name, {"notes": "n"}, by=by)
    return Delete(name, by=by)


class Failing:
    """A real store whose every commit may be ordered to fail."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.fails = False

    @contextmanager
    def transaction(self, runs: Collection[str] = ()) -> Iterator[Transaction]:
        with self._store.transaction(runs) as transaction:
            yield transaction
            if self.fails:
                raise StoreError("ordered")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def attempts(done: Done) -> int:
    return sum(len(counter.attempts) for counter in done.state.counters.values())


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(commands(), st.sampled_from([False, False, False, True])), max_size=12))
def test_an_entry_for_each_thing_done_and_for_nothing_else(asked: list[tuple[Command, bool]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        inner = SqliteStore.open(Path(folder))
        store = Failing(inner)
        ingest = Ingest(store, clock=lambda: 5.0)
        ingest.start()
        expected: list[tuple[str, str, str]] = []
        try:
            for command, fails in asked:
                store.fails = fails
                before = _attempts_now(inner, command)
                try:
                    done = ingest.submit_blocking(command)
                except (ContractError, IngestError, StoreError):
                    continue
                finally:
                    store.fails = False
                expected += [(action, done.state.name, command.by.name) for action in told(command, done, before)]
            with inner.snapshot() as view:
                kept = [entry for entry in view.audit(limit=1000) if entry.action != "run.take_over"]
        finally:
            ingest.close()
            inner.close()
    assert [(entry.action, entry.run, entry.actor) for entry in reversed(kept)] == expected
    assert all(msgspec.json.decode(entry.detail) is not None and entry.at == 5.0 for entry in kept)


def _attempts_now(store: Store, command: Command) -> int:
    with store.snapshot() as view:
        state = view.load(command.name)
    return 0 if state is None else sum(len(counter.attempts) for counter in state.counters.values())


def told(command: Command, done: Done, attempts_before: int) -> list[str]:
    """What the audit has to say of a command that was carried out."""
    if isinstance(command, Patch):
        return ["run.change"]
    if isinstance(command, Delete):
        return ["run.delete"]
    created = ["run.create"] if done.created else []
    rewound = command.batch.rewind is not None and attempts(done) > attempts_before
    return created + (["run.rewind"] if rewound else [])
