"""Going through something with a counter: what is counted, and what a terminal shows of it."""

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tallyboard import notices, progress
from tallyboard.counter import Counter
from tallyboard.errors import ConfigurationError
from tests.unit.client_kit import recorded

COLUMNS, LINES = 80, 24


def stand(c: Counter) -> tuple[int, int | None]:
    return c.value, c.total


# ── what is counted ──────────────────────────────────────────────────────────────────────────────────────────────


def test_the_body_of_the_first_item_is_at_1() -> None:
    mine = recorded(strict=True)
    c = mine.run.counter()
    seen = []
    for item in c.track("abc"):
        seen.append((item, c.value))
        mine.log({"loss": 0.5})
    assert seen == [("a", 1), ("b", 2), ("c", 3)]
    assert [step for _, step, _, _ in mine.rows()] == [1, 2, 3]
    assert stand(c) == (3, 3)


def test_epochs_around_batches() -> None:
    mine = recorded(strict=True)
    run = mine.run
    step, epoch = run.counter("global_step"), run.counter("epoch")
    for _ in epoch.track(range(3)):
        for _ in step.track(range(4)):
            mine.log({"loss": 0.5})
        mine.log({"acc": 0.5}, counter="epoch")
        assert step.total == step.value
    assert (step.value, epoch.value, epoch.total) == (12, 3, 3)
    assert [at["epoch"] for name, _, _, at in mine.rows() if name == "global_step"] == [1] * 4 + [2] * 4 + [3] * 4


def test_it_goes_on_where_a_loop_was_left() -> None:
    c = recorded(strict=True).run.counter()
    for _ in c.track(range(10)):
        if c.value == 4:
            break
    with pytest.raises(ZeroDivisionError):
        [1 / (7 - c.value) for _ in c.track(range(10))]
    assert stand(c) == (7, 14)
    assert [c.value for _ in c.track(range(2))] == [8, 9]
    assert c.total == 9


def test_what_the_items_raise_comes_through_and_counts_nothing() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ConnectionError("the data is away")

    c = recorded(strict=True).run.counter()
    with pytest.raises(ConnectionError):
        list(c.track(items()))
    assert stand(c) == (1, None)


class Moody:
    """A loader that does not want to be measured."""

    def __len__(self) -> int:
        raise RuntimeError("nobody knows")

    def __iter__(self) -> Iterator[int]:
        return iter(range(3))


def test_how_many_there_are_is_asked_or_said() -> None:
    c = recorded(strict=True).run.counter()
    assert list(c.track(Moody())) == [0, 1, 2]
    assert stand(c) == (3, None)
    assert list(c.track(iter("ab"), total=2)) == ["a", "b"]
    assert stand(c) == (5, 5)
    with pytest.raises(ConfigurationError, match="total"):
        c.track("ab", total=-1)
    with pytest.raises(TypeError, match="not iterable"):
        c.track(5)  # type: ignore[arg-type]
    assert stand(c) == (5, 5)


def test_a_larger_total_that_somebody_said_stays() -> None:
    mine = recorded(strict=True)
    c = mine.run.counter("global_step", total=8)
    for _ in range(3):
        list(c.track(range(4)))
    assert stand(c) == (12, 12)
    said = [section.open.counters["global_step"].total for section in mine.recorder.take() if section.open]
    assert said[-1] == 12
    c = recorded(strict=True).run.counter("global_step", total=1000)
    list(c.track(range(4)))
    assert c.total == 1000


# ── what a terminal shows ────────────────────────────────────────────────────────────────────────────────────────


class Tty(io.StringIO):
    """A stream that says it is a terminal; `fails` has it refuse what is written."""

    fails = False

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self.fails:
            raise RuntimeError("hung up")
        return super().write(text)


def a_terminal(monkeypatch: pytest.MonkeyPatch) -> Tty:
    """Stands for stderr until the test ends; pytest puts its own there when a test begins, so no fixture."""
    tty = Tty()
    monkeypatch.setattr(sys, "stderr", tty)
    monkeypatch.setattr(progress, "SHOWN_EVERY_S", 0.0)
    return tty


