"""Tokens, sessions and one-time codes of services that share a store: what one makes or ends, all take or refuse."""

import asyncio
import http.client
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from http.cookies import SimpleCookie
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlencode

import pytest

from tallyboard_server.access import (
    Access,
    AccessError,
    LastAdminTokenError,
    TokenRefusedError,
    TokensTooManyError,
    TokenWanted,
)
from tallyboard_server.access import access as access_module
from tallyboard_server.access import sessions as sessions_module
from tallyboard_server.access.lookups import PAUSE_S
from tallyboard_server.access.memory import Memory
from tallyboard_server.access.tokens import Book, new_text
from tallyboard_server.principal import SERVICE, Principal
from tallyboard_server.settings import Settings
from tallyboard_server.store.protocol import Snapshot, Store, StoreBusyError, StoreError, Transaction
from tests.access_kit import bearer
from tests.service import RunningService, serving, until
from tests.sse import listening
from tests.stores import Stores, on

pytestmark = on("postgres")

ADMIN = TokenWanted("admin", "ada")
T = TypeVar("T")


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Counted:
    """A store whose snapshots are counted."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.shared = store.shared
        self.taken = 0

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        self.taken += 1
        with self.store.snapshot() as view:
            yield view

    def transaction(self) -> object:
        return self.store.transaction()


class Several:
    """Services on one database, as far as they let people in; each with a store of its own."""

    def __init__(self, stores: Stores, folder: Path, clock: Clock) -> None:
        self._stores = stores
        self._folder = folder
        self._clock = clock
        self.opened: list[Counted] = []
        self._access: list[Access] = []

    def access(self, token: str | None = None, *, may_be_open: bool = True) -> Access:
        store = Counted(self._stores.open(self._folder))
        made = Access(token, may_be_open=may_be_open, clock=self._clock)

        def record(work: Callable[[Transaction], None]) -> None:
            with store.store.transaction() as transaction:
                work(transaction)

        made.open(store, record)  # type: ignore[arg-type]
        self.opened.append(store)
        self._access.append(made)
        return made

    def close(self) -> None:
        for access in self._access:
            access.close()
        for store in self.opened:
            store.store.close()
        self._stores.remove(self._folder)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def several(stores: Stores, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Several]:
    monkeypatch.setattr(access_module, "_ROUNDS", 1)
    found = Several(stores, tmp_path / "shared", clock)
    yield found
    found.close()


def who(access: Access, text: str) -> Principal:
    """Who gave a token, as a request would learn it."""
    return asyncio.run(access.who_gave(text.encode(), "10.0.0.1"))


def is_open(access: Access) -> bool:
    return access.is_open


def whose(access: Access, cookie: str) -> Principal | None:
    return asyncio.run(access.whose(f"{access.cookie_name}={cookie}".encode(), "10.0.0.1"))


def at_once(*calls: Callable[[], T]) -> list[T | AccessError]:
    """What came of calls that began together, each on a thread of its own."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], T]) -> T | AccessError:
        barrier.wait(10)
        try:
            return call()
        except AccessError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


# tokens


def test_a_token_is_good_on_all_at_once(several: Several) -> None:
    one, other = several.access(), several.access()
    _, first = one.create(ADMIN, SERVICE)
    token, text = other.create(TokenWanted("write", project="p"), who(other, first))
    assert who(one, text).token == token.id
    assert [found.id for found in one.listed(SERVICE)] == [found.id for found in other.listed(SERVICE)]


def test_wrong_tokens_cost_a_query_whether_their_id_is_known_or_not(several: Several) -> None:
    one = several.access()
    token, text = one.create(ADMIN, SERVICE)
    queries = several.opened[0]
    for wrong in (f"tb_{token.id}_{'A' * 43}", new_text()[1]):
        before = queries.taken
        with pytest.raises(TokenRefusedError, match="the token is wrong"):
            who(one, wrong)
        assert queries.taken == before + 1, "the time that it takes tells nothing of which ids there are"
    before = queries.taken
    who(one, text)
    for no_token in ("", "x", "s3cret", text[:-1], "ü" * 50):
        with pytest.raises(TokenRefusedError):
            who(one, no_token)
    assert queries.taken == before


