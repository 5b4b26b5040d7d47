"""Trainings in processes of their own that are killed and resume, until told to come to their end; and who watches."""

import json
import random
import signal
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import urllib3

from tests.client_script import Script
from tests.kill.kills import EXIT_TIMEOUT_S

_LIFE_S = 1.0, 6.0
_POLL_S = 0.1

# A take is what one life logs from its checkpoint on, or after going back by itself: of each step the last take counts
# that began at or before it.
TRAINING = """
    import json, os, random, time
    from pathlib import Path
    import numpy as np
    import tallyboard

    folder, steps = Path(os.environ["FOLDER"]), int(os.environ["STEPS"])
    chance = random.Random(os.environ["LIFE"])
    saved, takes = folder / "checkpoint.json", folder / "takes"
    state = json.loads(saved.read_text()) if saved.exists() else {}

    run = tallyboard.init(resume="continue", next_steps=None if state else {"global_step": 1, "epoch": 1})
    run.load_state_dict(state)
    step, epoch = run.counter(), run.counter("epoch")
    kept = step.value

    def next_take():
        number = len(takes.read_text().splitlines()) + 1 if takes.exists() else 1
        with takes.open("a") as lines:
            lines.write(json.dumps([number, step.value + 1, epoch.value + 1]) + "\\n")
        return number

    take = next_take()
    print("training", flush=True)
    while step.value < steps:
        step.increment()
        run.log({"loss": take + step.value / 1e6, "lr": 0.1})
        if step.value % 10 == 0:
            epoch.increment()
            run.log({"val": take + epoch.value / 1e6}, counter="epoch")
            if epoch.value % 5 == 0:
                run.log_image("sample", np.full((4, 4), epoch.value % 256, np.uint8), counter="epoch")
        if step.value % 25 == 0 and run.flush(5.0, kept=True):
            new = saved.with_suffix(".new")
            new.write_text(json.dumps(run.state_dict()))
            new.replace(saved)
            kept = step.value
        first = -(-kept // 10)
        if step.value < steps and first * 10 < step.value and chance.random() < 0.01:
            back = chance.randrange(first, (step.value - 1) // 10 + 1)
            run.rewind({"global_step": 10 * back + 1, "epoch": back + 1}, "diverged")
            take = next_take()
        time.sleep(0.004)
    run.finish()
"""


class Job:
    """One training, killed again and again in a thread of its own."""

    def __init__(self, folder: Path, url: str, run: str, policy: str, dice: random.Random) -> None:
        self.run = run
        self.lives = 0
        self.failure: str | None = None
        self._folder = folder
        self._dice = dice
        self._stop = threading.Event()
        self.spool = folder / "spool"
        folder.mkdir()
        self._script = Script(
            folder / "train.py",
            {
                "TALLYBOARD_URL": url, "TALLYBOARD_RUN": run, "TALLYBOARD_SPOOL_DIR": str(self.spool),
                "TALLYBOARD_SPOOL": policy, "FOLDER": str(folder),
            },
        )  # fmt: skip
        self._thread = threading.Thread(target=self._live, name=f"job {run}", daemon=True)

    def start(self) -> None:
        """Begin to train."""
        self._thread.start()

    def stop(self) -> None:
        """Kill it for the last time."""
        self._stop.set()

    def finish(self) -> int:
        """Train from the last checkpoint to some steps further on, to the end; the last step."""
        self.stop()
        self._thread.join(60)
        assert not self._thread.is_alive()
        assert self.failure is None, self.failure
        path = self._folder / "checkpoint.json"
        kept = int(json.loads(path.read_text())["global_step"]["value"]) if path.exists() else 0
        last = kept // 10 * 10 + 200
        done = self._script.run(TRAINING, LIFE=f"{self.run} to the end", STEPS=str(last))
        assert done.returncode == 0, done.stderr
        return last

    def curve(self, column: int, last: int) -> list[tuple[int, float]]:
        """What must be visible. column: 1 for steps, 2 for epochs."""
        takes = [json.loads(line) for line in (self._folder / "takes").read_text().splitlines()]
        found = []
        for step in range(1, last + 1):
            take = max(take[0] for take in takes if take[column] <= step)
            found.append((step, take + step / 1e6))
        return found

    def _live(self) -> None:
        try:
            while not self._stop.is_set():
                self.lives += 1
                with self._script.started(TRAINING, LIFE=f"{self.run} {self.lives}", STEPS="100000000") as process:
                    self._stop.wait(self._dice.uniform(*_LIFE_S))
                    process.send_signal(signal.SIGKILL)
                    assert process.wait(EXIT_TIMEOUT_S) == -signal.SIGKILL
        except Exception as error:  # noqa: BLE001 - told by the test's own thread
            self.failure = repr(error)


class Marks:
    """How far each counter has come by the answers of anybody: (attempt, last step) may never be less than before."""

    def __init__(self) -> None:
        self._marks: dict[tuple[str, str], tuple[int, int]] = {}
        self.gone_back: list[str] = []
        self.answers = 0

    def told(self, run: str, counters: Mapping[str, Any]) -> None:
        """An answer came that was asked for after the last one had come."""
        self.answers += 1
        for name, value in counters.items():
            now = value["attempt"], -1 if value["last_step"] is None else value["last_step"]
            if now < (before := self._marks.get((run, name), (0, -1))):
                self.gone_back.append(f"{run} {name}: {now} after {before}")
            self._marks[run, name] = now


class Monitor:
    """Asks for all runs without pause, as a page does that is always somewhere else."""

    def __init__(self, url: str) -> None:
        self.marks = Marks()
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="monitor", daemon=True)
        self._pool = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(connect=2.0, read=10.0))

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more."""
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _ask(self) -> None:
        while not self._stop.wait(_POLL_S):
            try:
                answer = self._pool.request("GET", f"{self._url}/api/v1/runs")
            except urllib3.exceptions.HTTPError:
                continue
            if answer.status != 200:
                continue
            for row in msgspec.json.decode(answer.data)["runs"]:
                self.marks.told(row["run"], row["counters"])


class Churn:
    """Makes runs and deletes them again; `made` counts them."""

    def __init__(self, url: str) -> None:
        self.made = 0
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="churn", daemon=True)
        self._pool = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(connect=2.0, read=10.0))

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End with a run deleted."""
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _work(self) -> None:
        while not self._stop.wait(_POLL_S):
            self.made += 1
            run = f"c/{self.made}"
            reports = [{"step": step, "scalars": {"loss": 1.0, "acc": 0.5}} for step in range(5)]
            self._ask("POST", f"/scalars/{run}", msgspec.json.encode({"reports": reports}))
            self._stop.wait(2 * _POLL_S)  # so that some have event files
            self._ask("DELETE", f"/runs/{run}")

    def _ask(self, method: str, path: str, body: bytes | None = None) -> None:
        """Ask until there is an answer; that it was done before is one."""
        while True:
            with suppress(urllib3.exceptions.HTTPError):
                headers = {"Content-Type": "application/json"}
                answer = self._pool.request(method, f"{self._url}/api/v1{path}", body=body, headers=headers)
                if answer.status < 500:
                    return
            time.sleep(_POLL_S)


def wait_until(condition: Any, timeout_s: float) -> float:
    """Seconds until a condition held; an assertion if it did not in time."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < timeout_s, f"not within {timeout_s} s"
        time.sleep(0.05)
    return time.monotonic() - begun
