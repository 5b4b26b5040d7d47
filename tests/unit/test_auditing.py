"""What the audit says of a batch, and that it costs little, however many counters a run has."""

from pathlib import Path

import msgspec
import pytest

from tallyboard.wire import JSON, Batch, Open, decode_batch
from tallyboard_server.contract import apply, new_run
from tallyboard_server.ingest import auditing
from tallyboard_server.model import RunState
from tallyboard_server.principal import SERVICE
from tallyboard_server.store.sqlite import SqliteStore

COUNTERS = 50


def run_with_counters() -> RunState:
    reports = [{"counter": f"c{number}", "step": 1, "scalars": {f"t{number}": 1}} for number in range(COUNTERS)]
    body = msgspec.json.encode({"producer": "first", "seq": 1, "reports": reports})
    batch = decode_batch(body, JSON, now=1.0)
    return apply(new_run(1, "p/run", now=1.0), batch, now=1.0, last_step_before=lambda *_: None).state


def test_who_takes_counters_over_is_told_with_one_look_at_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = run_with_counters()
    batch = Batch(producer="next", seq=1, open=Open())
    after = apply(before, batch, now=2.0, last_step_before=lambda *_: 1).state
    looks: list[RunState] = []
    writers = auditing._writers

    def counted(state: RunState) -> dict[str, str]:
        looks.append(state)
        return writers(state)

    monkeypatch.setattr(auditing, "_writers", counted)
    monkeypatch.setattr(auditing, "COUNTERS_NAMED_MAX", 10)
    store = SqliteStore.open(tmp_path)
    try:
        with store.transaction() as transaction:
            auditing.note_batch(transaction, 2.0, SERVICE, batch, before, after)
        assert len(looks) == 2
        with store.snapshot() as view:
            (entry,) = view.audit(action="run.take_over")
        detail = msgspec.json.decode(entry.detail)
        assert (len(detail["counters"]), detail["more"]) == (10, COUNTERS - 10)
        assert detail["counters"]["c3"] == ["first", "next"]
    finally:
        store.close()
