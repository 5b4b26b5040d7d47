"""Trainings that are killed at any moment, resume from their last checkpoint, and leave whole curves behind.

KILLS=500 in the environment kills more often than the 25 times of a usual run.
"""

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

import tallyboard
from tests.client_script import Script
from tests.faults.proxy import proxied
from tests.service import RunningService

KILLS = int(os.environ.get("KILLS", "25"))
LIVES_S_MAX = 0.4

TRAINING = """
    import json, os, sys, time
    from pathlib import Path
    import tallyboard

    folder, life, steps = Path(os.environ["FOLDER"]), int(os.environ["LIFE"]), int(os.environ["STEPS"])
    saved = folder / "checkpoint.json"
    state = json.loads(saved.read_text()) if saved.exists() else {}

    run = tallyboard.init(resume="continue", next_steps=None if state else {"global_step": 1, "epoch": 1})
    run.load_state_dict(state)
    step, epoch = run.counter(), run.counter("epoch")
    with (folder / "lives").open("a") as lives:
        lives.write(json.dumps([life, step.value + 1, epoch.value + 1]) + "\\n")
    print("training", flush=True)
    while step.value < steps:
        step.increment()
        run.log({"loss": life + step.value / 1e6, "lr": 0.1})
        if step.value % 10 == 0:
            epoch.increment()
            run.log({"val": life + epoch.value / 1e6}, counter="epoch")
        if step.value % 25 == 0 and run.flush(5.0, kept=True):
            new = saved.with_suffix(".new")
            new.write_text(json.dumps(run.state_dict()))
            new.replace(saved)
        time.sleep(0.0005)
    run.finish()
"""


def owners(lives: list[list[int]], column: int, last: int) -> list[tuple[int, float]]:
    """What must be visible: at each step, the value of the last life that began at or before it."""
    found = []
    for step in range(1, last + 1):
        life = max(life[0] for life in lives if life[column] <= step)
        found.append((step, life + step / 1e6))
    return found


@pytest.mark.timeout(120 + 3 * KILLS)
@pytest.mark.parametrize("policy", ["spill", "always"])
def test_killed_at_any_moment_it_leaves_whole_curves(
    tmp_path: Path, service: RunningService, run_name: str, policy: str
) -> None:
    chance = random.Random(f"{policy} {KILLS}")
    spool = tmp_path / "spool"
    with proxied(service.port, seed=chance.randrange(1000), probability=0.1) as proxy:
        script = Script(
            tmp_path / "train.py",
            {
                "TALLYBOARD_URL": proxy.url, "TALLYBOARD_RUN": run_name, "TALLYBOARD_SPOOL_DIR": str(spool),
                "TALLYBOARD_SPOOL": policy, "FOLDER": str(tmp_path), "STEPS": "100000000",
            },
        )  # fmt: skip
        for life in range(1, KILLS // 2 + 2):
            proxy.cut() if chance.random() < 0.4 else proxy.mend()
            with script.started(TRAINING, LIFE=str(life)) as process:
                time.sleep(chance.uniform(0.0, LIVES_S_MAX))
                process.send_signal(signal.SIGKILL)
                process.wait()
        proxy.mend()
        proxy.faults = ()
        last = json.loads((tmp_path / "checkpoint.json").read_text())["global_step"]["value"] // 10 * 10 + 200
        done = script.run(TRAINING, LIFE=str(KILLS), STEPS=str(last))
        assert done.returncode == 0, done.stderr
    lives = [json.loads(line) for line in (tmp_path / "lives").read_text().splitlines()]
    assert all(result.done for result in tallyboard.sync(spool, url=service.url))
    assert service.points(run_name, "loss") == owners(lives, 1, last)
    assert service.points(run_name, "val") == owners(lives, 2, last // 10)
    assert service.get(f"/runs/{run_name}").json()["status"] == "finished"
