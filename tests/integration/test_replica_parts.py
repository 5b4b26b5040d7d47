"""Replicas on a real database: who has which shares, who is dead, and what they hear of each other."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from tallyboard.wire import Batch, Columns
from tallyboard_server.ingest import Append, Delete
from tallyboard_server.model import Incident
from tallyboard_server.replicas.replica import MARGIN_S, VALID_S
from tallyboard_server.shares import SHARES
from tallyboard_server.store.protocol import RunHeldError, StoreBusyError, StoreError, Transaction
from tallyboard_server.store.sql.transaction import PURGE_ROWS_MAX
from tests.postgres_stores import PostgresStores
from tests.replicas_kit import CONNECTIONS_MAX, Node, Nodes, joined, settled
from tests.stores import on

pytestmark = on("postgres")
RUN = "p/run"


@pytest.fixture
def nodes(stores: PostgresStores, tmp_path: Path) -> Iterator[Nodes]:
    with joined(stores, tmp_path) as made:
        yield made


def report(node: Node, step: int, run: str = RUN, rows: int = 1) -> None:
    columns = Columns("step", ("loss",), np.arange(step, step + rows), np.full(rows, 1e9), np.full((rows, 1), 0.5))
    node.ingest.submit_blocking(Append(run, Batch(columns=(columns,))))


# ── shares ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_comes_to_have_its_fair_part_and_no_share_is_ever_held_by_two(nodes: Nodes) -> None:
    there: list[Node] = []

    def none_is_held_twice() -> None:
        assert not any(one.shares & other.shares for one, other in combinations(there, 2))

    for count in range(1, 6):
        there.append(nodes.join())
        settled(there, none_is_held_twice)
        assert max(len(node.shares) for node in there) <= -(-SHARES // count)
        assert nodes.holders() == {share: node.replica.id for node in there for share in node.shares}
    for _ in range(3):
        there.pop().replica.stop()
        settled(there, none_is_held_twice)


def test_who_leaves_is_followed_by_the_others_first_turn(nodes: Nodes) -> None:
    stays, leaves = nodes.join(), nodes.join()
    settled([stays, leaves])
    leaves.replica.stop()
    assert leaves.shares == set()
    stays.renew()
    assert len(stays.shares) == SHARES


def test_who_is_gone_is_followed_though_the_databases_clock_was_put_back(nodes: Nodes) -> None:
    stays, gone = nodes.join(), nodes.join()
    settled([stays, gone])
    nodes.query("UPDATE replicas SET valid_until = valid_until + interval '1 h'")
    stays.renew()
    assert len(stays.shares) == SHARES


def test_a_share_is_given_back_after_the_turn_that_works_on_it(nodes: Nodes) -> None:
    busy, new = nodes.join(), nodes.join()
    busy.renew()
    with busy.held.working():
        for _ in range(3):
            new.renew()
            busy.renew()  # and goes on to show that it is alive, however long the turn takes
        assert len(busy.shares) == SHARES // 2  # begins nothing on the others
        assert new.shares == set()
    settled([busy, new])
    assert len(new.shares) == SHARES // 2


def test_whoever_is_out_of_the_databases_reach_stops_by_itself_in_time(nodes: Nodes) -> None:
    node = nodes.join()
    node.renew()
    node.store.close()
    node.clock.now += VALID_S - MARGIN_S - 0.01
    with pytest.raises(StoreError):
        node.replica.turn()
    assert len(node.shares) == SHARES
    node.clock.now += 0.02
    assert node.shares == set()


def test_silent_for_too_long_but_not_missed_by_anybody(nodes: Nodes) -> None:
    node = nodes.join()
    node.renew()
    life, version = node.replica.id, node.held.version
    nodes.silence(node)
    node.renew()
    assert (node.replica.id, node.held.version) == (life, version)
    assert node.replica.stats()["replica_deaths_total"] == 0


def test_who_was_taken_for_dead_begins_anew_and_gets_its_part_again(nodes: Nodes) -> None:
    lives, paused = nodes.join(), nodes.join()
    settled([lives, paused])
    life = paused.replica.id
    nodes.silence(paused)
    lives.renew()
    assert len(lives.shares) == SHARES
    paused.clock.now += VALID_S
    assert paused.shares == set()  # by its own clock
    paused.replica.turn()
    assert paused.shares == set()  # all are held
    assert paused.replica.id != life
    assert paused.replica.stats()["replica_deaths_total"] == 1
    settled([lives, paused])
    assert len(paused.shares) == SHARES // 2


def test_signs_of_life_do_not_wait_for_connections_that_others_have(nodes: Nodes) -> None:
    node = nodes.join()
    node.renew()
    with ExitStack() as busy:
        for _ in range(CONNECTIONS_MAX - 1):
            busy.enter_context(node.store.snapshot())
        begun = time.monotonic()
        node.renew()
        assert time.monotonic() - begun < 2.0
    assert len(node.shares) == SHARES


def test_a_crash_of_the_database_makes_all_begin_anew(nodes: Nodes) -> None:
    """What it knows of replicas it keeps in memory; who holds what it knows still."""
    there = [nodes.join(), nodes.join()]
    settled(there)
    nodes.query("TRUNCATE replicas")
    with pytest.raises(StoreBusyError):
        there[1].replica.fenced(there[1].ingest.record)(lambda _: None)
    settled(there)
    assert [node.replica.stats()["replica_deaths_total"] for node in there] == [1, 1]


# ── the fence ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_a_dead_replica_does_is_refused_and_changes_nothing(nodes: Nodes) -> None:
    lives, paused = nodes.join(), nodes.join()
    settled([lives, paused])
    report(paused, 1)
    ((run_id,),) = nodes.query("SELECT id FROM runs")
    record = paused.replica.fenced(paused.ingest.record)
    kept = Incident(int(str(run_id)), "stalled", "step", 0.0, "warn", "")
    for buried in (False, True):
        nodes.silence(paused)
        if buried:
            lives.renew()
        with pytest.raises(StoreBusyError, match="silent for too long"):
            record(lambda transaction: transaction.save_incident(kept))
    assert nodes.query("SELECT count(*) FROM incidents") == [(0,)]


def test_what_was_begun_before_it_died_is_refused_after_it_came_back(nodes: Nodes) -> None:
    lives, paused = nodes.join(), nodes.join()
    settled([lives, paused])
    record = paused.replica.fenced(paused.ingest.record)
    with paused.held.working():
        nodes.silence(paused)
        lives.renew()
        lives.replica.stop()
        paused.renew()  # it has them all, in a new life
        with pytest.raises(StoreBusyError):
            record(lambda _: None)
        assert paused.shares == set()
    assert len(paused.shares) == SHARES
    record(lambda _: None)


def test_nobody_is_buried_while_a_transaction_of_its_work_is_in_progress(nodes: Nodes) -> None:
    lives, slow = nodes.join(), nodes.join()
    settled([lives, slow])

    def work(_transaction: Transaction) -> None:
        nodes.silence(slow)
        lives.renew()
        assert len(lives.shares) == SHARES // 2
        slow.renew()  # its signs of life do not wait for its work
        nodes.silence(slow)

    slow.replica.fenced(slow.ingest.record)(work)
    lives.renew()
    assert len(lives.shares) == SHARES


def test_work_is_tried_again_while_somebody_has_the_run(nodes: Nodes) -> None:
    one, other = nodes.join(), nodes.join()
    settled([one, other])
    report(one, 1)
    tries = []
    with other.store.transaction({RUN}) as transaction:
        assert transaction.load(RUN) is not None

        def work(own: Transaction) -> None:
            tries.append(1)
            own.load(RUN)

        with pytest.raises(RunHeldError):
            one.ingest.record(work, 0.5)
    assert len(tries) > 1
    one.replica.fenced(one.ingest.record)(work)


# ── news ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_hears_what_the_others_commit(nodes: Nodes) -> None:
    there = [nodes.join() for _ in range(3)]
    settled(there)
    for step in range(1, 4):
        report(there[0], step)
        report(there[1], step, "p/other")
        for node in there:
            node.replica.turn()
    there[0].ingest.submit_blocking(Delete(RUN))
    for _ in range(2):
        for node in there:
            node.replica.turn()
    told = [(item.name, item.blocks, item.deleted) for item in there[2].ear.items]
    assert [item for item in told if item[0] == RUN] == [(RUN, 1, False)] * 3 + [(RUN, 0, True)]
    assert [item for item in told if item[0] == "p/other"] == [("p/other", 1, False)] * 3
    assert [item.name for item in there[0].ear.items] == ["p/other"] * 3
    assert [node.ear.missed_count for node in there] == [0, 0, 0]


def test_the_first_thing_that_a_new_replica_tells_is_heard(nodes: Nodes) -> None:
    old = nodes.join()
    old.renew()
    new = nodes.join()
    new.renew()
    report(new, 1)
    new.replica.turn()
    old.replica.turn()
    assert [item.name for item in old.ear.items] == [RUN]


def test_what_was_told_before_it_joined_is_no_news_to_a_replica(nodes: Nodes) -> None:
    old = nodes.join()
    old.renew()
    report(old, 1)
    old.replica.turn()
    new = nodes.join()
    new.renew()
    assert new.ear.items == []
    assert new.ear.missed_count == 0


def test_who_listens_too_late_is_told_that_it_missed_something(nodes: Nodes) -> None:
    teller, sleeper = nodes.join(), nodes.join()
    settled([teller, sleeper])
    report(teller, 1)
    teller.replica.turn()
    teller.clock.now += 60.0
    report(teller, 2)
    teller.replica.turn()
    sleeper.replica.turn()
    assert [item.blocks for item in sleeper.ear.items] == [1]
    assert sleeper.ear.missed_count == 1


def test_who_dies_may_have_told_something_that_nobody_heard(nodes: Nodes) -> None:
    lives, dies = nodes.join(), nodes.join()
    settled([lives, dies])
    nodes.silence(dies)
    lives.renew()
    assert lives.ear.missed_count == 1


def test_a_backlog_of_another_is_known_until_it_is_gone(nodes: Nodes) -> None:
    behind, other = nodes.join(), nodes.join()
    settled([behind, other])
    for backlog in (10**9, 0, 10**6):
        behind.backlog = backlog
        behind.renew()
        other.replica.turn()
        assert other.replica.backlog_bytes() == backlog
    behind.replica.stop()
    other.replica.turn()
    assert other.replica.backlog_bytes() == 0


def test_what_is_kept_in_memory_is_read_again_when_another_has_changed_it(nodes: Nodes) -> None:
    one, other = nodes.join(), nodes.join()
    settled([one, other])
    assert sorted(set(other.revised)) == ["access", "rules"]  # at first: it may have changed since it was read
    for node in (one, other):
        node.revised.clear()
    one.ingest.record(lambda transaction: transaction.save_rules("p", "{}"))
    for node in (one, other, other):
        node.replica.turn()
    assert other.revised == ["rules"]


# ── deleted runs ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_that_two_remove_is_removed_whole(nodes: Nodes) -> None:
    one, other = nodes.join(), nodes.join()
    for step in range(0, PURGE_ROWS_MAX + 100, 4):
        columns = tuple(
            Columns("step", ("loss",), np.array([step + n]), np.array([1e9]), np.array([[0.5]]), block=n)
            for n in range(4)
        )
        one.ingest.submit_blocking(Append(RUN, Batch(columns=columns)))
    one.ingest.close()  # nor may its own housekeeping
    with one.store.transaction({RUN}) as transaction:
        state = transaction.load(RUN)
        assert state is not None
        transaction.delete_run(state)
    with one.store.transaction() as first:
        assert first.purge()
        with other.store.transaction() as second:
            assert not second.purge()  # there is nothing that nobody removes already
    while True:
        with other.store.transaction() as transaction:
            if not transaction.purge():
                break
    for table in ("journal", "deleted_runs", "tags", "counters", "attempts"):
        assert nodes.query(f"SELECT count(*) FROM {table}") == [(0,)]
