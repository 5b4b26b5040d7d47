"""run.log_image, log_text and log_histogram against a real service: what was reported is given back."""

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.util import tensor_util

import tallyboard
from tallyboard import lifecycle
from tallyboard.errors import TagOfOtherKindError
from tests.faults.proxy import proxied
from tests.service import RunningService


@pytest.fixture(autouse=True)
def _nothing_left_running() -> Iterator[None]:
    yield
    lifecycle.finish_all()


def point(service: RunningService, run: str, tag: str, step: int) -> list[Any]:
    """The tensor at a step, as TensorBoard reads it."""
    answer = service.get(f"/blobs/{quote(run)}?tag={quote(tag)}&step={step}")
    assert answer.status == 200, answer.body
    value = Summary.Value.FromString(answer.body)
    assert value.tag == tag
    found: list[Any] = tensor_util.make_ndarray(value.tensor).tolist()
    return found


def test_they_are_given_back_as_they_were(service: RunningService, run_name: str) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (9, 7, 3), dtype=np.uint8) for _ in range(5)]
    with tallyboard.init(run_name, url=service.url, counters={"val/*": "epoch"}, strict=True) as run:
        for step, image in enumerate(images):
            run.log({"loss": 1.0}, step)
            run.log_image("image", image, step)
            run.log_text("val/text", f"step {step}", step)
            run.log_histogram("weights", image, step, bins=[0, 128, 256])
        assert run.flush()
        assert run.stats().refused == 0
    for step, image in enumerate(images):
        width, height, file = point(service, run_name, "image", step)
        assert (int(width), int(height)) == (7, 9)
        assert (np.asarray(Image.open(io.BytesIO(file))) == image).all()
        counts = [count for _, _, count in point(service, run_name, "weights", step)]
        assert counts == [(image < 128).sum(), (image >= 128).sum()]
    assert service.get(f"/runs/{run_name}").json()["counters"]["epoch"]["last_step"] == 4


def test_what_the_service_refuses_is_what_the_client_warned_about(
    service: RunningService, run_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = tallyboard.init(run_name, url=service.url)
    run.log_text("text", "first", 5)
    run.log_text("text", "back", 3)
    run.log_text("text", "again", 5)
    run.log_text("text", "first", 5)
    run.log({"text": 1.0}, 6)
    run.finish()
    stats = run.stats()
    assert (stats.violations, stats.refused, stats.stored, stats.repeated) == (3, 3, 1, 1)
    refused = [one["refusal"]["reason"] for one in service.get(f"/refused/{run_name}").json()["refused"]]
    assert sorted(refused) == ["step_decreased", "tag_of_other_kind", "tag_repeated"]
    assert "the server refused" not in caplog.text
    strict = tallyboard.init(run_name, url=service.url, resume="continue", strict=True)
    strict.log_image("text", np.zeros((2, 2)), 9)  # which only the service can tell
    with pytest.raises(TagOfOtherKindError):
        strict.flush()


def test_a_bad_line_loses_and_doubles_nothing(service: RunningService, run_name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (900, 900, 3), dtype=np.uint8)
    with proxied(service.port, seed=1) as proxy:
        run = tallyboard.init(run_name, url=proxy.url, strict=True)
        for step in range(8):  # 2.4 MB each
            run.log_image("noise", np.roll(noise, step), step)
            run.log({"loss": 1.0}, step)
        assert run.flush(60.0)
        run.finish()
    assert len(service.points(run_name, "loss")) == 8
    for step in (0, 7):
        file = point(service, run_name, "noise", step)[2]
        assert (np.asarray(Image.open(io.BytesIO(file))) == np.roll(noise, step)).all()


def test_a_killed_job_leaves_them_for_sync(service: RunningService, run_name: str, tmp_path: Path) -> None:
    script = f"""
import os, signal
import numpy as np, tallyboard
run = tallyboard.init({run_name!r}, url="http://127.0.0.1:9", spool_dir={str(tmp_path)!r})
for step in range(4):
    run.log({{"loss": float(step)}}, step)
    run.log_image("image", np.full((3, 3), step, np.uint8), step)
    run.log_text("text", f"at {{step}}", step)
assert run.flush(kept=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60, check=False)
    assert done.returncode == -9, done.stderr
    results = tallyboard.sync(tmp_path, url=service.url)
    assert [(result.state, result.reports) for result in results] == [("sent", 12)]
    assert service.points(run_name, "loss") == [(step, float(step)) for step in range(4)]
    assert [point(service, run_name, "text", step) for step in range(4)] == [[b"at %d" % step] for step in range(4)]
    assert list(os.scandir(tmp_path)) == []
