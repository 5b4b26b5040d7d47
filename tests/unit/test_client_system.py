"""What the machine does, sampled: files of /proc, what psutil sees, a faulty driver, the thread, and the run."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

import tallyboard
from tallyboard import lifecycle, start
from tallyboard.system import gpus, proc
from tallyboard.system.gpus import Gpus
from tallyboard.system.proc import Figures, Machine, Process, Traffic
from tallyboard.system.sampler import Sampler
from tests.unit.client_kit import Clock, Ears, ScriptedTransport

# ── files of /proc ───────────────────────────────────────────────────────────────────────────────────────────────────


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def stat(pid: int, parent: int, *ticks: int, name: str = "python") -> str:
    """/proc/<pid>/stat with user, system and ended children's user and system ticks."""
    return f"{pid} ({name}) S {parent} " + "0 " * 9 + " ".join(map(str, ticks)) + " 20 0\n"


def test_the_machines_shares_count_from_the_look_before(tmp_path: Path) -> None:
    write(tmp_path, stat="cpu 100 0 50 800 50 0 0 0 7 0\ncpu0 …\n", meminfo="MemTotal: 1000 kB\nMemAvailable: 250 kB\n")
    machine = Machine(tmp_path)
    assert machine() == {"memory_percent": 75.0}
    write(tmp_path, stat="cpu 130 0 60 840 70 0 0 0 9 0\n")
    assert machine() == {"cpu_percent": pytest.approx(40.0), "memory_percent": 75.0}
    assert "cpu_percent" not in machine()  # no tick since: nothing is known


def test_a_process_counts_with_all_below_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    me, clock = os.getpid(), Clock()
    monkeypatch.setattr(os, "sysconf", {"SC_CLK_TCK": 100, "SC_PAGE_SIZE": 4096}.__getitem__)
    process = Process(tmp_path, clock)

    def after(seconds: float, *gone: int, **ticks: int) -> float | None:
        """The figure once so much time has passed; `p9001=5` are ticks, those of `gone` are me's from then on."""
        clock.advance(seconds)
        parents = {me: 1, 9001: me, 9002: 9001, 9003: 1, 9004: me}
        for pid, parent in parents.items():
            if (spent := ticks.get("me" if pid == me else f"p{pid}")) is not None:
                ended = 0 if pid != me else sum(gone)
                write(tmp_path, **{f"{pid}__stat": stat(pid, parent, spent, 0, ended, 0, name="odd ) (name")})
            else:
                shutil.rmtree(tmp_path / str(pid), ignore_errors=True)
        return process().get("process_cpu_percent")

    assert after(0.0, me=50, p9001=5, p9002=5, p9003=900) is None
    assert after(2.0, me=150, p9001=5, p9002=205, p9003=9_000) == pytest.approx(150.0)  # 1 s, and 2 s of a grandchild
    assert after(2.0, 5, 205, me=250) == pytest.approx(50.0)  # both have ended, and what they took is no longer theirs
    assert after(2.0, 5, 205, me=250, p9004=800) == 0.0  # a new one is found within a minute
    assert after(60.0, 5, 205, me=250, p9004=4_000) == 0.0  # and counts from then on
    assert after(2.0, 5, 205, me=250, p9004=4_100) == pytest.approx(50.0)
    write(tmp_path, **{f"{me}__statm": "500 100 20 1 0 50 0"})
    assert process()["process_memory_bytes"] == 409_600.0


def test_what_is_not_told_is_left_out(tmp_path: Path) -> None:
    clock = Clock()
    sources: list[proc.Source] = [Machine(tmp_path), Process(tmp_path, clock), Traffic(tmp_path, tmp_path, clock)]
    assert [source() for source in sources] == [{}, {}, {}]
    write(tmp_path, stat="cpu what\n", meminfo="MemTotal: kB\n", diskstats="8 0\n", net__dev="a\nb\neth0: 1\n")
    write(tmp_path, block__sda__size="1")
    clock.advance(1.0)
    assert sources[0]() == sources[2]() == {}
    assert sources[1]().keys() == {"process_cpu_percent"}  # from os.times, which every system has