def test_a_flood_of_wrong_tokens_is_no_flood_of_queries_and_keeps_no_right_one_waiting(several: Several) -> None:
    one, other = several.access(), several.access()
    one.create(ADMIN, SERVICE)
    _, text = one.create(ADMIN, SERVICE)
    queries = several.opened[1]
    before = queries.taken

    async def ask(given: str) -> float | None:
        begun = time.monotonic()
        try:
            await other.who_gave(given.encode(), "10.0.0.1")
        except TokenRefusedError:
            return None
        except StoreBusyError:
            return -1.0
        return time.monotonic() - begun

    async def flood() -> list[float | None]:
        asked = []
        for _ in range(20):
            asked += [asyncio.create_task(ask(new_text()[1])) for _ in range(200)]
            await asyncio.sleep(0.01)
        asked.append(asyncio.create_task(ask(text)))
        return list(await asyncio.gather(*asked))

    begun = time.monotonic()
    *wrong, took = asyncio.run(flood())
    spent = time.monotonic() - begun
    assert took is not None
    assert 0.0 <= took < 2.0
    assert set(wrong) <= {None, -1.0}
    assert wrong.count(None) >= 1_000
    assert queries.taken - before <= spent / PAUSE_S + 2


def test_what_could_not_be_looked_up_is_not_refused(several: Several) -> None:
    one, other = several.access(), several.access()
    _, known = one.create(ADMIN, SERVICE)
    assert who(other, known)
    _, text = one.create(ADMIN, SERVICE)
    several.opened[1].store.close()
    assert who(other, known), "what is known needs no store"
    with pytest.raises(StoreError, match="could not be looked up"):
        who(other, text)
    with pytest.raises(StoreError, match="could not be looked up"):
        whose(other, "c" * 43)


def test_a_last_use_never_undoes_a_revocation(several: Several, clock: Clock) -> None:
    one, other = several.access(), several.access()
    one.create(ADMIN, SERVICE)
    token, text = one.create(TokenWanted("write"), SERVICE)
    clock.now += 50
    assert who(other, text).token == token.id
    one.revoke(token.id, SERVICE)
    clock.now += 50
    other.save()
    fresh = several.access()
    with pytest.raises(TokenRefusedError, match="was revoked"):
        who(fresh, text)
    (seen,) = [found for found in fresh.listed(SERVICE) if found.id == token.id]
    assert (seen.revoked_at, seen.last_used_at) == (1_000_050.0, 1_000_050.0)
    other.reload()
    assert until(lambda: not other.is_good(Principal("x", "write", token=token.id)), 5.0)
    with pytest.raises(TokenRefusedError, match="was revoked"):
        who(other, text)


def test_the_later_of_two_last_uses_is_kept(several: Several, clock: Clock) -> None:
    one, other = several.access(), several.access()
    token, text = one.create(ADMIN, SERVICE)
    for access in (one, other):
        clock.now += 40
        who(access, text)
    clock.now += 61
    other.save()
    one.save()
    for access in (one, other):
        assert [found.last_used_at for found in access.listed(SERVICE)] == [1_000_080.0], token.id


