"""Notices on their way: a real store, a real HTTP server that misbehaves on the other side; the clock is made up."""

from collections.abc import Iterator
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures import wait
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from tallyboard.wire import Alert, Level
from tallyboard_server.model import KeptAlert
from tallyboard_server.notify import Notifier, Outbox, Webhook, check_url, webhook
from tallyboard_server.notify.bodies import Entry, body, plain
from tallyboard_server.store import watching
from tallyboard_server.store.protocol import StoreFullError, Work
from tallyboard_server.store.sqlite import SqliteStore
from tallyboard_server.store.watching import NOTICES_MAX
from tests.eventfiles_kit import Clock
from tests.service import until
from tests.webhooks import Receiver, Reply, receiving


class Sending:
    """One process's life: an outbox and the sender, which looks when `turn` is called."""

    def __init__(self, folder: Path, clock: Clock, hooks: dict[str, Webhook]) -> None:
        self.clock = clock
        self.hooks = hooks
        self.store = SqliteStore.open(folder)
        self.outbox = Outbox(lambda run: self.owner_of(run) is not None)
        self.notifier = Notifier(
            self.store, self.record, self.outbox,
            owner_of=self.owner_of, webhook_at=hooks.get, public_url="https://tb.example.org/x/", clock=clock,
            jitter=lambda: 1.0,
        )  # fmt: skip

    def owner_of(self, run: str) -> str | None:
        """A project of its own, if it has a webhook; else that of all."""
        project = run.partition("/")[0]
        return project if project in self.hooks else "" if "" in self.hooks else None

    def record(self, work: Work) -> None:
        """As Ingest.record."""
        with self.store.transaction() as transaction:
            work(transaction)

    def alert(self, title: str, run: str = "p/run", text: str = "", level: Level = "warn") -> None:
        """An alert is kept, and queued with it."""
        told = Alert(title=title, text=text, level=level, wall_time=self.clock(), at={"global_step": 7})
        with self.store.transaction() as transaction:
            self.outbox.put(transaction, run, [KeptAlert(self.clock(), "job-1", told)])
        self.outbox.committed(None)

    def turn(self, after_s: float = 0.0) -> None:
        """Look, some seconds later; what was asked is answered."""
        self.clock.now += after_s
        self.notifier.turn()
        wait(self.notifier._under_way.values(), 10.0)
        self.notifier.turn()

    def figure(self, name: str) -> float:
        """One of the figures."""
        return self.notifier.stats()[f"notices_{name}"]

    def close(self) -> None:
        self.notifier.stop()
        self.store.close()


@pytest.fixture
def clock() -> Clock:
    return Clock(1_000_000.0)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@contextmanager
def sending(folder: Path, clock: Clock, hooks: dict[str, Webhook]) -> Iterator[Sending]:
    life = Sending(folder, clock, hooks)
    try:
        yield life
    finally:
        life.close()


@pytest.fixture
def life(tmp_path: Path, clock: Clock, receiver: Receiver) -> Iterator[Sending]:
    with sending(tmp_path, clock, {"": Webhook(receiver.url)}) as life:
        yield life


def test_what_comes_within_seconds_is_sent_together_and_once(life: Sending, receiver: Receiver) -> None:
    life.alert("one", text="first\nline", level="error")
    life.turn(1.0)
    life.alert("two", run="q/other")
    life.turn(1.0)
    assert receiver.came == []
    life.turn(1.5)
    life.turn(60.0)
    (came,) = receiver.came
    assert came.headers["Content-Type"] == "application/json"
    assert came.headers["User-Agent"].startswith("tallyboard/")
    assert came.body["delivery"] == came.delivery
    first, second = came.body["notices"]
    assert first == {
        "id": 1, "run": "p/run", "level": "error", "title": "one", "text": "first\nline", "at": 1_000_000.0,
        "first_at": 1_000_000.0, "times": 1, "producer": "job-1", "counters": {"global_step": 7},
        "url": "https://tb.example.org/x/?view=health&run=p/run&watch=p/run",
    }  # fmt: skip
    assert (second["run"], second["title"]) == ("q/other", "two")
    assert (life.figure("sent_total"), life.figure("waiting")) == (2, 0)


def test_one_title_is_sent_once_in_ten_minutes_and_the_rest_counted(life: Sending, receiver: Receiver) -> None:
    life.alert("loss is NaN")
    life.turn(4.0)
    for _ in range(12):
        life.alert("loss is NaN", text="again")
        life.turn(30.0)
    life.alert("loss is NaN", run="p/other")
    life.turn(4.0)
    assert receiver.titles() == ["loss is NaN", "loss is NaN"]
    assert [came.body["notices"][0]["run"] for came in receiver.came] == ["p/run", "p/other"]
    life.turn(300.0)
    assert [came.body["notices"][0]["times"] for came in receiver.came] == [1, 1, 12]
    assert receiver.notices[-1]["text"] == "again"


