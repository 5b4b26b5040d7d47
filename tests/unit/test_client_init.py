"""`tallyboard.init`: what it refuses at once, and what it goes on without."""

import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

import tallyboard
from tallyboard import lifecycle, start
from tallyboard.delivery.transport import Answer, UnreachableError
from tests.unit.client_kit import ScriptedTransport, problem, taken


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("RANK", "TALLYBOARD_MODE"):
        monkeypatch.delenv(name, raising=False)
    yield
    lifecycle.finish_active()


@pytest.fixture
def transport(monkeypatch: pytest.MonkeyPatch) -> ScriptedTransport:
    scripted = ScriptedTransport()
    monkeypatch.setattr(start, "HttpTransport", lambda *_, **_options: scripted)
    return scripted


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"name": "../up"}, "may begin with"),
        ({"resume": "maybe"}, "'new', 'continue' or 'must'"),
        ({"tags": "digits"}, "list of strings"),
        ({"tags": ["a\nb"]}, "tags"),
        ({"notes": "x" * 70_000}, "notes"),
        ({"config": 3}, "config"),
        ({"next_steps": {}}, "global_step"),
        ({"next_steps": {"global_step": -1}}, "next_steps"),
        ({"counters": {"val/*": "a=b"}}, "val/*"),
        ({"ranks": "some"}, "'zero' or 'all'"),
        ({"url": "tally:1"}, "url"),
    ],
)
def test_what_cant_be_had_is_refused_before_anything_happens(
    transport: ScriptedTransport, arguments: dict[str, Any], says: str
) -> None:
    running = tallyboard.init("digits/before")
    with pytest.raises(tallyboard.ConfigurationError) as error:
        tallyboard.init(**arguments)
    assert says in str(error.value)
    running.log({"loss": 1.0})
    assert running.flush()  # it was not finished for nothing


def test_all_ranks_need_a_name_in_common(transport: ScriptedTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(tallyboard.ConfigurationError, match="name"):
        tallyboard.init(ranks="all")
    tallyboard.init("digits/try1", ranks="all").finish()
    assert transport.sent[0][0] == "/api/v1/scalars/digits/try1/rank01"


def test_the_first_batch_opens_and_the_rewind_follows(transport: ScriptedTransport) -> None:
    run = tallyboard.init("try1", project="digits", config={"lr": 0.1}, resume="continue", next_steps={"epoch": 3})
    assert run.flush()
    first, second = transport.batches
    assert first.open is not None
    assert (first.seq, first.open.resume, first.open.config, first.open.uid) == (
        1, "continue", {"lr": 0.1}, first.producer,
    )  # fmt: skip
    assert second.rewind is not None
    assert second.rewind.next_steps == {"epoch": 3}
    assert run.counter("epoch").value == 2


def test_a_config_too_large_is_left_out_with_a_warning(
    transport: ScriptedTransport, caplog: pytest.LogCaptureFixture
) -> None:
    run = tallyboard.init("digits/try1", config={"blob": "x" * 100_000})
    run.config["lr"] = 0.1
    run.summary["blob"] = ["x" * 100_000]
    run.finish()
    opened = [batch.open for batch in transport.batches if batch.open is not None]
    assert [o.config for o in opened] == [{}, {"lr": 0.1}]
    assert caplog.text.count("left out of config or summary") == 2
    assert "test_client_init.py" in caplog.text


def test_the_end_is_told_and_nothing_follows(transport: ScriptedTransport, caplog: pytest.LogCaptureFixture) -> None:
    run = tallyboard.init("digits/try1")
    run.log({"loss": 1.0})
    run.finish()
    run.finish("failed")
    run.log({"loss": 2.0})
    run.rewind({"global_step": 0})
    run.config["late"] = 1
    assert run.flush()
    assert [batch.status for batch in transport.batches if batch.status] == ["finished"]
    assert sum(len(columns) for batch in transport.batches for columns in batch.columns) == 1
    assert caplog.text.count("is finished; later reports are not sent") == 1
    assert transport.closed
    assert run.stats().dropped_reports == 1


def test_a_signal_handler_may_log_and_finish_in_the_middle_of_log(transport: ScriptedTransport) -> None:
    run = tallyboard.init("digits/try1")
    handled = 0

    def handler(_: int, __: FrameType | None) -> None:
        nonlocal handled
        handled += 1
        run.log({"signals": float(handled)}, counter="signals")

    before = signal.signal(signal.SIGUSR1, handler)
    stop = threading.Event()

    def shoot() -> None:
        while not stop.is_set():
            os.kill(os.getpid(), signal.SIGUSR1)

    shooter = threading.Thread(target=shoot)
    shooter.start()
    try:
        for step in range(20_000):
            run.log({"loss": 1.0}, step)
    finally:
        stop.set()
        shooter.join()
        signal.signal(signal.SIGUSR1, before)
    assert handled > 0
    run.finish()
    rows = {"global_step": 0, "signals": 0}
    for batch in transport.batches:
        for columns in batch.columns:
            rows[columns.counter] += len(columns)
    assert rows == {"global_step": 20_000, "signals": handled}


def test_a_strict_end_raises_what_the_server_refused_but_never_over_another_exception(
    transport: ScriptedTransport, caplog: pytest.LogCaptureFixture
) -> None:
    from tests.unit.test_client_sender import refusal

    refused = taken(refused_count=1, refused=[refusal()])
    transport.script.extend([taken(), refused])
    run = tallyboard.init("digits/try1", strict=True)
    run.log({"loss": 1.0})
    with pytest.raises(tallyboard.CounterTakenError):
        run.finish()

    def train() -> None:
        with tallyboard.init("digits/try1", strict=True) as failing:
            failing.log({"loss": 1.0})
            raise ZeroDivisionError

    transport.script.extend([taken(), refused])
    with pytest.raises(ZeroDivisionError):
        train()
    assert "ada's" in caplog.text


@pytest.mark.parametrize("answer", [UnreachableError("no route"), problem(503), problem(401), Answer(200, b"hello")])
def test_a_service_in_trouble_raises_nothing(
    transport: ScriptedTransport,
    answer: Answer | UnreachableError,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TALLYBOARD_SPOOL", "off")
    transport.script.extend([answer] * 200)
    run = tallyboard.init("digits/try1", exit_timeout_s=0.1)
    for _ in range(10):
        run.log({"loss": 1.0})
    assert run.flush(timeout_s=0.05) is False
    run.finish()
    assert "10 NOT sent and lost" in caplog.text
    assert run.stats().waiting == 10