def last_line(tty: Tty) -> str:
    return tty.getvalue().rstrip("\n").split("\r")[-1]


def test_a_bar_has_the_counters_name_and_value(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = a_terminal(monkeypatch)
    run = recorded().run
    run.load_state_dict({"global_step": {"value": 137, "next_step": 138, "moved": True}})
    c = run.counter()
    for i, _ in enumerate(c.track(range(100))):
        if i == 9:
            break
    assert last_line(terminal).startswith("global_step:")
    assert " 147/237 [" in last_line(terminal)
    assert terminal.getvalue().endswith("\n")
    assert not notices.bars


def test_a_terminal_that_fails_does_not_end_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = a_terminal(monkeypatch)
    c = recorded().run.counter()
    for _ in c.track(range(10)):
        terminal.fails = c.value > 3
    assert c.value == 10
    assert not notices.bars
    assert [c.value for _ in c.track(range(2))] == [11, 12]  # whose bar can't even begin


@pytest.mark.parametrize("stderr", [None, "closed", "odd"])
def test_where_there_is_no_terminal_nobody_sees_it(monkeypatch: pytest.MonkeyPatch, stderr: str | None) -> None:
    stream: Any = None if stderr is None else io.StringIO()
    if stderr == "closed":
        stream.close()
    elif stderr == "odd":
        stream = object()
    monkeypatch.setattr(sys, "stderr", stream)
    c = recorded().run.counter()
    assert list(c.track(range(3))) == [0, 1, 2]


def test_a_loop_that_a_traceback_still_holds_gives_way_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = a_terminal(monkeypatch)
    c = recorded().run.counter()
    left = c.track(range(10))
    next(left)
    for _ in c.track(range(5)):
        assert len(notices.bars) == 1
    assert not notices.bars
    assert " 6/6 [" in last_line(terminal)
    assert next(left) == 1  # it can be gone on with, too
    assert not notices.bars


def test_the_end_of_a_run_takes_its_bars_away(monkeypatch: pytest.MonkeyPatch) -> None:
    a_terminal(monkeypatch)
    run = recorded().run
    left = run.counter().track(range(10))
    next(left)
    assert len(notices.bars) == 1
    run.finish()
    assert not notices.bars


def test_the_bar_has_no_thread_and_no_lock_that_processes_share(monkeypatch: pytest.MonkeyPatch) -> None:
    from tqdm import tqdm

    a_terminal(monkeypatch)
    list(recorded().run.counter().track(range(3)))
    kind = progress._kind()
    assert kind.monitor is None
    assert type(vars(kind)["_lock"]).__module__ == "_thread"
    assert tqdm.monitor_interval == 10  # the training's own bars are its own


# ── a real terminal ──────────────────────────────────────────────────────────────────────────────────────────────


class Screen:
    """What a terminal makes of carriage returns, line feeds, ESC [A (a line up) and ESC [K (clear from here on)."""

    def __init__(self) -> None:
        self.lines = [""] * LINES
        self.row = self.column = 0
        self.shown: list[str] = []

    def feed(self, text: str) -> "Screen":
        for part in re.findall("\x1b\\[[AK]|.", text, re.DOTALL):
            self._put(part)
        return self

    def _put(self, part: str) -> None:
        line = self.lines[self.row].ljust(self.column)
        match part:
            case "\r":
                self.column = 0
                self.shown.append("\n".join(self.lines))
            case "\n":
                self.row += 1
            case "\x1b[A":
                self.row -= 1
            case "\x1b[K":
                self.lines[self.row] = line[: self.column]
            case _:
                self.lines[self.row] = line[: self.column] + part + line[self.column + 1 :]
                self.column += 1

    @property
    def left(self) -> list[str]:
        """The lines that are there at the end."""
        return [line.rstrip() for line in self.lines if line.strip()]


def at_terminal(program: str) -> tuple[Screen, str]:
    """Run a program whose stderr is a terminal. Returns what that showed, and what was printed to stdout."""
    mine, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program], stdout=subprocess.PIPE, stderr=its
    ) as process:
        os.close(its)
        written = bytearray()
        try:
            while chunk := os.read(mine, 65536):
                written += chunk
        except OSError:  # how Linux says that nobody holds the other end any more
            pass
        finally:
            os.close(mine)
        assert process.stdout is not None
        printed = process.stdout.read().decode()
        assert process.wait(timeout=60) == 0, written.decode()
    return Screen().feed(written.decode()), printed


