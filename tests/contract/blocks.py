"""Made-up runs and blocks for the store's contract suite."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tallyboard.wire import Alert, Refusal
from tallyboard_server.model import (
    Attempt,
    Block,
    Counter,
    KeptAlert,
    KeptRefusal,
    Producer,
    RunMeta,
    RunState,
    Tag,
    frozen,
)
from tallyboard_server.store.protocol import Store

Reopen = Callable[[], Store]
"""Opens a test's store again, in place of the one opened before."""


def run_state(run_id: int, name: str, **changes: object) -> RunState:
    """A run that holds nothing yet."""
    return replace(RunState(run_id, name, RunMeta(created_at=100.0, updated_at=100.0)), **changes)  # type: ignore[arg-type]


def rich_state(run_id: int, name: str) -> RunState:
    """A run with something in every field."""
    tail = np.array([1, 2], np.int32), np.array([0.5, np.nan])
    attempts = (
        Attempt(1, "p1", 0, 9, 4, *tail, reports=10, scalars=20, unmoved=11),
        Attempt(2, "p2", 5, None, None, np.empty(0, np.int32), np.empty(0)),
    )
    meta = RunMeta(
        created_at=100.0, updated_at=200.25, status="failed", uid="uid-1", group="g", display_name="Über",
        notes="n\nm", tags=("a", "b"), config=frozen({"lr": 0.1, "net": {"depth": 3}}),
        summary=frozen({"acc": None}), provenance=frozen({"host": "h", "pid": 7}), archived=True,
    )  # fmt: skip
    return RunState(
        run_id, name, meta, pos=0, epoch=3,
        counters=frozen({
            "global_step": Counter(1, "global_step", 2**63 - 1, attempts),
            "epoch": Counter(2, "epoch"),
        }),
        tags=frozen({"loss": Tag(1, "loss", 1, 2, 1), "späť": Tag(2, "späť")}),
        producers=frozen({"p1": Producer("p1", 3, (30, 20, 10), b"{}", frozen({"host": "h"}), 150.5)}),
        rewinds=("r1", "r2"),
    )  # fmt: skip


def block(pos: int, steps: list[int] | range, tags: tuple[int, ...] = (1,), **place: object) -> Block:
    """A block whose values follow from position, step and tag, so that a mix-up shows."""
    n = len(steps)
    column = np.array(steps, np.int64)
    values = column[:, None] * 1000.0 + np.array(tags)[None, :] + pos / 1024
    fields = {"counter_id": 1, "attempt": 1, "at": {}} | place
    return Block(
        pos, tag_ids=np.array(tags, np.int32), steps=column, wall_times=np.linspace(1e9 + pos, 1e9 + pos + 1, n),
        values=values, **fields,  # type: ignore[arg-type]
    )  # fmt: skip


def points(blocks: list[Block]) -> list[tuple[int, int, float, float, tuple[tuple[int, int], ...]]]:
    """(tag id, step, wall time, value, at) of every point, sorted: what must be equal however blocks are cut."""
    return sorted(
        (int(tag), int(b.steps[i]), float(b.wall_times[i]), float(b.values[i, j]),
         tuple(sorted((counter, int(column[i])) for counter, column in b.at.items() if column[i] >= 0)))
        for b in blocks
        for i in range(len(b.steps))
        for j, tag in enumerate(b.tag_ids)
    )  # fmt: skip


def refusal(row: int) -> KeptRefusal:
    """A refusal that can be told from others by its row."""
    return KeptRefusal(100.0 + row, "p1", Refusal(0, row, "global_step", 3, None, ["loss"], "step_decreased", "detail"))


def alert(number: int) -> KeptAlert:
    """A kept alert that tells its number."""
    told = Alert(
        title=f"alert {number}", text="line\nline", level="error", wall_time=50.0 + number, at={"epoch": number}
    )
    return KeptAlert(100.0 + number, "p1", told)
