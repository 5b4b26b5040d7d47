"""Trainings that are killed at any moment, resume from their last checkpoint, and leave whole curves behind."""

import json
import random
import signal
import time
from pathlib import Path

import pytest

import tallyboard
from tests.client_script import Script
from tests.faults.proxy import proxied
from tests.kill.kills import EXIT_TIMEOUT_S, KILLS
from tests.service import RunningService

POLICIES = ("spill", "always")
KILLS_EACH = -(-KILLS // len(POLICIES))
"""Rounded up."""
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


def checkpointed(path: Path) -> int:
    """The step of the checkpoint; 0 if no life came to one."""
    return int(json.loads(path.read_text())["global_step"]["value"]) if path.exists() else 0


@pytest.mark.slow
@pytest.mark.timeout(120 + 6 * KILLS_EACH)
@pytest.mark.parametrize("policy", POLICIES)
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
        for life in range(1, KILLS_EACH + 1):
            proxy.cut() if chance.random() < 0.4 else proxy.mend()
            with script.started(TRAINING, LIFE=str(life)) as process:
                time.sleep(chance.uniform(0.0, LIVES_S_MAX))
                process.send_signal(signal.SIGKILL)
                assert process.wait(EXIT_TIMEOUT_S) == -signal.SIGKILL
        proxy.mend()
        proxy.faults = ()
        last = checkpointed(tmp_path / "checkpoint.json") // 10 * 10 + 200
        done = script.run(TRAINING, LIFE=str(KILLS_EACH + 1), STEPS=str(last))
        assert done.returncode == 0, done.stderr
    lives = [json.loads(line) for line in (tmp_path / "lives").read_text().splitlines()]
    assert [number for number, _, _ in lives] == list(range(1, KILLS_EACH + 2))
    print(f"{KILLS_EACH} kills on the way to step {last}")
    assert all(result.done for result in tallyboard.sync(spool, url=service.url))
    assert service.points(run_name, "loss") == owners(lives, 1, last)
    assert service.points(run_name, "val") == owners(lives, 2, last // 10)
    assert service.get(f"/runs/{run_name}").json()["status"] == "finished"
