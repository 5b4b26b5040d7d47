"""Event files in S3: the whole service against a server of its protocol, read by the real TensorBoard."""

import gc
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tallyboard_server.eventfiles import troubles
from tallyboard_server.eventfiles.objects import faults
from tallyboard_server.eventfiles.objects.bucket import PART_BYTES, Bucket, Upload
from tallyboard_server.eventfiles.objects.exporter import object_engine, object_settings
from tallyboard_server.eventfiles.objects.faults import ObjectStorageError
from tallyboard_server.eventfiles.objects.keys import run_key
from tallyboard_server.eventfiles.objects.shelf import ObjectShelf
from tallyboard_server.eventfiles.objects.storage import ObjectStorage
from tallyboard_server.eventfiles.tools import Tools
from tallyboard_server.objecturl import ObjectUrl
from tallyboard_server.settings import Settings
from tallyboard_server.verify import RunCheck
from tests.cli_process import Cli
from tests.objects_kit import ObjectService, settle_objects
from tests.s3 import BUCKET, KEY, S3, SECRET, s3_server, without_boto3
from tests.service import RunningService, serving, until
from tests.tensorboard_process import Curve, Curves, TensorBoardProcess

URL = f"s3://{BUCKET}/logs"
ODD = "p/50%41 [x]*?#::ü"


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield server


def settings(data_dir: Path, logdir: str, **more: Any) -> Settings:
    quick = {"segment_interval_s": 0.3, "object_timeout_s": 1.0, "tensorboard": False, "port": 0}
    return Settings.model_validate({"data_dir": data_dir, "logdir": logdir} | quick | more)


def report(service: RunningService, run: str, steps: range, more: float = 0.0) -> None:
    for step in steps:
        answer = service.report(run, {"step": step, "scalars": {"loss": step + more}})
        assert answer.status == 200, answer.body


def curve(steps: range, more: float = 0.0) -> Curve:
    return [(step, step + more) for step in steps]


def ready(service: RunningService) -> dict[str, Any]:
    answer: dict[str, Any] = service.request("GET", "/readyz").json()
    return answer


def is_told(service: RunningService, what: str) -> bool:
    return what in " ".join(ready(service)["reasons"])


def verified(service: RunningService, run: str) -> dict[str, Any]:
    lines = service.get(f"/verify/{run}").body.splitlines()
    found: dict[str, Any] = msgspec.json.decode(lines[-1])["report"]
    return found


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_tensorboard_shows_what_the_store_shows_while_it_is_written(s3: S3, tmp_path: Path) -> None:
    """Both ways in which TensorBoard reads s3:// without TensorFlow: with boto3, and with s3fs if there is no boto3."""
    shown: Curves = {"p/a": {"loss": curve(range(4))}, run_key(ODD): {"loss": curve(range(3))}}
    with ExitStack() as boards, ExitStack() as stack:
        service = stack.enter_context(serving(settings(tmp_path, URL)))
        report(service, "p/a", range(4))
        report(service, ODD, range(3))
        with_s3fs = boards.enter_context(
            TensorBoardProcess(URL, "python", environment=without_boto3(tmp_path / "without"))
        )
        with_boto3 = stack.enter_context(TensorBoardProcess(URL, "python"))

        def both_show() -> None:
            for board in (with_s3fs, with_boto3):
                board.wait_for(lambda: shown)

        both_show()
        report(service, "p/a", range(4, 9))
        shown["p/a"] = {"loss": curve(range(9))}
        both_show()

        rewind = {"id": "r1", "next_steps": {"global_step": 5}}
        assert service.send("POST", "/rewind/p/a", rewind).status == 200
        report(service, "p/a", range(5, 7), 0.5)
        shown["p/a"] = {"loss": curve(range(5)) + curve(range(5, 7), 0.5)}
        both_show()
        stack.close()  # the service, and the board that can't lose sight of an object

        with serving(settings(tmp_path, URL)) as service:
            report(service, "p/a", range(7, 10), 0.5)
            shown["p/a"] = {"loss": curve(range(5)) + curve(range(5, 10), 0.5)}
            with_s3fs.wait_for(lambda: shown)

            assert service.request("DELETE", "/api/v1/runs/p/a").status == 204
            del shown["p/a"]
            report(service, ODD, range(3, 6))
            shown[run_key(ODD)] = {"loss": curve(range(6))}
            with_s3fs.wait_for(lambda: shown)
            assert until(lambda: not s3.keys("logs/p/a/"))
            assert ready(service)["ready"]
        assert SECRET not in with_s3fs.log()


@pytest.mark.parametrize("where", ["s3", "file", "memory"])
def test_it_can_be_verified_repaired_and_looked_at(s3: S3, tmp_path: Path, cli: Cli, where: str) -> None:
    """The same code on S3, a directory and a memory."""
    url = {"s3": f"s3://{BUCKET}/checked", "file": f"file://{tmp_path}/objects", "memory": "memory://checked"}[where]
    with serving(settings(tmp_path / "data", url)) as service, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TALLYBOARD_URL", service.url)
        report(service, "p/a", range(3))
        assert until(lambda: verified(service, "p/a")["ok"])
        report(service, "p/a", range(3, 6))
        assert until(lambda: verified(service, "p/a")["ok"])
        assert cli("verify", "p/a").code == 0
        shelf = service.parts.shelf
        place = shelf._bucket  # type: ignore[attr-defined]
        key = f"p/a/{sorted(shelf.event_files('p/a'))[-1]}"
        with place.open(key) as stream:
            data = stream.read()
        place.put(key, data[:-7] + b"damaged")
        found = verified(service, "p/a")
        assert not found["ok"]
        assert "damaged at byte" in found["differences"][0]["detail"]
        place.put("p/a/events.out.tfevents.1.other", b"")
        assert f"{url}/p/a/events.out.tfevents.1.other is not one of ours" in verified(service, "p/a")["warnings"][0]
        assert cli("repair", "p/a").code == 0
        assert until(lambda: verified(service, "p/a")["ok"])
        place.remove("p/a/events.out.tfevents.1.other")
        looked = cli("doctor", "p/a")
        assert "holds every counter's last step" in looked.out, looked.out
        assert looked.code == 0