def test_traffic_is_that_of_whole_disks_and_of_real_networks(tmp_path: Path) -> None:
    clock = Clock()
    head = "Inter-|   Receive |  Transmit\n face |bytes\n"

    def disk(name: str, read: int, written: int) -> str:
        return f" 8 0 {name} 1 0 {read} 0 1 0 {written} 0 0 0 0\n"

    def net(name: str, received: int, sent: int) -> str:
        return f"{name}: {received} 0 0 0 0 0 0 0 {sent} 0 0 0 0 0 0 0\n"

    write(tmp_path, sys__block__sda__size="1", sys__block__loop0__size="1")
    traffic = Traffic(tmp_path, tmp_path / "sys", clock)
    disks = disk("sda", 10, 20) + disk("sda1", 10, 20) + disk("loop0", 5, 5)
    write(tmp_path, diskstats=disks, net__dev=head + net("lo", 9, 9) + net("  eth0", 1000, 100) + net("veth1", 9, 9))
    assert traffic() == {}
    clock.advance(2.0)
    disks = disk("sda", 14, 28) + disk("sda1", 14, 28) + disk("loop0", 500, 500)
    write(
        tmp_path, diskstats=disks, net__dev=head + net("lo", 999, 999) + net("  eth0", 1500, 100) + net("veth1", 99, 99)
    )
    assert traffic() == {
        "disk_read_bytes_per_s": 1024.0,
        "disk_write_bytes_per_s": 2048.0,
        "network_receive_bytes_per_s": 250.0,
        "network_transmit_bytes_per_s": 0.0,
    }
    clock.advance(2.0)
    write(tmp_path, net__dev=head + net("eth0", 3, 100))  # it was reset
    assert "network_receive_bytes_per_s" not in traffic()


def psutil_sees(child: int) -> tuple[float, float, float]:
    """Seconds so far: of all cores, of those busy, and of this process with its child."""
    machine = psutil.cpu_times()
    processes = [psutil.Process(), psutil.Process(child)]
    total = sum(machine[:8])
    return total, total - machine.idle - machine.iowait, sum(sum(p.cpu_times()[:2]) for p in processes)


def test_the_real_proc_is_what_psutil_sees() -> None:
    """Ours lies between what psutil sees just before and just after, while a child is busy, too."""
    child = subprocess.Popen([sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE)
    machine, process = Machine(), Process()

    def look() -> tuple[Figures, tuple[float, float, float], tuple[float, float, float]]:
        before = psutil_sees(child.pid)
        return {**machine(), **process()}, before, psutil_sees(child.pid)

    try:
        assert child.stdout is not None
        child.stdout.readline()
        _, a, b = look()
        began = process._read_at
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            pass
        figures, c, d = look()
    finally:
        child.kill()
        child.communicate()
    least, most = [x - y for x, y in zip(c, b, strict=True)], [x - y for x, y in zip(d, a, strict=True)]
    tick = 0.02  # clocks here tick in hundredths, for user and system apart
    assert (least[1] - tick) / (most[0] + tick) <= figures["cpu_percent"] / 100 <= (most[1] + tick) / (least[0] - tick)
    used = figures["process_cpu_percent"] / 100 * (process._read_at - began)
    assert least[2] - 2 * tick <= used <= most[2] + 2 * tick
    assert used > 0.05  # both wanted a core
    assert figures["memory_percent"] == pytest.approx(psutil.virtual_memory().percent, abs=5)
    assert figures["process_memory_bytes"] == pytest.approx(psutil.Process().memory_info().rss, rel=0.1)


def test_on_a_crowded_machine_workers_are_not_looked_for(tmp_path: Path) -> None:
    write(tmp_path, **{"1__stat": stat(1, 0, 5, 0, 0, 0), "2__stat": stat(2, 1, 7, 0, 0, 0)})
    assert proc.tree(tmp_path, 1) == [1, 2]
    for pid in range(3, proc.PROCESSES_MAX + 3):
        (tmp_path / str(pid)).mkdir()
    assert proc.tree(tmp_path, 1) == [1]


def test_process_numbers_used_anew_make_no_circle(tmp_path: Path) -> None:
    write(tmp_path, **{"1__stat": stat(1, 2, 5, 0, 0, 0), "2__stat": stat(2, 1, 7, 0, 0, 0), "3__x": ""})
    assert proc.tree(tmp_path, 1) == [1, 2, 1]


# ── a driver that is none of ours ────────────────────────────────────────────────────────────────────────────────────


class FaultyNvml:
    """Stands in for `pynvml` and its driver: no machine of ours has a GPU. What `fails` names raises."""

    NVML_TEMPERATURE_GPU = 0

    def __init__(self, count: int = 2, fails: tuple[str, ...] = ()) -> None:
        self.count = count
        self.fails = fails
        self.opened = 0

        self.answers: dict[str, Callable[..., Any]] = {
            "nvmlInit": self.open,
            "nvmlDeviceGetCount": lambda: self.count,
            "nvmlDeviceGetHandleByIndex": lambda index: index,
            "nvmlDeviceGetUtilizationRates": lambda i: SimpleNamespace(gpu=90 + i, memory=50),
            "nvmlDeviceGetMemoryInfo": lambda i: SimpleNamespace(used=2_000 + i, total=8_000, free=6_000 - i),
            "nvmlDeviceGetTemperature": lambda i, sensor: 60 + i + sensor,
            "nvmlDeviceGetPowerUsage": lambda i: 250_500 + i,
        }

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*about: Any) -> Any:
            if name in self.fails:
                raise RuntimeError(f"NVML_ERROR in {name}")
            return self.answers[name](*about)

        return call

    def open(self) -> None:
        self.opened += 1


