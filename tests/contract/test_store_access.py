"""What every store must do with tokens, sessions of browsers and the audit."""

from contextlib import suppress
from dataclasses import replace

from tallyboard_server.principal import AuditEntry, Session, Token
from tallyboard_server.store.protocol import Store
from tests.contract.blocks import Reopen
from tests.contract.test_store import create
from tests.stores import ENGINES, on

pytestmark = on(*ENGINES)

JOB = Token("job", "CI", "write", "p", b"1" * 32, 2.0, "ada", expires_at=9.5, rate=2.5)
ADA = Token("ada", "ada", "admin", None, b"2" * 32, 1.0, "first start")


def entry(action: str, run: str | None, at: float = 1.0) -> AuditEntry:
    return AuditEntry(0, at, "ada", "ada", "10.0.0.1", action, run, '{"why":"ü"}')


def test_tokens_come_back_as_they_were_oldest_first(reopen: Reopen) -> None:
    store = reopen()
    with store.transaction() as transaction:
        transaction.save_token(JOB)
        transaction.save_token(ADA)
    used = replace(JOB, revoked_at=5.0, last_used_at=4.5)
    with store.transaction() as transaction:
        transaction.save_token(used)
    with reopen().snapshot() as view:
        assert view.tokens() == [ADA, used]


def test_what_was_rolled_back_is_gone(store: Store) -> None:
    with suppress(ZeroDivisionError), store.transaction() as transaction:
        transaction.save_token(JOB)
        transaction.save_session(Session(b"s", "job", 1.0))
        transaction.append_audit(entry("token.create", None))
        raise ZeroDivisionError
    with store.snapshot() as view:
        assert (view.tokens(), view.sessions(), view.audit()) == ([], [], [])


def test_sessions_end_one_by_one_and_with_their_token(reopen: Reopen) -> None:
    store = reopen()
    made = [Session(bytes([number]) * 32, "job" if number % 2 else "ada", 10.0 - number) for number in range(6)]
    with store.transaction() as transaction:
        transaction.save_token(JOB)
        transaction.save_token(ADA)
        for session in made:
            transaction.save_session(session)
    with reopen().snapshot() as view:
        assert view.sessions() == made[::-1]  # that ends first comes first
    store = reopen()
    with store.transaction() as transaction:
        transaction.drop_sessions([made[0].hash, b"nobody's"])
        transaction.drop_sessions_of("job")
    with store.snapshot() as view:
        assert view.sessions() == [made[4], made[2]]
        assert len(view.tokens()) == 2
    with store.transaction() as transaction:
        transaction.drop_token("ada")
    with store.snapshot() as view:
        assert (view.tokens(), view.sessions()) == ([JOB], [])


def test_a_last_use_moves_forward_and_touches_nothing_else(reopen: Reopen) -> None:
    store = reopen()
    with store.transaction() as transaction:
        transaction.save_token(JOB)
        transaction.save_token(ADA)
    with store.transaction() as transaction:
        transaction.touch_tokens({"job": 20.0, "nobody": 30.0, "ada": 25.0})
        transaction.save_token(replace(JOB, revoked_at=21.0, last_used_at=20.0))
    with store.transaction() as transaction:
        transaction.touch_tokens({"job": 19.0, "ada": 26.0})
        transaction.touch_tokens({})
    with reopen().snapshot() as view:
        assert view.tokens() == [replace(ADA, last_used_at=26.0), replace(JOB, revoked_at=21.0, last_used_at=20.0)]


def test_some_tokens_and_sessions_are_looked_up_by_their_keys(store: Store) -> None:
    made = [Session(bytes([number]) * 32, "job", 1.0 + number) for number in range(4)]
    with store.transaction() as transaction:
        transaction.save_token(JOB)
        transaction.save_token(ADA)
        assert transaction.lock_tokens() == [ADA, JOB]
        for session in made:
            transaction.save_session(session)
    with store.snapshot() as view:
        assert view.tokens(["job", "nobody"]) == [JOB]
        assert view.tokens([]) == []
        assert view.sessions([made[2].hash, b"nobody's", made[0].hash]) == [made[0], made[2]]
        assert view.sessions([]) == []
    with store.transaction() as transaction:
        assert transaction.drop_sessions([session.hash for session in made[:2]])
        assert not transaction.drop_sessions([session.hash for session in made[:2]])
        assert not transaction.drop_sessions([])
    with store.snapshot() as view:
        assert view.sessions() == made[2:]


def test_a_login_code_is_good_once_and_the_newest_only(reopen: Reopen) -> None:
    store = reopen()
    with store.transaction() as transaction:
        transaction.save_login_code(b"a" * 32, "job", 5.0)
    with store.transaction() as transaction:
        transaction.save_login_code(b"b" * 32, "ada", 7.0)
    store = reopen()
    for hashed, stands_for in ((b"a" * 32, None), (b"b" * 32, ("ada", 7.0)), (b"b" * 32, None)):
        with store.transaction() as transaction:
            assert transaction.take_login_code(hashed) == stands_for


def test_the_audit_is_told_newest_first_and_by_run_project_and_action(reopen: Reopen) -> None:
    store = reopen()
    told = [
        entry("run.create", "p/one"), entry("run.create", "p/two"), entry("token.create", None),
        entry("run.delete", "p/one"), entry("run.create", "pq/one"),
    ]  # fmt: skip
    with store.transaction() as transaction:
        for one in told:
            transaction.append_audit(one)
    with reopen().snapshot() as view:
        whole = view.audit()
        assert [replace(one, id=0) for one in whole] == told[::-1]
        ids = [one.id for one in whole]
        assert ids == sorted(ids, reverse=True)
        assert [one.run for one in view.audit(prefix="p/")] == ["p/one", "p/two", "p/one"]
        assert [one.action for one in view.audit(run="p/one")] == ["run.delete", "run.create"]
        assert [one.run for one in view.audit(action="token.create")] == [None]
        assert view.audit(limit=2) == whole[:2]
        assert view.audit(before=ids[1]) == whole[2:]


def test_runs_are_counted_by_the_beginning_of_their_names(store: Store) -> None:
    for name in ("p/one", "p/two", "pq/one", "P/one"):
        create(store, name)
    with store.transaction() as transaction:
        assert transaction.runs_at_most("p/", 10) == 2
        assert transaction.runs_at_most("", 10) == 4
        assert transaction.runs_at_most("", 3) == 3
        assert transaction.runs_at_most("q/", 10) == 0


def test_a_store_says_what_tells_it_from_others(reopen: Reopen) -> None:
    with reopen().snapshot() as view:
        mine = view.identity()
    with reopen().snapshot() as view:
        assert view.identity() == mine
    assert len(mine) == 16
    assert int(mine, 16) >= 0