def test_a_storage_that_fails_is_told_of_and_caught_up_with(
    s3: S3, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, pause in ((faults, "_PAUSE_MAX_S"), (troubles, "_RETRY_SYSTEMIC_MAX_S")):
        monkeypatch.setattr(module, pause, 0.5)
    with serving(settings(tmp_path, f"s3://{BUCKET}/failing")) as service:
        report(service, "p/a", range(3))
        assert until(lambda: bool(s3.keys("failing/p/a/")))
        for round_, (status, code, told) in enumerate(
            (
                (500, "InternalError", "made up"),
                (503, "SlowDown", "made up"),
                (403, "AccessDenied", "PermissionError"),
                (404, "NoSuchBucket", "FileNotFoundError"),
            ),
            start=1,
        ):
            s3.faults.status, s3.faults.code = status, code
            report(service, "p/a", range(3 * round_, 3 * round_ + 3))
            assert until(partial(is_told, service, told)), ready(service)["reasons"]
            s3.faults.status = None
            assert until(lambda: ready(service)["ready"], 30), ready(service)["reasons"]
        s3.faults.hold = threading.Event()
        report(service, "p/a", range(3000, 3003))
        assert until(lambda: "imeout" in " ".join(ready(service)["reasons"]), 30), ready(service)["reasons"]
        s3.faults.hold.set()
        s3.faults.hold = None
        assert until(lambda: ready(service)["ready"], 30)
        assert until(lambda: verified(service, "p/a")["ok"])
        told = " ".join(record.getMessage() for record in caplog.records) + str(ready(service))
    assert SECRET not in told
    assert KEY not in told
    assert "the object storage does not serve us" in told


def test_a_large_opening_is_uploaded_in_parts_and_not_at_all_if_one_fails(s3: S3, tmp_path: Path) -> None:
    """Its parts are all of it that is held; what is left of it is nothing that anybody sees or pays for."""
    with ObjectService(tmp_path) as local:
        tags = [f"tag{i}" for i in range(400)]
        for first in range(0, 1600, 200):
            steps = range(first, first + 200)
            local.report("p/large", steps, {tag: [0.5] * len(steps) for tag in tags})
        local.url = ObjectUrl(f"s3://{BUCKET}/large")
        tools = Tools(local.store, local.ingest.record, object_settings(1.0), local.clock, local.wall)
        bucket = Bucket(local.url, timeout_s=1.0, clock=local.clock)
        engine = object_engine(tools, ObjectStorage(tools, bucket), bucket)
        s3.faults.seen.clear()
        s3.faults.status, s3.faults.code, s3.faults.only = 403, "AccessDenied", "partNumber=2"
        with pytest.raises(AssertionError, match="not settled"):
            settle_objects(engine, turns_max=12)
        assert "PermissionError" in engine.faults()[0]
        assert s3.keys("large/") == []
        gc.collect()
        assert s3.keys("large/") == []
        assert not s3.client.list_multipart_uploads(Bucket=BUCKET).get("Uploads")
        s3.faults.status, s3.faults.only = None, ""
        local.pass_time(61)
        settle_objects(engine)
        (key,) = s3.keys("large/")
        asked = [path for method, path in s3.faults.seen if method == "PUT" and key in path]
        parts = [path for path in asked if "partNumber" in path]
        size = s3.client.head_object(Bucket=BUCKET, Key=key)["ContentLength"]
        assert size > PART_BYTES
        assert len(parts) == len(set(parts)) >= 2
        check = RunCheck(local.store, ObjectShelf(bucket, local.store), "p/large", catch_up_s=0.0)
        for _ in check.steps():
            pass
        assert check.report.ok, check.report.differences
        assert sum(attempt.in_file for attempt in check.report.attempts) == 1600 * len(tags)


@pytest.mark.parametrize("size", [10, PART_BYTES + 1])
def test_an_upload_to_a_storage_that_falls_silent_has_an_end(s3: S3, size: int) -> None:
    bucket = Bucket(ObjectUrl(f"s3://{BUCKET}/silent"), timeout_s=0.5)
    bucket.put("before", b"the connection is there")
    s3.faults.hold = threading.Event()
    upload = Upload(bucket, "large")
    begun = time.monotonic()
    try:
        with pytest.raises(ObjectStorageError, match="imeout"):  # noqa: PT012 - whichever of them asks
            upload.write(bytes(size))
            upload.finish()
        upload.discard()
    finally:
        s3.faults.hold.set()
        s3.faults.hold = None
    assert time.monotonic() - begun < 10


def test_a_storage_that_is_not_there_does_not_keep_the_service_from_starting(tmp_path: Path, s3: S3) -> None:
    with serving(settings(tmp_path, "s3://no-such-bucket/logs")) as service:
        report(service, "p/a", range(3))
        assert until(lambda: not ready(service)["ready"])
        assert "FileNotFoundError" in " ".join(ready(service)["reasons"])
        s3.client.create_bucket(Bucket="no-such-bucket")
        assert until(lambda: ready(service)["ready"] and verified(service, "p/a")["ok"], 30)
