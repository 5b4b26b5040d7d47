"""What a training's machine does, sampled every second beside it: where it is seen, and that it harms nothing."""

import signal
from pathlib import Path

import pytest

import tallyboard
from tests.client_script import LIMIT_S, Script
from tests.service import RunningService, until

CPU = "system/process_cpu_percent"
FIGURES = {
    "system/cpu_percent", "system/memory_percent", CPU, "system/process_memory_bytes",
    "system/network_receive_bytes_per_s", "system/network_transmit_bytes_per_s",
}  # fmt: skip


@pytest.fixture
def script(tmp_path: Path, service: RunningService, run_name: str) -> Script:
    environ = {"TALLYBOARD_URL": service.url, "TALLYBOARD_RUN": run_name, "TALLYBOARD_SYSTEM_METRICS": "1.0"}
    return Script(tmp_path / "train.py", environ)


TRAINING = """
    import sys, threading, time, tallyboard

    class Finder:
        def find_spec(self, name, path=None, target=None):
            if threading.current_thread() is not threading.main_thread():
                print("imports", name, flush=True)

    sys.meta_path.insert(0, Finder())
    run = tallyboard.init()
    step = run.counter()
    until = time.monotonic() + 2.7
    while time.monotonic() < until:
        step.increment()
        run.log({"loss": 1.0})
        time.sleep(0.01)
"""


def test_points_come_on_a_counter_of_their_own_and_lie_along_the_training(
    script: Script, service: RunningService, run_name: str
) -> None:
    done = script.run(TRAINING)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert " 0 refused, 0 dropped" in done.stderr
    run = service.get(f"/runs/{run_name}").json()
    steps = [step for step, _ in service.points(run_name, CPU)]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) >= 1
    assert all(0 < value < 400 for _, value in service.points(run_name, CPU))
    series = service.get(f"/scalars?run={run_name}&tag=system/*").json()["series"]
    assert {one["counter"] for one in series} == {"system"}
    assert {one["tag"] for one in series} >= FIGURES
    answer = service.get(f"/scalars?run={run_name}&tag={CPU}&x=global_step").json()["series"][0]
    last = service.points(run_name, "loss")[-1][0]
    assert answer["x_source"] == "recorded"
    assert all(0 < x <= last for x in answer["points"]["x"])
    assert run["status"] == "finished"


@pytest.mark.parametrize("way", ["argument", "environment"])
def test_switched_off_there_is_none(script: Script, service: RunningService, run_name: str, way: str) -> None:
    code, off = TRAINING.replace("2.7", "1.3"), "1"
    if way == "argument":
        code = code.replace("init()", "init(system_metrics=False)")
    else:
        off = "0"
    code += "    assert 'tallyboard-system' not in [thread.name for thread in threading.enumerate()]\n"
    done = script.run(code, TALLYBOARD_SYSTEM_METRICS=off)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert service.get(f"/runs/{run_name}").json()["counters"].keys() == {"global_step"}


def test_the_end_does_not_wait_for_the_next_sample(script: Script, service: RunningService, run_name: str) -> None:
    done = script.run(
        """
        import time, tallyboard
        run = tallyboard.init(system_metrics=3600)
        run.log({"loss": 1.0})
        began = time.monotonic()
        run.finish()
        print(time.monotonic() - began < 5)
        """
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
    assert service.points(run_name, CPU) == []


def test_a_forked_child_and_its_parent_end_as_ever(script: Script, service: RunningService, run_name: str) -> None:
    """Many forks, so that some come while the thread reads or reports."""
    done = script.run("""
        import os, time, warnings, tallyboard
        warnings.simplefilter("ignore")
        from tallyboard.system import sampler
        real, sampler.Sampler.__init__ = sampler.Sampler.__init__, None
        def quick(self, *sources, interval_s):
            real(self, *sources, interval_s=0.002)
        sampler.Sampler.__init__ = quick
        run = tallyboard.init()
        for step in range(150):
            run.log({"loss": 1.0}, step)
            child = os.fork()
            if not child:
                run.log({"loss": 2.0})
                own = tallyboard.init("test/child", mode="disabled")
                own.log({"loss": 2.0})
                own.finish()
                os._exit(7)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
            time.sleep(0.002)
    """)
    assert done.returncode == 0, done.stderr
    assert "system metrics are off" not in done.stderr
    assert [step for step, _ in service.points(run_name, "loss")] == list(range(150))
    assert len(service.points(run_name, CPU)) > 5


def test_sigterm_sends_what_there_is(script: Script, service: RunningService, run_name: str) -> None:
    code = """
        import time, tallyboard
        run = tallyboard.init()
        run.log({"loss": 1.0}, 1)
        print("training", flush=True)
        time.sleep(60)
    """
    with script.started(code) as process:
        assert until(lambda: len(service.points(run_name, CPU)) > 0)
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == -signal.SIGTERM
    assert service.points(run_name, "loss") == [(1, 1.0)]
    assert service.get(f"/runs/{run_name}").json()["summary"]["preempted"].startswith("SIGTERM on ")


def test_a_continued_run_goes_on_where_the_figures_stood(
    script: Script, service: RunningService, run_name: str
) -> None:
    first = TRAINING.replace("2.7", "1.3")
    second = first.replace("init()", "init(resume='continue')")
    for code in (first, second):
        done = script.run(code)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        assert " 0 refused, 0 dropped" in done.stderr
    steps = [step for step, _ in service.points(run_name, CPU)]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) >= 2
    assert service.get(f"/runs/{run_name}").json()["counters"]["system"]["last_step"] == len(steps)


def test_a_rewind_leaves_them_alone(service: RunningService, run_name: str) -> None:
    run = tallyboard.init(run_name, url=service.url, system_metrics=1)
    run.log({"loss": 1.0}, 1)
    assert until(lambda: len(service.points(run_name, CPU)) > 0)
    before = service.points(run_name, CPU)
    run.rewind({"global_step": 0})
    run.finish()
    assert service.points(run_name, CPU)[: len(before)] == before
