"""The zombie: a job that is cut off, replaced by another, and still alive when the network comes back."""

from pathlib import Path

import pytest

import tallyboard
from tests.client_script import Script
from tests.faults.proxy import proxied
from tests.service import RunningService

ZOMBIE = """
    import sys, time, tallyboard
    run = tallyboard.init(resume="{resume}", next_steps=None, exit_timeout_s=20.0)
    step, epoch = run.counter(), run.counter("epoch")

    def train(until):
        while step.value < until:
            step.increment()
            run.log({{"loss": 100.0 + step.value}})
            if step.value % 100 == 0:
                epoch.increment()
                epoch.log({{"val": 100.0 + epoch.value}})

    train(600)
    assert run.flush()
    print("cut me off", flush=True)
    sys.stdin.readline()
    train(1200)  # 601 to 1200 go to the spool
    assert run.flush(kept=True)
    print("kept", flush=True)
    sys.stdin.readline()
    train(1500)  # it lives on, after the other has begun
    run.finish()
    print("ended", flush=True)
"""


@pytest.mark.parametrize("resume", ["new", "continue"])
@pytest.mark.parametrize("way", ["next_steps", "load_state_dict"])
def test_before_the_cut_the_curve_is_as_and_from_it_on_bs(
    tmp_path: Path, service: RunningService, run_name: str, resume: str, way: str
) -> None:
    with proxied(service.port, faults=()) as proxy:
        script = Script(
            tmp_path / "zombie.py",
            {"TALLYBOARD_URL": proxy.url, "TALLYBOARD_RUN": run_name, "TALLYBOARD_SPOOL_DIR": str(tmp_path / "a")},
        )
        with script.started(ZOMBIE.format(resume=resume)) as a:
            assert a.stdin is not None
            assert a.stdout is not None
            proxy.cut()
            a.stdin.write("go on\n")
            a.stdin.flush()
            assert a.stdout.readline() == "kept\n"
            b = resumed(service, run_name, way)
            report(b, 1000, 1100)
            assert b.flush()
            proxy.mend()
            a.stdin.write("go on\n")
            a.stdin.flush()
            assert a.stdout.readline() == "ended\n"
            output, errors = a.communicate(timeout=60)
            assert (a.returncode, output) == (0, ""), errors  # nobody's training raised
            report(b, 1101, 1300)  # B goes on, none the wiser
            b.finish()
    assert b.stats().refused == 0
    expected = [(s, 100.0 + s) for s in range(1, 1000)] + [(s, -float(s)) for s in range(1000, 1301)]
    assert service.points(run_name, "loss") == expected
    assert service.points(run_name, "val") == [(e, 100.0 + e) for e in range(1, 10)] + [(10, -10.0)]
    first, second = service.get(f"/runs/{run_name}").json()["counters"]["global_step"]["attempts"]
    assert (first["reports"], first["last_step"], first["last_visible"]) == (
        1500,
        1500,
        999,
    )  # all of A's, in A's attempt
    assert (second["reports"], second["start"], second["last_step"]) == (301, 1000, 1300)
    assert first["writer"] != second["writer"]
    assert tallyboard.sync(tmp_path / "a", url=service.url) == []


def resumed(service: RunningService, run: str, way: str) -> tallyboard.Run:
    """Job B: it goes on from a checkpoint at step 999."""
    if way == "next_steps":
        steps = {"global_step": 1000, "epoch": 10}
        return tallyboard.init(run, resume="must", next_steps=steps, url=service.url, strict=True)
    b = tallyboard.init(run, resume="must", url=service.url, strict=True)
    b.load_state_dict({"global_step": {"value": 999, "next_step": 1000}, "epoch": {"value": 9, "next_step": 10}})
    return b


def report(run: tallyboard.Run, first: int, last: int) -> None:
    step = run.counter()
    for number in range(first, last + 1):
        assert step.increment() == number
        run.log({"loss": -float(number)})
        if number == 1000:
            run.counter("epoch").increment()
            run.log({"val": -10.0}, counter="epoch")
