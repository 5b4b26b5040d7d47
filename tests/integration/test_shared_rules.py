"""Rules of watchdogs that several services on one store hold: changed on one, in force on all, and none lost."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tallyboard_server.cli.http import Service as CliService
from tallyboard_server.settings import Settings
from tallyboard_server.store.protocol import Store, Transaction
from tallyboard_server.watch import ProjectsTooManyError, RuleBook, Rules, WatchRules, book
from tests.cli_process import Cli
from tests.service import RunningService, serving, until
from tests.stores import Stores, on

pytestmark = on("postgres")


@pytest.fixture(scope="module")
def pair(stores: Stores, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RunningService]]:
    """Two that share a database."""
    folder = tmp_path_factory.mktemp("pair")
    with ExitStack() as stack:
        found = []
        for number in range(2):
            own = {"data_dir": folder / str(number), "logdir": folder / "logdir", "port": 0, "watchdogs": False}
            settings = Settings(**(stores.settings(folder) | own | {"tensorboard": False}))
            found.append(stack.enter_context(serving(settings)))
        yield found


@pytest.fixture
def opened(stores: Stores, tmp_path: Path) -> Iterator[list[Store]]:
    """The same store twice."""
    found = [stores.open(tmp_path / "shared") for _ in range(2)]
    yield found
    for store in found:
        store.close()
    stores.remove(tmp_path / "shared")


def change(store: Store, rules: RuleBook, project: str, **fields: Any) -> None:
    def record(work: Callable[[Transaction], None]) -> None:
        with store.transaction() as transaction:
            work(transaction)

    rules.change(record, project, lambda own: msgspec.structs.replace(own, **fields), lambda *_: None)


def test_changes_on_two_services_do_not_lose_one_another(opened: list[Store]) -> None:
    kinds = ("lost", "stalled", "unmoved", "nonfinite", "bounds", "refused", "failed")
    books = [RuleBook(Rules()) for _ in opened]
    barrier = threading.Barrier(len(kinds))

    def turn_off(number: int) -> None:
        barrier.wait(10)
        change(opened[number % 2], books[number % 2], "p", **{kinds[number]: False})

    with ThreadPoolExecutor(len(kinds)) as pool:
        list(pool.map(turn_off, range(len(kinds))))
    for rules, store in zip(books, opened, strict=True):
        rules.load(store)
        own = rules.own("p")
        assert own is not None
        assert own.set_fields() == dict.fromkeys(kinds, False)


def test_the_bound_of_projects_is_one_for_all(opened: list[Store], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book, "PROJECTS_MAX", 2)
    one, other = RuleBook(Rules()), RuleBook(Rules())
    change(opened[0], one, "a", lost=False)
    change(opened[0], one, "b", lost=False)
    with pytest.raises(ProjectsTooManyError):
        change(opened[1], other, "c", lost=False)
    assert other.own("b") is None
    change(opened[1], other, "b", lost=True)
    assert other.own("a") == WatchRules(lost=False), "who changes one learns all"


def test_what_one_changed_holds_on_the_other_within_a_second(pair: list[RunningService]) -> None:
    one, other = pair
    assert one.send("PUT", "/watch/p", {"lost_after_s": 50.0}).status == 200
    assert other.get("/watch/p").json()["own"] == {"lost_after_s": 50.0}, "whoever asks is told at once"
    assert until(lambda: other.parts.rules.of_run("p/run").lost_after_s == 50.0, 1.0)
    assert other.request("DELETE", "/api/v1/watch/p").status == 204
    assert until(lambda: one.parts.rules.own("p") is None, 1.0)


def test_with_if_match_nothing_of_others_is_overwritten(pair: list[RunningService]) -> None:
    one, other = pair
    read = one.get("/watch/q")
    tagged = {"Content-Type": "application/json", "If-Match": read.headers["etag"]}
    assert other.send("PUT", "/watch/q", {"lost": False}).status == 200
    refused = one.request("PUT", "/api/v1/watch/q", b'{"stalled": false}', tagged)
    assert (refused.status, refused.json()["code"]) == (412, "rules_changed")
    now = one.get("/watch/q")
    assert now.json()["own"] == {"lost": False}
    for etag in (f"W/{now.headers['etag']}", "*"):  # a proxy that compresses marks it as weak
        sent = one.request("PUT", "/api/v1/watch/q", b'{"lost": false, "stalled": false}', tagged | {"If-Match": etag})
        assert sent.status == 200
    assert other.get("/watch/q").json()["own"] == {"lost": False, "stalled": False}


def test_commands_at_two_services_add_up(pair: list[RunningService], cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = pair
    monkeypatch.setenv("TALLYBOARD_URL", one.url)
    assert cli("watchdogs", "set", "r", "--off", "lost").code == 0
    read = CliService.get_tagged
    interfered: list[int] = []

    def read_and_be_late(self: CliService, path: str, kind: type[Any]) -> Any:
        found = read(self, path, kind)
        if not interfered:
            interfered.append(other.send("PUT", "/watch/r", {"lost": False, "stalled": False}).status)
        return found

    monkeypatch.setattr(CliService, "get_tagged", read_and_be_late)
    assert cli("watchdogs", "set", "r", "--off", "unmoved").code == 0
    assert interfered == [200]
    assert other.get("/watch/r").json()["own"] == {"lost": False, "stalled": False, "unmoved": False}