def test_many_are_several_deliveries_a_second_apart(life: Sending, receiver: Receiver) -> None:
    for number in range(45):
        life.alert(f"alert {number}")
    life.turn()
    life.turn(0.5)
    assert len(receiver.came) == 1
    life.turn(0.6)
    life.turn(4.0)
    assert [len(came.body["notices"]) for came in receiver.came] == [20, 20, 5]
    assert receiver.titles() == [f"alert {number}" for number in range(45)]


@pytest.mark.parametrize("reply", [Reply(500), Reply(503), Reply(429), Reply(408), Reply(425)])
def test_it_is_tried_again_under_the_same_id(life: Sending, receiver: Receiver, reply: Reply) -> None:
    receiver.replies = [reply, reply]
    life.alert("one")
    life.turn(4.0)
    life.turn(4.9)
    assert len(receiver.came) == 1
    life.turn(0.2)
    assert len(receiver.came) == 2
    life.turn(9.0)
    assert len(receiver.came) == 2  # it waits twice as long
    life.turn(2.0)
    assert len(receiver.came) == 3
    assert len({came.delivery for came in receiver.came}) == 1
    assert (life.figure("sent_total"), life.figure("failed_tries_total"), life.figure("waiting")) == (1, 2, 0)


def test_it_waits_as_long_as_it_is_told(life: Sending, receiver: Receiver) -> None:
    late = {"Retry-After": "Fri, 01 Jan 2100 00:00:00 GMT"}
    receiver.replies = [Reply(429, {"Retry-After": "120"}), Reply(503, late)]
    life.alert("one")
    life.turn(4.0)
    life.turn(119.0)
    assert len(receiver.came) == 1
    life.turn(2.0)
    assert len(receiver.came) == 2
    life.turn(11.0)
    assert len(receiver.came) == 3