BEGIN = """
import os, sys, tallyboard
from tallyboard import progress
progress.SHOWN_EVERY_S = 0.0
run = tallyboard.init("digits/try1", mode="disabled")
step, epoch = run.counter("global_step"), run.counter("epoch")
"""


def test_epochs_around_batches_take_two_lines_and_leave_one() -> None:
    screen, _ = at_terminal(BEGIN + "for _ in epoch.track(range(3)):\n    for _ in step.track(range(4)): pass")
    both = [shown.splitlines() for shown in screen.shown if "global_step:" in shown]
    assert all(first.startswith("epoch:") and second.startswith("global_step:") for first, second, *_ in both)
    for value in ("1/4", "4/4", "5/8", "12/12"):
        assert any(f" {value} [" in second for _, second, *_ in both), value
    (left,) = screen.left
    assert left.startswith("epoch: 100%|")
    assert " 3/3 [" in left


def test_a_loop_that_is_left_leaves_its_bar_where_it_was() -> None:
    screen, printed = at_terminal(
        BEGIN + "for _ in step.track(range(10)):\n    if step.value == 4: break\n"
        "for _ in step.track(range(2)): pass\n"
        "print(step.value, step.total)"
    )
    assert printed == "6 6\n"
    first, second = screen.left
    assert " 4/10 [" in first
    assert " 6/6 [" in second


def test_bars_of_the_trainings_own_keep_their_lines() -> None:
    screen, _ = at_terminal(
        BEGIN + "from tqdm import tqdm\n"
        "for _ in tqdm(range(2), desc='mine'):\n    for _ in step.track(range(3)): tqdm.write('said', file=sys.stderr)"
    )
    assert any(
        lines[-2].startswith("mine:") and lines[-1].startswith("global_step:")
        for lines in ([line for line in shown.splitlines() if line.strip()] for shown in screen.shown)
        if len(lines) >= 2
    )
    assert screen.left[:6] == ["said"] * 6
    assert screen.left[6].startswith("mine: 100%|")
    assert len(screen.left) == 7


def test_notices_go_above_the_bars() -> None:
    screen, _ = at_terminal(
        BEGIN + "for _ in epoch.track(range(2)):\n"
        "    for _ in step.track(range(3)): run.tell_once(str(step.value), f'step {step.value}')"
    )
    assert screen.left[:6] == [f"tallyboard: step {i}" for i in range(1, 7)]
    assert screen.left[6].startswith("epoch: 100%|")
    assert len(screen.left) == 7


def test_of_several_ranks_only_the_first_shows_bars() -> None:
    program = BEGIN + "for _ in step.track(range(3)): pass\nprint(step.value)"
    for rank in ("0", "1"):
        screen, printed = at_terminal(f"import os; os.environ['RANK'] = '{rank}'\n{program}")
        assert printed == "3\n"
        assert sum("global_step" in line for line in screen.left) == (rank == "0")


def test_a_forked_child_draws_nothing() -> None:
    screen, printed = at_terminal(
        BEGIN + "import warnings; warnings.simplefilter('ignore')\n"
        "for _ in step.track(range(6)):\n"
        "    if step.value == 3 and os.fork() == 0:\n"
        "        print(step.increment(), flush=True); sys.exit(0)\n"
        "os.wait(); import threading; print(step.value, *(thread.name for thread in threading.enumerate()))"
    )
    (left,) = screen.left
    assert " 6/6 [" in left
    assert printed.splitlines() == ["4", "6 MainThread tallyboard-signals"]


def test_without_a_terminal_nothing_is_written_and_nothing_loaded(tmp_path: Path) -> None:
    program = BEGIN + "for _ in step.track(range(4)): pass\nprint(step.value, 'tqdm' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path
    )
    assert (done.stdout, done.stderr) == ("4 False\n", "")
