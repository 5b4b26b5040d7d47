"""What tensorboardX gets wrong, SummaryWriter does not."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

import tallyboard
from tallyboard import SummaryWriter
from tests.service import RunningService
from tests.writer_kit import described, kinds


def test_wall_times_are_never_zero(service: RunningService, run_name: str) -> None:
    before = time.time()
    with SummaryWriter(run_name, strict=True) as writer:
        with writer.use_metadata(global_step=7):  # here tensorboardX forgets the time
            writer.add_scalar("a", 1.0)
            writer.add_text("text", "a")
        with writer.use_metadata(walltime=1_700_000_000.5):
            writer.add_scalar("b", 1.0, 3)
            writer.add_scalar("b", 1.0, 4, walltime=1_700_000_001.5)
        writer.add_scalar("c", 1.0, 1, 1_700_000_002)
        writer.add_scalars("d", {"x": 1.0}, 1, walltime=1_700_000_003)
    times = {
        tag: service.get(f"/scalars?run={run_name}&tag={tag}").json()["series"][0]["points"]["wall_time"]
        for tag in ("a", "b", "c", "d/x")
    }
    assert before <= times["a"][0] <= time.time()
    assert service.points(run_name, "a") == [(7, 1.0)]
    assert times["b"] == [1_700_000_000.5, 1_700_000_001.5]
    assert (times["c"], times["d/x"]) == ([1_700_000_002.0], [1_700_000_003.0])
    assert described(service, run_name)["tag_counters"]["text/text_summary"]["last_step"] == 7


def test_tags_keep_their_letters(service: RunningService, run_name: str) -> None:
    with SummaryWriter(run_name, strict=True) as writer:
        writer.add_scalar("acc@1 (top)", 1.0, 1)
        writer.add_scalar("acc#1 (top)", 2.0, 1)
        writer.add_histogram("weights (all)", np.arange(3.0), 1)
        writer.add_image("größe/bild 1", np.zeros((3, 2, 2)), 1)
        writer.add_scalar("line\nbreak", 3.0, 1)
    assert service.points(run_name, "acc@1 (top)") == [(1, 1.0)]
    assert service.points(run_name, "line_break") == [(1, 3.0)]
    assert kinds(service, run_name) == {"weights (all)": "histograms", "größe/bild 1": "images"}


def test_many_writers_in_one_second_lose_nothing(service: RunningService, run_name: str) -> None:
    def write(index: int) -> None:
        for step in range(20):
            writers[index].add_scalar(f"tag{index}", float(step), step)

    writers = [SummaryWriter(run_name, strict=True) for _ in range(8)]
    threads = [threading.Thread(target=write, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for writer in writers:
        writer.close()
    assert all(len(service.points(run_name, f"tag{i}")) == 20 for i in range(8))


def test_nothing_blocks_while_the_service_is_away(run_name: str, tmp_path: Path) -> None:
    """A writer whose thread can write nothing: tensorboardX's add_scalar and close would wait for ever."""
    writer = SummaryWriter(run_name, url="http://127.0.0.1:9", exit_timeout_s=0.5)
    finished = threading.Event()

    def train() -> None:
        for step in range(5_000):
            writer.add_scalar("loss", 1.0, step)
        writer.add_image("image", np.zeros((3, 8, 8)), 0)
        writer.flush()
        writer.close()
        finished.set()

    threading.Thread(target=train, daemon=True).start()
    assert finished.wait(60.0)
    assert len(list((tmp_path / "state").rglob("*.json"))) > 0  # what waits for `tallyboard sync`


def test_what_waited_offline_is_sent_by_sync(service: RunningService, run_name: str, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    with SummaryWriter(run_name, mode="offline", spool_dir=spool, strict=True) as writer:
        for step in range(3):
            writer.add_scalar("loss", float(step), step)
            writer.add_image("image", np.full((3, 4, 4), step / 3), step)
    assert service.get(f"/runs/{run_name}").status == 404
    tallyboard.sync(spool, url=service.url)
    assert service.points(run_name, "loss") == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert described(service, run_name)["tag_counters"]["image"]["last_step"] == 2


def test_a_forked_child_harms_nobody(service: RunningService, run_name: str) -> None:
    script = f"""
import os
from tallyboard import SummaryWriter
writer = SummaryWriter({run_name!r})
writer.add_scalar("loss", 1.0, 0)
child = os.fork()
writer.add_scalar("loss", 2.0, 1)
if not child:
    with SummaryWriter({run_name + "/child"!r}) as own:
        own.add_scalar("loss", 3.0, 0)
    os._exit(0)
os.waitpid(child, 0)
writer.close()
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], timeout=60, check=True, capture_output=True)
    assert service.points(run_name, "loss") == [(0, 1.0), (1, 2.0)]
    assert service.points(f"{run_name}/child", "loss") == [(0, 3.0)]