@pytest.mark.parametrize("status", [301, 307, 400, 401, 404, 410, 413])
def test_what_is_hopeless_is_given_up_and_nobody_is_followed(
    life: Sending, receiver: Receiver, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    with receiving() as elsewhere:
        receiver.replies = [Reply(status, {"Location": elsewhere.url})]
        life.alert("one")
        life.turn(4.0)
        life.alert("two")
        life.turn(4.0)
        assert elsewhere.came == []
    assert receiver.titles() == ["one", "two"]
    assert (life.figure("given_up_total"), life.figure("sent_total")) == (1, 1)
    assert f"127.0.0.1:{receiver.port} did not take a notice" in caplog.text
    assert "/hook" not in caplog.text  # the rest of a URL is often a secret


def test_after_a_day_it_is_given_up(life: Sending, receiver: Receiver) -> None:
    receiver.replies = [Reply(500)] * 1_000
    life.alert("one")
    life.turn(4.0)
    for _ in range(200):
        life.turn(600.0)
    assert life.figure("given_up_total") == 1
    assert 140 <= len(receiver.came) <= 150


def test_what_waits_behind_one_that_fails_is_put_together(life: Sending, receiver: Receiver) -> None:
    receiver.replies = [Reply(500)] * 3
    for number in range(5):
        life.alert(f"alert {number}")
        life.alert("the same")
        life.turn(4.0)
    life.turn(60.0)
    life.turn(600.0)
    life.turn(4.0)
    assert receiver.titles()[:3] == ["alert 0", "the same", "alert 1"]
    assert [notice["times"] for notice in receiver.notices if notice["title"] == "the same"] == [1, 4]


def test_who_hangs_or_drips_is_cut_off_and_keeps_nobody_waiting(
    tmp_path: Path, clock: Clock, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "DEADLINE_S", 0.3)
    with receiving() as other, sending(tmp_path, clock, {"p": Webhook(receiver.url), "q": Webhook(other.url)}) as life:
        receiver.replies = [Reply(hang=True), Reply(drip=True, body=b"x" * 10_000)]
        life.alert("one")
        life.alert("two", run="q/run")
        clock.now += 4.0
        life.notifier.turn()
        assert until(lambda: other.titles() == ["two"])
        life.turn()
        assert life.figure("failed_tries_total") == 1
        life.turn(10.0)  # its status has come: it is taken, whatever becomes of the rest
        assert (receiver.titles(), life.figure("sent_total")) == (["one"], 2)


def test_nobody_there_is_no_harm(tmp_path: Path, clock: Clock) -> None:
    with receiving() as gone:
        url = gone.url
    with sending(tmp_path, clock, {"": Webhook(url)}) as life:
        life.alert("one")
        life.turn(4.0)
        assert (life.figure("failed_tries_total"), life.figure("waiting")) == (1, 1)


def test_another_process_sends_what_was_left_under_the_same_id(
    tmp_path: Path, clock: Clock, receiver: Receiver
) -> None:
    receiver.replies = [Reply(500)]
    hooks = {"": Webhook(receiver.url)}
    with sending(tmp_path, clock, hooks) as life:
        life.alert("one")
        life.turn(4.0)
        life.alert("two")
    with sending(tmp_path, clock, hooks) as life:
        life.turn(10.0)
        life.turn(10.0)
        assert (receiver.titles(), life.figure("waiting")) == (["one", "two"], 0)
    assert receiver.came[0].delivery == receiver.came[1].delivery != receiver.came[2].delivery


def test_an_alert_that_comes_while_a_delivery_is_made_is_in_it(life: Sending, receiver: Receiver) -> None:
    life.alert("one", text="old")
    life.notifier.turn()
    record = life.notifier._record

    def late(work: Work) -> None:
        life.notifier._record = record
        life.alert("one", text="new")
        record(work)

    life.notifier._record = late
    life.turn(4.0)
    life.turn(700.0)
    assert [(notice["text"], notice["times"]) for notice in receiver.notices] == [("new", 2)]


def test_a_delivery_that_was_made_too_late_for_whoever_waited_is_sent_once(life: Sending, receiver: Receiver) -> None:
    record = life.notifier._record

    def late(work: Work) -> None:
        life.notifier._record = record
        record(work)
        raise FutureTimeoutError

    life.alert("one")
    life.notifier.turn()
    life.notifier._record = late
    life.clock.now += 4.0
    with pytest.raises(FutureTimeoutError):
        life.notifier.turn()
    life.turn()
    life.turn(700.0)
    assert (receiver.titles(), life.figure("waiting")) == (["one"], 0)


def test_what_was_taken_while_the_store_was_full_is_not_sent_again(
    tmp_path: Path, clock: Clock, receiver: Receiver
) -> None:
    def full(_work: Work) -> None:
        raise StoreFullError("no room")

    hooks = {"": Webhook(receiver.url)}
    with sending(tmp_path, clock, hooks) as life:
        life.alert("one")
        clock.now += 4.0
        life.notifier.turn()
        wait(life.notifier._under_way.values(), 10.0)
        record, life.notifier._record = life.notifier._record, full
        for _ in range(2):
            with pytest.raises(StoreFullError):
                life.notifier.turn()
        life.notifier._record = record
        life.turn()
    with sending(tmp_path, clock, hooks) as life:
        life.turn(10.0)
    assert receiver.titles() == ["one"]


def test_a_webhook_that_was_taken_away_hears_no_more(life: Sending, receiver: Receiver) -> None:
    receiver.replies = [Reply(500)]
    life.alert("one")
    life.turn(4.0)
    life.alert("two")
    life.hooks.clear()
    life.turn(60.0)
    assert receiver.titles() == ["one"]
    assert (life.figure("unwanted_total"), life.figure("waiting")) == (2, 0)
    life.alert("three")
    with life.store.snapshot() as view:
        assert (view.notices(limit=10), view.deliveries()) == ([], [])


def test_the_outbox_has_a_bound_and_says_what_it_drops(
    life: Sending, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert NOTICES_MAX == 10_000
    monkeypatch.setattr(watching, "NOTICES_MAX", 5)
    for number in range(8):
        life.alert(f"alert {number}")
    life.turn(4.0)
    assert receiver.titles() == [f"alert {number}" for number in range(3, 8)]
    assert life.figure("dropped_total") == 3
    assert "notices were dropped" in caplog.text


def test_slack_gets_text_and_nothing_in_it_is_a_mention_or_a_link(life: Sending, receiver: Receiver) -> None:
    life.hooks[""] = Webhook(receiver.url, "slack")
    text = "@here see https://evil.example www.evil.org"
    life.alert("<!channel> & <https://evil.example|here>", run="p/a|b", text=text)
    life.turn(4.0)
    (came,) = receiver.came
    assert set(came.body) == {"text", "mrkdwn", "unfurl_links", "unfurl_media"}
    assert came.body["text"] == (
        "⚠️ <https://tb.example.org/x/?view=health&run=p/a%7Cb&watch=p/a%7Cb|p/a¦b>: "
        "&lt;!channel&gt; &amp; &lt;https:\u200b//evil.example|here&gt;\n"
        "@\u200bhere see https:\u200b//evil.example www\u200b.evil.org"
    )


def test_how_a_line_looks() -> None:
    entry = Entry(
        id=1, run="p/run", level="error", title="loss is NaN", text="", at=1.0, first_at=0.5, times=13,
        producer="watchdog", counters={},
    )  # fmt: skip
    assert msgspec.json.decode(body("slack", "d", [entry], None))["text"] == "🛑 p/run: loss is NaN … 12 times more"
    long = msgspec.structs.replace(entry, text="x" * 5_000, times=1)
    assert len(msgspec.json.decode(body("slack", "d", [long], None))["text"]) < 900
    assert plain("a & b") == "a &amp; b"


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("ftp://a/b", "a URL like"), ("hooks.slack.com/x", "a URL like"), ("http:///x", "a URL like"),
        ("http://a b/", "without spaces"), ("http://ü/", "ASCII"), ("https://me:secret@host/", "user and password"),
        ("http://a:0/", "port 0"), ("http://a:99999/", "Port"), (f"http://a/{'x' * 3000}", "at most 2048 bytes"),
        ("http://a/\r\nX: y", "printable"),
    ],
)  # fmt: skip
def test_urls_that_can_not_be_asked(url: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        check_url(url)
    assert check_url("https://hooks.example.org:8443/a?b=c") == "https://hooks.example.org:8443/a?b=c"
