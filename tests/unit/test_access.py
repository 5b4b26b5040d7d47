"""Who gets in: tokens and how they are looked up, sessions, one-time codes, and which tokens may be made."""

import hmac
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallyboard_server.access import (
    ENVIRONMENT_TOKEN,
    SESSION_S,
    TOKENS_MAX,
    TRIES_MAX,
    TRIES_S,
    Access,
    AdminTokenFirstError,
    BeyondOwnError,
    LastAdminTokenError,
    Sessions,
    TokenNotFoundError,
    TokenRefusedError,
    TokensTooManyError,
    TokenWanted,
    Tries,
)
from tallyboard_server.access import access as access_module
from tallyboard_server.access import tokens as tokens_module
from tallyboard_server.access.codes import CODE_S, new_code
from tallyboard_server.access.sessions import cookie_value
from tallyboard_server.access.tokens import ENDED_KEPT_MAX, Book, hashed, new_text
from tallyboard_server.api.login import checked_next
from tallyboard_server.principal import SERVICE, Principal, Token
from tallyboard_server.store.protocol import StoreFullError, Transaction
from tallyboard_server.store.sqlite.store import SqliteStore

ADMIN = TokenWanted("admin", "ada")


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Kept:
    """A store, and services on it one after the other. broken: it takes nothing."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.store = SqliteStore.open(folder)
        self.clock = clock
        self.broken = False
        self._open: list[Access] = []

    def record(self, work: Callable[[Transaction], None]) -> None:
        if self.broken:
            raise StoreFullError("the disk is full")
        with self.store.transaction() as transaction:
            work(transaction)

    def access(self, token: str | None = None, *, may_be_open: bool = True) -> Access:
        made = Access(token, may_be_open=may_be_open, clock=self.clock)
        made.open(self.store, self.record)
        self._open.append(made)
        return made

    def close(self) -> None:
        for made in self._open:
            made.close()
        self.store.close()

    def told(self, action: str) -> list[str]:
        with self.store.snapshot() as view:
            return [entry.detail for entry in view.audit(action=action)]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def kept(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    monkeypatch.setattr(access_module, "_ROUNDS", 1)
    found = Kept(tmp_path / "data", clock)
    yield found
    found.close()


def who(access: Access, text: str) -> Principal:
    return access.of_token(text.encode(), "10.0.0.1")


def is_open(access: Access) -> bool:
    return access.is_open


def header(access: Access, value: str) -> bytes:
    return f"theme=dark; {access.cookie_name}={value}; a=b".encode("latin-1")


# tokens


def test_a_text_has_256_random_bits_and_a_public_id() -> None:
    made = {new_text() for _ in range(200)}
    assert len(made) == 200
    for token_id, text in made:
        prefix, own_id, secret = text.split("_", 2)
        assert (prefix, own_id) == ("tb", token_id)
        assert (len(token_id), len(secret)) == (10, 43)


def test_a_lookup_takes_one_sum_and_one_comparison_whatever_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    token_id, text = new_text()
    book = Book([Token(token_id, "n", "read", None, hashed(text.encode()), 0.0, "a")])
    done: list[str] = []
    compare, sha256 = hmac.compare_digest, hashed

    def counted_compare(one: bytes, other: bytes) -> bool:
        assert len(one) == len(other) == 32  # of one length, so that it does not give up early
        done.append("compare")
        return compare(one, other)

    def counted_sum(given: bytes) -> bytes:
        done.append("sum")
        return sha256(given)

    monkeypatch.setattr(hmac, "compare_digest", counted_compare)
    monkeypatch.setattr(tokens_module, "hashed", counted_sum)
    wrong = [b"", b"x", b"\xff", f"{text}x".encode(), text[:-1].encode(), f"tb_{token_id}_".encode() + b"A" * 43,
             b"tb_0000000000_" + b"A" * 43, b"y" * 100_000]  # fmt: skip
    for given_text in wrong:
        with pytest.raises(TokenRefusedError, match="the token is wrong"):
            book.holder(given_text, 1.0)
        assert sorted(done) == ["compare", "sum"], given_text
        done.clear()
    assert book.holder(text.encode(), 1.0).id == token_id
    assert sorted(done) == ["compare", "sum"]


@given(st.binary(max_size=200))
def test_no_text_is_too_odd(text: bytes) -> None:
    with pytest.raises(TokenRefusedError):
        Book().holder(text, 0.0)


def test_the_store_has_no_text_and_it_works_after_a_restart(kept: Kept, tmp_path: Path) -> None:
    token, text = kept.access().create(ADMIN, SERVICE)
    again = kept.access()
    assert who(again, text) == Principal("ada", "admin", None, token.id, "10.0.0.1")
    secret = text.split("_", 2)[2].encode()
    kept.close()
    assert not any(secret in path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file())


def test_expired_and_revoked_ones_are_told_apart_from_wrong_ones(kept: Kept, clock: Clock) -> None:
    access = kept.access()
    access.create(ADMIN, SERVICE)
    short, text = access.create(TokenWanted("read", expires_s=10.0), SERVICE)
    other, other_text = access.create(TokenWanted("write", project="p"), SERVICE)
    clock.now += 9
    assert who(access, text).name == short.id
    clock.now += 1
    with pytest.raises(TokenRefusedError, match=f"{short.id} has expired"):
        who(access, text)
    access.revoke(other.id, SERVICE)
    with pytest.raises(TokenRefusedError, match=f"{other.id} was revoked"):
        who(access, other_text)


def test_the_environments_token_and_the_services_own_are_in_no_store(kept: Kept) -> None:
    access = kept.access("s3cret")
    assert who(access, "s3cret") == Principal(ENVIRONMENT_TOKEN, "admin", token=ENVIRONMENT_TOKEN, address="10.0.0.1")
    own = who(access, access.own_token)
    assert (own.name, own.scope, own.project, own.token) == ("service", "write", None, None)
    assert access.own_token != kept.access().own_token
    for wrong in ("", "s3cre", "s3cretx", "S3CRET", "tökén", access.own_token[:-1]):
        with pytest.raises(TokenRefusedError):
            who(access, wrong)


# open or not


def test_once_a_token_was_made_it_stays_closed(kept: Kept, clock: Clock) -> None:
    access = kept.access()
    assert is_open(access)
    for wanted in (TokenWanted("read"), TokenWanted("write"), TokenWanted("admin", project="p")):
        with pytest.raises(AdminTokenFirstError, match="--scope admin"):
            access.create(wanted, SERVICE)
    assert is_open(access)
    token, _ = access.create(TokenWanted("admin", expires_s=5.0), SERVICE)
    clock.now += 6
    assert not is_open(access)
    assert not is_open(kept.access())
    access.revoke(token.id, SERVICE)
    assert not is_open(kept.access())


def test_what_ended_is_forgotten_but_never_so_that_it_opens(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    access = kept.access()
    access.create(ADMIN, SERVICE)
    monkeypatch.setattr(Book.too_many_ended, "__defaults__", (2,))
    ended = []
    for _ in range(5):
        token, _ = access.create(TokenWanted("read"), SERVICE)
        access.revoke(token.id, SERVICE)
        ended.append(token.id)
    access.create(TokenWanted("read"), SERVICE)
    for found in (access, kept.access()):
        left = [token.id for token in found.listed(SERVICE) if token.revoked_at is not None]
        assert sorted(left) == sorted(ended[-2:]) or len(left) == 2
    assert ENDED_KEPT_MAX >= 1


def test_off_loopback_a_first_start_makes_an_admins_token(kept: Kept, clock: Clock) -> None:
    access = kept.access(may_be_open=False)
    assert access.first is not None
    assert not is_open(access)
    made = who(access, access.first.text)
    assert (made.scope, made.project) == ("admin", None)
    assert access.of_code(access.first.code, "").token == made.token
    with pytest.raises(TokenRefusedError, match="used before"):
        access.of_code(access.first.code, "")
    assert len(kept.told("token.create")) == 1
    again = kept.access(may_be_open=False)
    assert again.first is None
    assert who(again, access.first.text) == made
    token, _ = again.create(TokenWanted("admin", expires_s=5.0), SERVICE)
    again.revoke(made.token or "", SERVICE)
    clock.now += 6  # the other one has expired: nobody could get in any more
    third = kept.access(may_be_open=False)
    assert third.first is not None
    assert kept.access("s3cret", may_be_open=False).first is None
    assert token.id in [one.id for one in third.listed(SERVICE)]


def test_a_code_lets_one_in_within_an_hour(kept: Kept, clock: Clock) -> None:
    access = kept.access(may_be_open=False)
    assert access.first is not None
    code = access.first.code
    for wrong in ("", code[:-1], f"{code}x", "ü" * 43, new_code()):
        with pytest.raises(TokenRefusedError, match="wrong, too old, or was used"):
            access.of_code(wrong, "")
    clock.now += CODE_S
    with pytest.raises(TokenRefusedError, match="too old"):
        access.of_code(code, "")


def test_a_code_stands_for_its_token_only_while_that_is_good(kept: Kept) -> None:
    access = kept.access(may_be_open=False)
    assert access.first is not None
    first = who(access, access.first.text)
    access.create(ADMIN, SERVICE)
    access.revoke(first.token or "", SERVICE)
    with pytest.raises(TokenRefusedError, match="the link is wrong"):
        access.of_code(access.first.code, "")


# who may make and revoke which


def test_the_last_admin_of_all_projects_stays(kept: Kept) -> None:
    access = kept.access()
    token, _ = access.create(ADMIN, SERVICE)
    access.create(TokenWanted("admin", project="p"), SERVICE)
    access.create(TokenWanted("write"), SERVICE)
    with pytest.raises(LastAdminTokenError, match="TALLYBOARD_TOKEN"):
        access.revoke(token.id, SERVICE)
    assert kept.told("token.revoke") == []
    other, _ = access.create(ADMIN, SERVICE)
    assert access.revoke(token.id, SERVICE).revoked_at is not None
    assert access.revoke(token.id, SERVICE).revoked_at is not None  # changes nothing more
    assert len(kept.told("token.revoke")) == 1
    with pytest.raises(LastAdminTokenError):
        access.revoke(other.id, SERVICE)
    kept.access("s3cret").revoke(other.id, SERVICE)
    for nobody in ("nobody", ENVIRONMENT_TOKEN, ""):
        with pytest.raises(TokenNotFoundError):
            access.revoke(nobody, SERVICE)


def test_a_projects_admin_stays_within_its_own(kept: Kept, clock: Clock) -> None:
    access = kept.access()
    ada, _ = access.create(ADMIN, SERVICE)
    boss, text = access.create(TokenWanted("admin", "boss", "p/q", expires_s=100.0, rate=5.0), SERVICE)
    by = who(access, text)
    clock.now += 40
    for wanted, why in (
        (TokenWanted("read"), "for project 'p/q' only"),
        (TokenWanted("read", project="p"), "for project 'p/q' only"),
        (TokenWanted("read", project="p/qq"), "for project 'p/q' only"),
        (TokenWanted("read", project="p/q", rate=6.0), "5 requests a second"),
        (TokenWanted("read", project="p/q", expires_s=61.0), "expires in 60 s"),
    ):
        with pytest.raises(BeyondOwnError, match=why):
            access.create(wanted, by)
    made, _ = access.create(TokenWanted("write", project="p/q/r"), by)
    assert (made.rate, made.expires_at, made.created_by) == (5.0, boss.expires_at, "boss")
    same, _ = access.create(TokenWanted("admin", project="p/q", rate=1.0, expires_s=10.0), by)
    assert [token.id for token in access.listed(by)] == sorted([boss.id, made.id, same.id], key=lambda one: (
        0 if one == boss.id else 1, one
    ))  # fmt: skip
    with pytest.raises(TokenNotFoundError):
        access.revoke(ada.id, by)
    assert access.revoke(made.id, by).revoked_at is not None
    with pytest.raises(BeyondOwnError):
        access.create(TokenWanted("admin"), replace(by, scope="write"))


def test_a_token_that_ended_while_its_request_was_on_its_way_makes_none(kept: Kept, clock: Clock) -> None:
    access = kept.access()
    access.create(ADMIN, SERVICE)
    for end in ("revoked", "expired"):
        boss, text = access.create(TokenWanted("admin", "boss", "p", expires_s=100.0), SERVICE)
        by = who(access, text)
        if end == "revoked":
            access.revoke(boss.id, SERVICE)
        else:
            clock.now += 100
        with pytest.raises(TokenRefusedError, match="meanwhile"):
            access.create(TokenWanted("admin", project="p"), by)
    assert len(kept.told("token.create")) == 3


def test_tokens_in_use_are_bounded(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallyboard_server.access.rules.TOKENS_MAX", 3)
    access = kept.access()
    made = [access.create(ADMIN, SERVICE)[0] for _ in range(3)]
    with pytest.raises(TokensTooManyError, match="3 tokens are in use; revoke"):
        access.create(ADMIN, SERVICE)
    access.revoke(made[0].id, SERVICE)
    access.create(ADMIN, SERVICE)
    assert TOKENS_MAX == 1_000


def test_what_the_store_does_not_take_did_not_happen(kept: Kept) -> None:
    access = kept.access()
    kept.broken = True
    with pytest.raises(StoreFullError):
        access.create(ADMIN, SERVICE)
    assert is_open(access)
    kept.broken = False
    access.create(ADMIN, SERVICE)
    other, text = access.create(ADMIN, SERVICE)
    kept.broken = True
    with pytest.raises(StoreFullError):
        access.revoke(other.id, SERVICE)
    assert who(access, text).token == other.id


def test_last_uses_are_saved_once_a_minute(kept: Kept, clock: Clock) -> None:
    access = kept.access()
    token, text = access.create(ADMIN, SERVICE)

    def stored() -> float | None:
        with kept.store.snapshot() as view:
            return view.tokens()[0].last_used_at

    clock.now += 30
    who(access, text)
    assert access.listed(SERVICE)[0].last_used_at == clock.now
    access.save()
    assert stored() is None
    clock.now += 31
    used = clock.now
    who(access, text)
    kept.broken = True
    access.save()
    assert stored() is None
    kept.broken = False
    clock.now += 61
    access.save()
    assert stored() == used
    clock.now += 5
    who(access, text)
    access.close()
    assert stored() == clock.now
    assert token.last_used_at is None


# sessions


def test_a_session_lasts_thirty_days_and_over_restarts(kept: Kept, clock: Clock) -> None:
    access = kept.access()
    _, text = access.create(ADMIN, SERVICE)
    by = who(access, text)
    value = access.log_in(by)
    assert text not in value + access.cookie_name
    assert access.of_cookie(header(access, value), "10.0.0.1") == by
    access.save()
    again = kept.access()
    assert again.cookie_name == access.cookie_name
    clock.now += SESSION_S - 1
    assert again.of_cookie(header(again, value), "10.0.0.1") == by
    clock.now += 1
    assert again.of_cookie(header(again, value), "") is None
    assert kept.access().of_cookie(header(again, value), "") is None
    with kept.store.snapshot() as view:
        assert value.encode() not in [session.hash for session in view.sessions()]


def test_cookies_of_two_services_have_two_names(kept: Kept, clock: Clock, tmp_path: Path) -> None:
    other = Kept(tmp_path / "other", clock)
    names = {kept.access("s3cret").cookie_name, other.access("s3cret").cookie_name}
    other.close()
    assert len(names) == 2
    assert all(name.startswith("tallyboard_") and len(name) == 19 for name in names)


def test_it_ends_with_logging_out_with_its_token_and_with_that_one_s_time(kept: Kept, clock: Clock) -> None:
    access = kept.access()
    access.create(ADMIN, SERVICE)
    token, text = access.create(TokenWanted("read"), SERVICE)
    _, short_text = access.create(TokenWanted("read", expires_s=50.0), SERVICE)
    one, other, short = (access.log_in(who(access, given)) for given in (text, text, short_text))
    access.save()
    access.log_out(header(access, one))
    assert access.of_cookie(header(access, one), "") is None
    assert access.of_cookie(header(access, other), "") is not None
    access.save()
    assert kept.access().of_cookie(header(access, one), "") is None
    clock.now += 50
    assert access.of_cookie(header(access, short), "") is None
    by = access.of_cookie(header(access, other), "")
    assert by is not None
    assert access.is_good(by)
    access.revoke(token.id, SERVICE)
    assert access.of_cookie(header(access, other), "") is None
    assert not access.is_good(by)
    with kept.store.snapshot() as view:
        assert token.id not in {session.token for session in view.sessions()}


def test_those_of_the_environments_token_end_when_it_changes(kept: Kept) -> None:
    access = kept.access("s3cret")
    value = access.log_in(who(access, "s3cret"))
    access.save()
    with kept.store.snapshot() as view:
        (session,) = view.sessions()
    assert "s3cret" not in session.token
    assert kept.access("s3cret").of_cookie(header(access, value), "") is not None
    for changed in ("s3cret2", None):
        assert kept.access(changed).of_cookie(header(access, value), "") is None


def test_one_can_log_in_while_the_disk_is_full(kept: Kept) -> None:
    access = kept.access("s3cret")
    kept.broken = True
    value = access.log_in(who(access, "s3cret"))
    access.save()
    assert access.of_cookie(header(access, value), "") is not None
    kept.broken = False
    access.save()
    assert kept.access("s3cret").of_cookie(header(access, value), "") is not None


def test_sessions_are_bounded_and_the_oldest_go(clock: Clock) -> None:
    sessions = Sessions(clock, most=3)
    made = []
    for _ in range(5):
        clock.now += 1
        made.append(sessions.begin("ada"))
    assert [sessions.token_of(value) for value in made] == [None, None, "ada", "ada", "ada"]
    new, gone = sessions.unsaved()
    assert (len(new), gone) == (3, [])
    sessions.begin("ada")
    assert [len(part) for part in sessions.unsaved()] == [1, 1]


def test_whoever_logs_in_again_and_again_ends_no_session_but_their_own(clock: Clock) -> None:
    sessions = Sessions(clock, most=4)
    ada, bob = sessions.begin("ada"), sessions.begin("bob")
    made = [sessions.begin("mallory") for _ in range(10)]
    assert (sessions.token_of(ada), sessions.token_of(bob)) == ("ada", "bob")
    assert [sessions.token_of(value) for value in made] == [None] * 8 + ["mallory"] * 2


def test_a_cookie_that_was_changed_anywhere_is_none(clock: Clock) -> None:
    sessions = Sessions(clock)
    value = sessions.begin("ada")
    for place in range(len(value)):
        for sign in "0aé":
            changed = f"{value[:place]}{sign}{value[place + 1 :]}"
            assert changed == value or sessions.token_of(changed) is None
    for text in ("", value[:-1], f"{value}x", value * 2):
        assert sessions.token_of(text) is None


@given(st.binary(max_size=300))
def test_no_cookie_header_is_too_odd(data: bytes) -> None:
    sessions = Sessions(lambda: 0.0)
    for given_header in (data, b"tallyboard_x=" + data):
        value = cookie_value(given_header, "tallyboard_x")
        assert value is None or sessions.token_of(value) is None
        sessions.end(value or "")


def test_wrong_tokens_are_bounded_by_address_and_forgotten(clock: Clock) -> None:
    tries = Tries(clock)
    for _ in range(TRIES_MAX):
        assert tries.wait_s("a") == 0.0
        tries.failed("a")
    assert tries.wait_s("a") == TRIES_S
    assert tries.wait_s("b") == 0.0
    clock.now += TRIES_S - 1
    assert tries.wait_s("a") == 1.0
    clock.now += 2
    assert tries.wait_s("a") == 0.0
    tries.failed("a")
    assert tries.wait_s("a") == 0.0
    for i in range(5_000):
        tries.failed(f"address {i}")
    assert len(tries._wrong) == 1_000


# where a login leads


@pytest.mark.parametrize("then", [
    "", "docs", "tensorboard/", "?runs=a%2Fb&x=step", "docs?a=1", "tensorboard/x.html", "a/b/c/",
])  # fmt: skip
def test_places_below_the_service_are_gone_to(then: str) -> None:
    assert checked_next(then) == then


@pytest.mark.parametrize("then", [
    "//evil.example", "/docs", "\\\\evil.example", "/\\evil.example", "https://evil.example", "https:evil.example",
    "javascript:alert(1)", "..", "../", "docs/../../other", "./..", "docs/./x", "%2e%2e/", "a//b", " docs", "docs\n",
    "docs#x", "\tdocs", "docs\r\nSet-Cookie: a=b", "x" * 5_000, "dócs", "@evil.example", ".evil.example", "\x00",
])  # fmt: skip
def test_no_other_place_is(then: str) -> None:
    assert checked_next(then) == ""


@given(st.text(max_size=40))
def test_whatever_is_asked_for_stays_in_one_line_and_below(text: str) -> None:
    then = checked_next(text)
    assert then.isascii()
    assert not set('\r\n\\ "<>') & set(then)
    path = then.partition("?")[0]
    assert not path.startswith("/")
    assert ".." not in path.split("/")
    assert ":" not in path
