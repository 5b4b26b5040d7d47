"""Which rules hold for a run, and whose webhook hears of it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tallyboard_server.notify import Webhook
from tallyboard_server.store.protocol import Transaction
from tallyboard_server.store.sqlite import SqliteStore
from tallyboard_server.watch import Bound, ProjectsTooManyError, RuleBook, Rules, WatchRules, WebhookRule, book

ALL = Webhook("https://all.example.org/")


def hook(name: str) -> WebhookRule:
    return WebhookRule(url=f"https://{name}.example.org/")


@pytest.fixture
def rules() -> RuleBook:
    found = RuleBook(Rules(lost_after_s=100.0, webhook=ALL))
    found.put("", WatchRules(stalled=False))
    found.put("team", WatchRules(lost_after_s=200.0, webhook=hook("team")))
    found.put("team/quiet", WatchRules(webhook=None, stalled=True))
    return found


def test_each_project_inherits_from_those_around_it(rules: RuleBook) -> None:
    assert (rules.of_run("other/run").lost_after_s, rules.of_run("other/run").off) == (100.0, frozenset({"stalled"}))
    assert (rules.of_run("team/run").lost_after_s, rules.of_run("team/run").off) == (200.0, frozenset({"stalled"}))
    quiet = rules.of_run("team/quiet/run")
    assert (quiet.lost_after_s, quiet.off, quiet.webhook) == (200.0, frozenset(), None)
    assert rules.of_run("teams/run").lost_after_s == 100.0  # not a part of it: another name
    assert rules.of_run("team/quiet") == rules.of_project("team")  # a run of that name lies in team
    rules.put("team", None)
    assert rules.of_run("team/run").lost_after_s == 100.0
    assert Rules().changed(quiet.whole()) == quiet


def test_the_nearest_webhook_hears_and_null_is_none(rules: RuleBook) -> None:
    assert rules.owner_of("other/run") == ""
    assert rules.webhook_at("") == ALL
    assert rules.owner_of("team/deep/run") == "team"
    assert rules.webhook_at("team") == Webhook("https://team.example.org/")
    assert rules.owner_of("team/quiet/run") is None
    assert rules.webhook_at("other") is None
    rules.put("", WatchRules(webhook=None))
    assert rules.owner_of("other/run") is None
    assert rules.owner_of("team/run") == "team"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore.open(tmp_path)
    yield store
    store.close()


def test_what_is_changed_is_kept_with_what_is_noted(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book, "PROJECTS_MAX", 2)
    noted: list[WatchRules | None] = []

    def record(work: Callable[[Transaction], None]) -> None:
        with store.transaction() as transaction:
            work(transaction)

    def change(project: str, **fields: Any) -> None:
        found.change(
            record, project, lambda own: msgspec.structs.replace(own, **fields) if fields else None,
            lambda _, rules: noted.append(rules),
        )  # fmt: skip

    found = RuleBook(Rules())
    change("p", lost=False)
    change("p", lost_after_s=20.0)
    change("q", lost=True)
    both = WatchRules(lost=False, lost_after_s=20.0)
    assert (found.own("p"), noted) == (both, [WatchRules(lost=False), both, WatchRules(lost=True)])
    with pytest.raises(ProjectsTooManyError, match="2 projects have rules of their own"):
        change("one more", lost=True)
    change("p", lost=True)
    change("q")
    change("one more", lost=True)
    again = RuleBook(Rules())
    again.load(store)
    for books in (found, again):
        assert [books.own(project) for project in ("p", "q", "one more")] == [
            msgspec.structs.replace(both, lost=True), None, WatchRules(lost=True)
        ]  # fmt: skip


def test_they_outlive_the_process(store: SqliteStore) -> None:
    own = WatchRules(limits=(Bound(tag="loss", max=1.0),), webhook=None)
    with store.transaction() as transaction:
        transaction.save_rules("p", msgspec.json.encode(own).decode())
    found = RuleBook(Rules(webhook=ALL))
    found.load(store)
    assert found.own("p") == own
    assert (found.of_run("p/run").limits, found.of_run("p/run").webhook) == (own.limits, None)


@pytest.mark.parametrize(
    ("pattern", "tag", "fits"),
    [("loss", "loss", True), ("loss", "val/loss", False), ("*loss", "val/loss", True), ("a[b]", "a[b]", True),
     ("a[b]", "ab", False), ("l?ss", "lass", True), ("val/*", "val/a/b", True)],
)  # fmt: skip
def test_tags_are_named_or_meant_by_a_pattern(pattern: str, tag: str, fits: bool) -> None:
    assert Bound(tag=pattern).fits(tag) is fits
