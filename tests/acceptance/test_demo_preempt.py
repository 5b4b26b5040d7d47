"""The preemption demo: three kills, a zombie, no service, no network, and Tallyboard's curve is the training's."""

import socket
import threading
from pathlib import Path

import pytest

from tallyboard_server.cli.demo import chart, preempt, stage
from tallyboard_server.cli.demo.forwarder import Forwarder
from tallyboard_server.cli.demo.outcome import Outcome, Shown, concluded, drawn, surviving
from tests.cli_process import tallyboard

STEPS = 120


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_curve_is_that_of_the_surviving_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stage, "TRAINING_S", 8.0)
    outcome = preempt.play(tmp_path, STEPS)
    said = capsys.readouterr().out
    assert sorted(outcome.expected) == list(range(1, STEPS + 1))
    assert outcome.verified, said
    assert outcome.tallyboard == Shown(outcome.expected, outcome.expected), said
    assert outcome.is_whole
    assert outcome.logged > STEPS
    assert said.count("is killed") == 4  # jobs 1, 2 and 4, and the service
    for event in ("the service is back, and has 1", "the network is back, and has 1", "hangs at step", "wakes up"):
        assert event in said
    assert "is found and killed" in said
    assert "✓ digits/preempted" in said
    assert "Tallyboard, TensorBoard open all along: 120 of 120 points" in drawn(outcome, STEPS)
    assert "Tallyboard shows exactly the training" in concluded(outcome)


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    outcome = tallyboard("demo-preempt", "--folder", str(tmp_path))
    assert (outcome.returncode, "is not empty" in outcome.stderr) == (1, True)


def test_what_survives_is_each_job_s_up_to_its_successor() -> None:
    first, zombie, last = {1: 1.0, 2: 1.0, 3: 1.0}, {2: 2.0, 3: 2.0, 9: 2.0}, {3: 3.0, 4: 3.0}
    assert surviving([first, zombie, last]) == {1: 1.0, 2: 2.0, 3: 3.0, 4: 3.0}


def test_a_curve_that_lacks_a_point_is_told_and_not_whole() -> None:
    expected = {1: 0.5, 2: 0.25, 3: 0.125, 4: 0.0}
    holed = {1: 0.5, 2: 0.75, 4: 0.0}
    outcome = Outcome(expected, Shown(expected, holed), Shown(holed, {}), 9, True)
    assert not outcome.is_whole
    text = drawn(outcome, 4)
    assert "Tallyboard, TensorBoard open all along: 4 of 4 points\n  ████\n  █▅▃▁" in text
    assert "Tallyboard, TensorBoard started at the end: 2 of 4 points, and 1 of superseded jobs\n  ██·█\n  ▆█ ▁" in text
    assert "plain tensorboardX, TensorBoard started at the end: 0 of 4 points\n  ····\n" in text + "\n"


def test_what_is_concluded_is_what_came_out() -> None:
    expected = {1: 0.5, 2: 0.25}
    whole, holed = Shown(expected, expected), Shown({1: 0.5, 2: 0.75}, {2: 0.25})
    text = concluded(Outcome(expected, whole, holed, 5, True))
    assert text.startswith("Five jobs reported 5 points. 2 of them are the training, one a step;\nthe other 3 are")
    assert "Tallyboard shows exactly the training" in text
    assert (
        "Plain tensorboardX shows 1 of 2 points, and 1 of superseded jobs in the open TensorBoard,\n"
        "1 of 2 points in a new one, and no warning." in text
    )
    text = concluded(Outcome(expected, holed, whole, 5, True))
    assert "that is a bug" in text
    assert "Plain tensorboardX came through this time." in text


def test_stretches_of_many_steps() -> None:
    points = dict.fromkeys(range(50), 1.0) | {75: 3.0}
    assert chart.presence(points, range(100), 4) == "██·▒"
    assert chart.curve(points, range(100), 4) == "▁▁ █"
    assert chart.presence({}, [], 4) == chart.curve({}, [], 4) == ""


def test_the_forwarder_passes_on_until_it_is_cut_and_again_after() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=echo, args=(server,), daemon=True).start()
        forwarder = Forwarder(("127.0.0.1", server.getsockname()[1]))
        try:
            with socket.create_connection(("127.0.0.1", forwarder.port), timeout=10) as connection:
                assert asked(connection) == b"hello"
                forwarder.cut()
                assert asked(connection) == b""
            with socket.create_connection(("127.0.0.1", forwarder.port), timeout=10) as connection:
                assert asked(connection) == b""
            forwarder.mend()
            with socket.create_connection(("127.0.0.1", forwarder.port), timeout=10) as connection:
                assert asked(connection) == b"hello"
        finally:
            forwarder.close()


def echo(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            connection.sendall(connection.recv(100))


def asked(connection: socket.socket) -> bytes:
    """What comes back for a hello; nothing if the connection is broken."""
    try:
        connection.sendall(b"hello")
        return connection.recv(100)
    except OSError:
        return b""