def test_bounds_hold_for_all_services_together(several: Several, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallyboard_server.access.rules.TOKENS_MAX", 4)
    one, other = several.access(), several.access()
    one.create(ADMIN, SERVICE)
    made = at_once(*(lambda access=access: access.create(ADMIN, SERVICE) for access in (one, other) * 4))
    assert sum(isinstance(outcome, TokensTooManyError) for outcome in made) == 5
    assert len(several.access().listed(SERVICE)) == 4


def test_two_services_do_not_revoke_the_last_two_admins(several: Several) -> None:
    one, other = several.access(), several.access()
    for _ in range(5):
        tokens = [one.create(ADMIN, SERVICE)[0] for _ in range(2)]
        for stale in one.listed(SERVICE):
            if stale.revoked_at is None and stale not in tokens:
                one.revoke(stale.id, SERVICE)
        revoked = zip((one, other), tokens, strict=True)
        outcomes = at_once(*(partial(access.revoke, token.id, SERVICE) for access, token in revoked))
        assert sorted(isinstance(outcome, LastAdminTokenError) for outcome in outcomes) == [False, True]


def test_who_found_a_service_open_makes_no_token_once_another_has(several: Several) -> None:
    one, other = several.access(), several.access()
    one.create(ADMIN, SERVICE)
    assert is_open(other), "for a moment, until it hears of the token"
    with pytest.raises(TokenRefusedError, match="from now on this service asks for one"):
        other.create(ADMIN, Principal("anybody", "admin"))
    assert not is_open(other)
    assert len(several.access().listed(SERVICE)) == 1


def test_of_services_that_start_together_one_makes_the_first_token(
    several: Several, monkeypatch: pytest.MonkeyPatch
) -> None:
    several.access(may_be_open=True)  # the database is there
    all_have_looked, decide = threading.Barrier(4), Memory.decide

    def decide_together(memory: Memory, work: Callable[[Transaction, Book], T]) -> T:
        all_have_looked.wait(10)
        return decide(memory, work)

    with monkeypatch.context() as patched:
        patched.setattr(Memory, "decide", decide_together)
        started = at_once(*(lambda: several.access(may_be_open=False) for _ in range(4)))
    found = [access for access in started if isinstance(access, Access)]
    assert len(found) == 4
    (maker,) = [access for access in found if access.first is not None]
    assert [access.is_made_elsewhere for access in found if access is not maker] == [True] * 3
    assert not maker.is_made_elsewhere
    assert maker.first is not None
    token = who(maker, maker.first.text)
    assert all(who(access, maker.first.text).token == token.token for access in found)
    (listed,) = maker.listed(SERVICE)
    assert listed.scope == "admin"
    again = several.access(may_be_open=False)
    assert (again.first, again.is_made_elsewhere) == (None, False)
    code = maker.first.code
    used = at_once(*(lambda access=access: access.of_code(code, "") for access in found))
    assert sum(isinstance(outcome, Principal) for outcome in used) == 1, "once, on whichever it comes to"


# sessions


def test_a_session_is_known_on_all_at_once_and_ends_on_all(several: Several) -> None:
    one, other = several.access("s3cret"), several.access("s3cret")
    token, text = one.create(TokenWanted("read"), who(one, "s3cret"))
    for given, stands_for in (("s3cret", "TALLYBOARD_TOKEN"), (text, token.id)):
        cookie = one.log_in(who(one, given))
        found = whose(other, cookie)
        assert found is not None
        assert found.token == stands_for
        other.log_out(f"{other.cookie_name}={cookie}".encode())
        assert whose(other, cookie) is None
        other.save()
        one.reload()
        assert until(lambda: whose(one, cookie) is None, 5.0)  # noqa: B023
    cookie = other.log_in(who(other, text))
    assert whose(one, cookie) is not None
    one.revoke(token.id, SERVICE)
    assert whose(one, cookie) is None
    other.reload()
    assert until(lambda: whose(other, cookie) is None, 5.0)
    with several.opened[0].store.snapshot() as view:
        assert view.sessions() == []


def test_a_session_of_a_token_that_is_new_to_a_service_is_not_ended_by_it(several: Several, clock: Clock) -> None:
    one, other = several.access(), several.access()
    one.create(ADMIN, SERVICE)
    _, text = one.create(TokenWanted("read"), SERVICE)
    cookie = one.log_in(who(one, text))
    clock.now += 61
    other.save()
    assert whose(other, cookie) is not None
    clock.now += 61
    other.save()
    assert whose(one, cookie) is not None
    assert whose(several.access(), cookie) is not None


def test_nobody_is_logged_in_whom_others_would_not_know(several: Several) -> None:
    one = several.access("s3cret")
    by = who(one, "s3cret")
    several.opened[0].store.close()
    with pytest.raises(StoreError):
        one.log_in(by)


def test_sessions_are_about_bounded_across_services(
    several: Several, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setattr(sessions_module.Sessions.__init__, "__defaults__", ((), 6))
    one, other = several.access("s3cret"), several.access("s3cret")
    by = who(one, "s3cret")
    cookies = []
    for _ in range(5):
        clock.now += 1
        cookies += [one.log_in(by), other.log_in(by)]
    for access in (one, other):
        access._memory._read()
        access.save()
    with several.opened[0].store.snapshot() as view:
        assert len(view.sessions()) == 6
    assert [whose(one, cookie) is not None for cookie in cookies] == [False] * 4 + [True] * 6


# whole services


@pytest.fixture(scope="module")
def trio(stores: Stores, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RunningService]]:
    """Three that share a database, and all have one TALLYBOARD_TOKEN."""
    folder = tmp_path_factory.mktemp("trio")
    with ExitStack() as stack:
        found = []
        for number in range(3):
            own = {"data_dir": folder / str(number), "logdir": folder / "logdir", "port": 0, "token": "s3cret"}
            settings = Settings(**(stores.settings(folder) | own | {"watchdogs": False, "tensorboard": False}))
            found.append(stack.enter_context(serving(settings)))
        yield found


def make(service: RunningService, scope: str, project: str | None = None) -> tuple[str, str]:
    made = service.send("POST", "/tokens", {"scope": scope, "project": project})
    assert made.status == 201, made.body
    return made.json()["id"], made.json()["token"]


def status(service: RunningService, headers: dict[str, str], path: str = "/api/v1/runs") -> int:
    return service.pool.request("GET", service.url + path, headers=headers, redirect=False).status


def refuses(service: RunningService, headers: dict[str, str]) -> bool:
    """Whether it lets nobody in by these; 429: nor listens to so many wrong tokens from one address."""
    return status(service, headers) in (401, 429)


def seconds_until(condition: Callable[[], bool]) -> float:
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < 10
        time.sleep(0.02)
    return time.monotonic() - begun


def test_a_token_is_taken_and_refused_by_all(trio: list[RunningService]) -> None:
    token_id, text = make(trio[0], "read")
    assert [status(service, bearer(text)) for service in trio] == [200] * 3
    assert trio[2].request("DELETE", f"/api/v1/tokens/{token_id}").status == 204
    assert refuses(trio[2], bearer(text))
    took = seconds_until(lambda: all(refuses(service, bearer(text)) for service in trio))
    assert took < 1.0


def test_streams_end_with_a_token_that_another_service_revoked(trio: list[RunningService]) -> None:
    token_id, text = make(trio[0], "read")
    with listening(trio[1], "", f"Authorization: Bearer {text}", "Connection: close") as stream:
        assert stream.event()[0] == "hello"
        begun = time.monotonic()
        trio[0].request("DELETE", f"/api/v1/tokens/{token_id}")
        assert stream.event() == ("", None)
        assert time.monotonic() - begun < 1.5


def test_an_export_breaks_off_with_a_token_that_another_service_revoked(trio: list[RunningService]) -> None:
    for first in range(0, 40_000, 10_000):
        reports = [
            {"step": step, "scalars": {f"t{tag}": 0.5 + tag for tag in range(4)}}
            for step in range(first, first + 10_000)
        ]
        sent = trio[0].report("p/long", {"reports": reports})
        assert sent.status == 200, sent.body[:300]
    token_id, text = make(trio[0], "read", "p")
    with closing(http.client.HTTPConnection("127.0.0.1", trio[1].port, timeout=15.0)) as connection:
        connection.request("GET", "/api/v1/export/p/long?format=jsonl", headers=bearer(text))
        answer = connection.getresponse()
        assert answer.status == 200
        answer.read(1_000)
        trio[2].request("DELETE", f"/api/v1/tokens/{token_id}")
        assert seconds_until(lambda: refuses(trio[1], bearer(text))) < 1.0
        with pytest.raises(http.client.IncompleteRead):  # its last chunk is missing
            answer.read()


def test_a_browser_may_be_sent_to_another_service_after_each_request(trio: list[RunningService]) -> None:
    _, text = make(trio[0], "read")
    form = urlencode({"token": text, "next": ""}).encode()
    accept = {"Accept": "text/html", "Content-Type": "application/x-www-form-urlencoded"}
    answer = trio[0].pool.request("POST", f"{trio[0].url}/login", body=form, headers=accept, redirect=False)
    assert answer.status == 303
    cookie = SimpleCookie(answer.headers["set-cookie"])
    (name,) = cookie
    held = {"Cookie": f"{name}={cookie[name].value}"}
    assert [status(service, held) for service in trio] == [200] * 3
    left = trio[1].pool.request("POST", f"{trio[1].url}/logout", headers=held, redirect=False)
    assert left.status == 303
    assert status(trio[1], held) == 401
    assert seconds_until(lambda: all(status(service, held) == 401 for service in trio)) < 1.0
