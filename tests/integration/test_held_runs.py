"""Commands whose run another service changes at this moment: they wait in line, keep their order, and not for ever."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tallyboard.wire import Batch, Columns, Open
from tallyboard_server.ingest import Append, Ingest, writer
from tallyboard_server.settings import Settings
from tallyboard_server.store.protocol import RunHeldError, Transaction
from tests.postgres_stores import PostgresStores
from tests.replicas_kit import Node, Nodes, joined
from tests.service import serving, until
from tests.stores import on

pytestmark = on("postgres")
RUN = "p/run"


@pytest.fixture
def nodes(stores: PostgresStores, tmp_path: Path) -> Iterator[Nodes]:
    with joined(stores, tmp_path) as made:
        yield made


@pytest.fixture
def node(nodes: Nodes) -> Node:
    return nodes.join()


@contextmanager
def held(nodes: Nodes, run: str = RUN) -> Iterator[threading.Event]:
    """Another service's transaction has a run, until the event is set or the block ends."""
    other = nodes.join()
    has_it, release = threading.Event(), threading.Event()

    def keep(transaction: Transaction) -> None:
        transaction.load(run)
        has_it.set()
        assert release.wait(30.0)

    def hold() -> None:
        other.ingest.record(keep)  # which tries again: the service that is tested may have it at this moment

    thread = threading.Thread(target=hold)
    thread.start()
    assert has_it.wait(10.0)
    try:
        yield release
    finally:
        release.set()
        thread.join(10.0)


def report(step: int, run: str = RUN, **parts: object) -> Append:
    """All or nothing: out of order it would be refused."""
    columns = Columns("step", ("loss",), np.array([step]), np.array([1e9]), np.array([[0.5]]))
    return Append(run, Batch(columns=(columns,), **parts))  # type: ignore[arg-type]


async def submitted(ingest: Ingest, commands: list[Append]) -> list[Any]:
    """All of them at once, in this order: receipts, or what was raised."""
    done = await asyncio.gather(*(ingest.submit(command) for command in commands), return_exceptions=True)
    return [item if isinstance(item, BaseException) else item.receipt for item in done]


def in_background(ingest: Ingest, commands: list[Append]) -> tuple[threading.Thread, list[Any]]:
    receipts: list[Any] = []
    thread = threading.Thread(target=lambda: receipts.extend(asyncio.run(submitted(ingest, commands))))
    thread.start()
    return thread, receipts


def held_so_far(ingest: Ingest) -> float:
    return ingest.stats()["ingest_held_total"]


def test_commands_of_a_held_run_keep_their_order_and_others_go_on(nodes: Nodes, node: Node) -> None:
    node.ingest.submit_blocking(report(0))
    with held(nodes) as release:
        thread, receipts = in_background(node.ingest, [report(step) for step in range(1, 21)])
        assert until(lambda: held_so_far(node.ingest) > 40)  # several times, all of them
        for step in range(3):
            assert node.ingest.submit_blocking(report(step, "p/other")).receipt.stored == 1
        assert receipts == []
        release.set()
        thread.join(10.0)
    assert [receipt.stored for receipt in receipts] == [1] * 20
    assert [receipt.counters["step"].last_step for receipt in receipts] == list(range(1, 21))


def test_who_is_behind_one_that_waits_for_a_uid_waits_too(nodes: Nodes, node: Node) -> None:
    """An init that another service works on as well has not got a name yet; what comes after it may not be first."""
    other = nodes.join()
    with other.store.transaction() as transaction:
        assert transaction.name_of_uid("uid") is None  # and nobody else may make a run of it
        opening = Append(RUN, Batch(open=Open(uid="uid", resume="new")), explicit=True)
        thread, receipts = in_background(node.ingest, [opening, report(1)])
        assert until(lambda: held_so_far(node.ingest) > 10)
        assert receipts == []
    thread.join(10.0)
    assert [receipt.run for receipt in receipts] == [RUN, RUN]
    assert receipts[0].counters == {}  # it came first


def test_two_that_make_one_run_make_one(nodes: Nodes, node: Node) -> None:
    other = nodes.join()
    with other.store.transaction({RUN}) as transaction:
        assert not transaction.taken(RUN)
        thread, receipts = in_background(node.ingest, [report(1)])
        assert until(lambda: held_so_far(node.ingest) > 0)
    thread.join(10.0)
    assert [receipt.stored for receipt in receipts] == [1]
    assert other.ingest.submit_blocking(report(2)).receipt.counters["step"].last_step == 2
    assert nodes.query("SELECT count(*) FROM runs") == [(1,)]


def test_a_batch_that_is_sent_again_to_another_service_is_applied_once(nodes: Nodes, node: Node) -> None:
    """While the first service still works on it."""
    other = nodes.join()
    batch = report(1, producer="job", seq=2, checksum=7)
    node.ingest.submit_blocking(report(0, producer="job", seq=1, checksum=6))
    with held(nodes) as release:
        first = in_background(node.ingest, [batch])
        second = in_background(other.ingest, [batch])
        assert until(lambda: held_so_far(node.ingest) > 0 and held_so_far(other.ingest) > 0)
        release.set()
        for thread, _ in (first, second):
            thread.join(10.0)
    assert sorted(receipt.replayed for _, receipts in (first, second) for receipt in receipts) == [False, True]
    assert nodes.query("SELECT count(*) FROM journal") == [(2,)]


def test_who_waited_for_too_long_is_told_to_try_again(
    nodes: Nodes, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.ingest.submit_blocking(report(0))
    monkeypatch.setattr(writer, "HELD_MAX_S", 0.2)
    with held(nodes), pytest.raises(RunHeldError, match="another replica"):
        node.ingest.submit_blocking(report(1))
    assert node.ingest.submit_blocking(report(1)).receipt.stored == 1


def test_closing_ends_though_a_run_is_held(nodes: Nodes, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.ingest.submit_blocking(report(0))
    monkeypatch.setattr(writer, "HELD_MAX_S", 0.3)
    with held(nodes):
        thread, receipts = in_background(node.ingest, [report(1)])
        assert until(lambda: held_so_far(node.ingest) > 0)
        node.ingest.close(10.0)
        assert not node.ingest.is_alive()
        thread.join(10.0)
    assert [type(receipt) for receipt in receipts] == [RunHeldError]


def test_over_http_that_is_503_with_retry_after(
    stores: PostgresStores, nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(**(stores.settings(nodes.folder) | {"data_dir": tmp_path / "data", "port": 0}))
    with serving(settings) as service:
        assert service.report(RUN, {"step": 0, "scalars": {"loss": 1.0}}).status == 200
        monkeypatch.setattr(writer, "HELD_MAX_S", 0.2)
        with held(nodes):
            answer = service.report(RUN, {"step": 1, "scalars": {"loss": 1.0}})
            assert answer.status == 503, answer.body
            assert int(answer.headers["Retry-After"]) >= 1
            assert service.points(RUN, "loss") == [(0, 1.0)]  # reading waits for nobody
        assert service.report(RUN, {"step": 1, "scalars": {"loss": 1.0}}).status == 200