def test_every_gpu_tells_its_figures() -> None:
    nvml = FaultyNvml()
    source = Gpus(nvml)
    assert nvml.opened == 0
    source()
    assert source() == {
        "gpu0/utilization_percent": 90.0, "gpu0/memory_bytes": 2000.0, "gpu0/memory_percent": 25.0,
        "gpu0/temperature_celsius": 60.0, "gpu0/power_watts": 250.5,
        "gpu1/utilization_percent": 91.0, "gpu1/memory_bytes": 2001.0, "gpu1/memory_percent": pytest.approx(25.0125),
        "gpu1/temperature_celsius": 61.0, "gpu1/power_watts": 250.501,
    }  # fmt: skip
    assert nvml.opened == 1
    assert len(Gpus(FaultyNvml(100))()) == gpus.GPUS_MAX * 5


def test_the_guide_lists_every_figure(tmp_path: Path) -> None:
    clock = Clock()
    write(
        tmp_path, sys__block__sda__size="1", diskstats=" 8 0 sda 1 0 0 0 1 0 0 0 0 0\n",
        net__dev="a\nb\neth0: 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n",
    )  # fmt: skip
    traffic = Traffic(tmp_path, tmp_path / "sys", clock)
    sources: list[proc.Source] = [Machine(), Process(clock=clock), traffic, Gpus(FaultyNvml(1))]
    for _ in range(2):
        clock.advance(1.0)
        figures = {name for source in sources for name in source()}
    page = (Path(__file__).parents[2] / "docs" / "guides" / "training-kit.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`system/([\w/]+)`", page)) == figures | {"cpu_percent"}  # which needs clock ticks to pass


@pytest.mark.parametrize(
    ("fails", "figures"),
    [
        ("nvmlInit", 0),
        ("nvmlDeviceGetCount", 0),
        ("nvmlDeviceGetHandleByIndex", 0),
        ("nvmlDeviceGetUtilizationRates", 8),
        ("nvmlDeviceGetMemoryInfo", 6),
        ("nvmlDeviceGetTemperature", 8),
        ("nvmlDeviceGetPowerUsage", 8),
    ],
)
def test_a_call_that_fails_leaves_its_figures_out(fails: str, figures: int) -> None:
    nvml = FaultyNvml(fails=(fails,))
    source = Gpus(nvml)
    assert len(source()) == figures
    nvml.fails = () if figures else nvml.fails
    assert len(source()) == (10 if figures else 0)  # a device that could not be opened stays closed


@pytest.mark.parametrize("error", [ImportError("none"), OSError("a broken installation")])
def test_without_the_drivers_library_there_are_no_gpus(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    class Finder:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "pynvml":
                raise error

    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    assert gpus.find() == []


# ── the thread ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Sampled:
    """A sampler whose work is done on the test's own thread, `turns` samples long."""

    def __init__(self, *sources: proc.Source, ready: Callable[[], bool] = lambda: True) -> None:
        self.ears = Ears()
        self.reports: list[Figures] = []
        self.waits: list[float] = []
        self.sampler = Sampler(sources, ready, self.reports.append, self.ears, interval_s=15.0)

    def work(self, turns: int) -> None:
        def wait(seconds: float) -> bool:
            self.waits.append(seconds)
            return len(self.waits) > turns

        self.sampler.work(wait)


def counting() -> proc.Source:
    numbers = iter(range(100))
    return lambda: {"n": float(next(numbers))}


def test_the_first_figures_come_after_one_interval() -> None:
    sampled = Sampled(counting(), lambda: {"gpu0/power_watts": 1.5})
    sampled.work(0)
    assert (sampled.reports, sampled.waits) == ([], [15.0])
    sampled = Sampled(counting(), lambda: {"gpu0/power_watts": 1.5})
    sampled.work(2)
    assert sampled.reports == [{"system/n": float(n), "system/gpu0/power_watts": 1.5} for n in (1, 2)]


def test_what_comes_too_early_is_skipped_and_nothing_is_nothing_to_report() -> None:
    answers = iter([False, True, True])
    sampled = Sampled(counting(), ready=lambda: next(answers))
    sampled.work(3)
    assert [report["system/n"] for report in sampled.reports] == [2.0, 3.0]
    nothing = Sampled(dict)
    nothing.work(3)
    assert nothing.reports == []


def test_any_error_turns_it_off_with_one_notice() -> None:
    def broken() -> Figures:
        if len(sampled.waits) == 2:
            raise ZeroDivisionError("no such thing")
        return {"n": 1.0}

    sampled = Sampled(broken)
    sampled.work(10)
    assert (len(sampled.reports), len(sampled.waits)) == (1, 2)
    assert len(sampled.ears.heard) == 1
    assert "system metrics are off from here on: ZeroDivisionError: no such thing" in sampled.ears.heard[0]


def test_after_its_end_it_reports_nothing_more() -> None:
    sampled = Sampled(lambda: {"n": 1.0})
    sampled.sampler.end()
    sampled.work(3)
    assert sampled.reports == []


def test_a_machine_without_room_for_a_thread_trains_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", refuse)
    sampled = Sampled(counting())
    sampled.sampler.start()
    assert ["off from here on" in said for said in sampled.ears.heard] == [True]


# ── in a run ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Remembered(Sampler):
    """A sampler that has no thread."""

    made: list["Remembered"]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.ends = 0
        self.made.append(self)

    def start(self) -> None:
        return

    def end(self) -> None:
        self.ends += 1
        super().end()


@pytest.fixture(autouse=True)
def _sampled_as_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests switch it off."""
    monkeypatch.delenv("TALLYBOARD_SYSTEM_METRICS")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Remembered]]:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setattr(start, "Sampler", Remembered)
    monkeypatch.setattr(start, "HttpTransport", lambda *_, **_options: ScriptedTransport())
    Remembered.made = []
    yield Remembered.made
    lifecycle.finish_all()


def test_a_run_of_init_samples_and_no_other(made: list[Remembered], monkeypatch: pytest.MonkeyPatch) -> None:
    tallyboard.init("digits/try1").finish()
    assert [(sampler._interval_s, sampler.ends) for sampler in made] == [(15.0, 1)]
    tallyboard.init("digits/try1", system_metrics=2.5).finish()
    assert made.pop()._interval_s == 2.5
    tallyboard.init("digits/try1", system_metrics=False).finish()
    tallyboard.init("digits/try1", mode="disabled").finish()
    tallyboard.SummaryWriter("runs/digits/try2").close()
    monkeypatch.setenv("TALLYBOARD_SYSTEM_METRICS", "0")
    tallyboard.init("digits/try1").finish()
    monkeypatch.delenv("TALLYBOARD_SYSTEM_METRICS")
    monkeypatch.setenv("RANK", "3")
    tallyboard.init("digits/try1").finish()
    assert len(made) == 1


def test_a_continued_run_waits_until_it_knows_where_it_stands(
    made: list[Remembered], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tallyboard.delivery.transport import UnreachableError

    away = ScriptedTransport(*[UnreachableError("no route")] * 1000)
    monkeypatch.setattr(start, "HttpTransport", lambda *_, **_options: away)
    monkeypatch.setattr(start, "OPEN_TIMEOUT_S", 0.0)
    tallyboard.init("digits/try1", resume="continue", exit_timeout_s=0.1).finish()
    tallyboard.init("digits/try1", exit_timeout_s=0.1).finish()
    monkeypatch.setattr(start, "HttpTransport", lambda *_, **_options: ScriptedTransport())
    tallyboard.init("digits/try1", resume="continue").finish()
    assert [sampler._ready() for sampler in made] == [False, True, True]


def test_what_a_strict_training_is_to_hear_it_hears_itself(made: list[Remembered]) -> None:
    from tallyboard.errors import StepDecreasedError

    run = tallyboard.init("digits/try1", strict=True)
    run.recorder.fail(StepDecreasedError("the training's"))
    made[0]._report({"system/cpu_percent": 1.0})
    with pytest.raises(StepDecreasedError, match="the training's"):
        run.log({"loss": 1.0})
    run.finish()
