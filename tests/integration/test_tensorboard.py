"""TensorBoard inside the service: its routes over real HTTP, what they show, and who may ask."""

import json
import math
import socket
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tallyboard_server.api import board
from tallyboard_server.settings import Settings
from tallyboard_server.tensorboard import make_application
from tallyboard_server.tensorboard.provider import StoreProvider
from tests.conftest import StartService
from tests.service import RunningService, serving
from tests.summary_kit import event, framed, histogram_value, image_value, scalar_value, text_value, write_every_kind

TOKEN = "s3cret-token"
STATUSES = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]


def ask(service: RunningService, path: str, **query: Any) -> Any:
    """What a route below /tensorboard/data/ answers."""
    answer = service.request("GET", f"/tensorboard/data/{path}?{urlencode(query, doseq=True)}")
    assert answer.status == 200, (answer.status, path, answer.body[:300])
    return json.loads(answer.body)


def curve(service: RunningService, run: str, tag: str) -> list[tuple[int, Any]]:
    """(step, value) of what the scalars page draws."""
    return [(step, value) for _, step, value in ask(service, "plugin/scalars/scalars", run=run, tag=tag)]


def sessions(service: RunningService) -> tuple[Any, Any]:
    """What the HParams tab lists: the experiment, and its session groups by name."""
    found = []
    asked = {"experimentName": "", "startIndex": 0, "sliceSize": 100, "allowedStatuses": STATUSES}
    for route, document in (("experiment", {"experimentName": ""}), ("session_groups", asked)):
        answer = service.request(
            "POST", f"/tensorboard/data/plugin/hparams/{route}", json.dumps(document).encode(),
            {"Content-Type": "application/json"},
        )  # fmt: skip
        assert answer.status == 200, answer.body
        found.append(json.loads(answer.body))
    return found[0], {group["name"]: group for group in found[1]["sessionGroups"]}


def report_curve(service: RunningService, run: str, values: list[Any], tag: str = "loss") -> None:
    """A run of one tag, steps from 0."""
    reports = [{"step": step, "scalars": {tag: value}} for step, value in enumerate(values)]
    assert service.report(run, {"reports": reports}).status == 200


class TestScalars:
    def test_a_new_point_is_there_at_the_next_request(self, service: RunningService, run_name: str) -> None:
        for step in range(4):
            service.report(run_name, {"step": step, "scalars": {"loss": step / 3}})
            assert curve(service, run_name, "loss") == [(s, s / 3) for s in range(step + 1)]
        service.report(run_name, {"step": 0, "counter": "epoch", "scalars": {"val/acc": 0.1}})
        assert set(ask(service, "plugin/scalars/tags")[run_name]) == {"loss", "val/acc"}
        assert run_name in ask(service, "runs")

    def test_time_series_and_multirun(self, service: RunningService, run_name: str) -> None:
        runs = [f"{run_name}/{name}" for name in "ab"]
        for number, run in enumerate(runs):
            report_curve(service, run, [number, number + 1.0], "only/here")
        tags = ask(service, "plugin/timeseries/tags")["scalars"]["runTagInfo"]
        assert {run: tags[run] for run in runs} == {run: ["only/here"] for run in runs}
        boundary = "x"
        form = f'--x\r\nContent-Disposition: form-data; name="requests"\r\n\r\n{json.dumps([{"plugin": "scalars", "tag": "only/here"}])}\r\n--x--\r\n'  # noqa: E501
        answer = service.request(
            "POST", "/tensorboard/data/plugin/timeseries/timeSeries", form.encode(),
            {"Content-Type": f"multipart/form-data; boundary={boundary}"},
        )  # fmt: skip
        (series,) = json.loads(answer.body)
        assert {run: [p["value"] for p in points] for run, points in series["runToSeries"].items()} == {
            runs[0]: [0.0, 1.0], runs[1]: [1.0, 2.0],
        }  # fmt: skip
        several = service.request(
            "POST", "/tensorboard/data/plugin/scalars/scalars_multirun",
            urlencode({"tag": "only/here", "runs": [*runs, "nobody"]}, doseq=True).encode(),
            {"Content-Type": "application/x-www-form-urlencoded"},
        )  # fmt: skip
        assert {run: len(points) for run, points in json.loads(several.body).items()} == dict.fromkeys(runs, 2)

    def test_what_a_rewind_supersedes_is_absent(self, service: RunningService, run_name: str) -> None:
        report_curve(service, run_name, [0.0, 1.0, 2.0, 3.0])
        service.report(run_name, {"step": 5, "counter": "late", "scalars": {"late": 1.0}})
        service.send("POST", f"/rewind/{run_name}", {"next_steps": {"global_step": 2, "late": 0}})
        assert curve(service, run_name, "loss") == [(0, 0.0), (1, 1.0)]
        assert set(ask(service, "plugin/scalars/tags")[run_name]) == {"loss"}
        service.report(run_name, {"step": 2, "scalars": {"loss": 20.0}})
        assert curve(service, run_name, "loss") == [(0, 0.0), (1, 1.0), (2, 20.0)]

    def test_deleted_runs_are_gone(self, service: RunningService, run_name: str) -> None:
        report_curve(service, run_name, [1.0])
        assert run_name in ask(service, "runs")
        service.request("DELETE", f"/api/v1/runs/{run_name}")
        assert run_name not in ask(service, "runs")
        assert run_name not in ask(service, "plugin/scalars/tags")
        gone = service.request("GET", f"/tensorboard/data/plugin/scalars/scalars?run={run_name}&tag=loss")
        assert gone.status == 404

    def test_no_spike_and_no_nan_is_sampled_away(self, service: RunningService, run_name: str) -> None:
        values: list[Any] = [math.sin(step / 50) for step in range(20_000)]
        values[7_777], values[12_345], values[15_001], values[17_003] = 1e6, -1e6, "NaN", "Infinity"
        report_curve(service, run_name, values)
        drawn = curve(service, run_name, "loss")
        assert 300 < len(drawn) <= 1000
        assert {(7_777, 1e6), (12_345, -1e6), (0, 0.0), (19_999, values[-1])} <= set(drawn)
        assert {(step, value) for step, value in drawn if isinstance(value, str)} == {
            (15_001, "NaN"), (17_003, "Infinity"),
        }  # fmt: skip
        assert all(value == values[step] for step, value in drawn)
        short = run_name + "/short"
        report_curve(service, short, [0.1, "NaN", "-Infinity", *range(997)])
        assert len(curve(service, short, "loss")) == 1000  # what fits comes whole

    def test_many_curves_share_what_one_answer_may_hold(
        self, service: RunningService, run_name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tallyboard_server.tensorboard.provider.POINTS_MAX", 100)
        runs = [f"{run_name}/{number}" for number in range(10)]
        for run in runs:
            report_curve(service, run, [0.0, *[1.0] * 50, 9.0, *[1.0] * 50])
        answer = service.request(
            "POST", "/tensorboard/data/plugin/scalars/scalars_multirun",
            urlencode({"tag": "loss", "runs": runs}, doseq=True).encode(),
            {"Content-Type": "application/x-www-form-urlencoded"},
        )  # fmt: skip
        curves = json.loads(answer.body)
        assert set(curves) == set(runs)
        for points in curves.values():
            assert len(points) <= 10
            assert {(step, value) for _, step, value in points} >= {(0, 0.0), (51, 9.0), (101, 1.0)}


class TestOtherKinds:
    def test_every_kind_that_tensorboardx_writes(self, service: RunningService, run_name: str, tmp_path: Path) -> None:
        body = framed(*write_every_kind(tmp_path / "tensorboardx"))
        sent = service.request("POST", f"/api/v1/events/{run_name}", body, {"Content-Type": "application/x-tfrecord"})
        assert sent.json()["refused_count"] == 0
        active = {name for name, about in ask(service, "plugins_listing").items() if about["enabled"]}
        assert active >= {
            "timeseries", "scalars", "custom_scalars", "images", "histograms", "distributions", "text", "pr_curves",
            "mesh",
        }  # fmt: skip
        of_run = {"run": run_name}
        assert len(ask(service, "plugin/histograms/histograms", tag="weights", **of_run)) == 4
        assert len(ask(service, "plugin/distributions/distributions", tag="weights", **of_run)) == 4
        texts = ask(service, "plugin/text/text", tag="notes/text_summary", **of_run)
        assert [point["step"] for point in texts] == [0, 1, 2, 3]
        assert "<strong>3</strong>" in texts[3]["text"]
        assert len(ask(service, "plugin/pr_curves/pr_curves", tag="pr", **of_run)[run_name]) == 4
        assert run_name in ask(service, "plugin/mesh/tags")
        images = ask(service, "plugin/timeseries/tags")["images"]["tagRunSampledInfo"]
        assert images["samples/one"][run_name] == {"maxSamplesPerStep": 1}
        shown = ask(service, "plugin/images/images", tag="samples/one", sample=0, **of_run)
        picture = service.request("GET", f"/tensorboard/data/plugin/images/individualImage?{shown[0]['query']}")
        assert picture.headers["content-type"] == "image/png"
        assert picture.body.startswith(b"\x89PNG")

    def test_samples_keep_the_last_one_and_rewinds_hide(self, service: RunningService, run_name: str) -> None:
        def values(step: int) -> list[Any]:
            histogram = histogram_value("histogram", [1.0, 2.0], [step + 1.0, 1.0])
            return [image_value("image", step), text_value("text", str(step)), histogram, scalar_value("loss", step)]

        def steps(route: str, tag: str) -> list[int]:
            points = ask(service, f"plugin/{route}", run=run_name, tag=tag, sample=0)
            return [point["step"] if isinstance(point, dict) else point[1] for point in points]

        events = framed(*(event(step, *values(step)) for step in range(200)))
        service.request("POST", f"/api/v1/events/{run_name}", events, {"Content-Type": "application/x-tfrecord"})
        for route, tag, most in (("images/images", "image", 10), ("text/text", "text", 100),
                                 ("histograms/histograms", "histogram", 51)):  # fmt: skip
            found = steps(route, tag)
            assert (len(found), found[0], found[-1]) == (most, 0, 199), route
        service.send("POST", f"/rewind/{run_name}", {"next_steps": {"tag:*": 5}})
        for route, tag in (("images/images", "image"), ("text/text", "text"), ("histograms/histograms", "histogram")):
            assert steps(route, tag) == [0, 1, 2, 3, 4], route

    def test_blobs_of_runs_that_are_gone_are_gone(self, service: RunningService, run_name: str) -> None:
        body = framed(event(1, image_value("image", 1)))
        service.request("POST", f"/api/v1/events/{run_name}", body, {"Content-Type": "application/x-tfrecord"})
        (image,) = ask(service, "plugin/images/images", run=run_name, tag="image", sample=0)
        path = f"/tensorboard/data/plugin/images/individualImage?{image['query']}"
        assert service.request("GET", path).status == 200
        assert service.request("GET", path + "0000").status == 404  # another place in the sequence
        service.request("DELETE", f"/api/v1/runs/{run_name}")
        assert service.request("GET", path).status == 404
        for key in ("", "x", "1.2.3.4", "1.1.0000000000000000.0", "9" * 25 + ".1.0000000000000000.0"):
            query = urlencode({"blob_key": key})
            assert service.request("GET", f"/tensorboard/data/plugin/images/individualImage?{query}").status == 404, key


class TestHParams:
    def test_config_status_and_summary_make_sessions(self, start_service: StartService) -> None:
        service = start_service()
        for number, status in enumerate(("running", "finished", "failed")):
            run = f"sweep/r{number}"
            config = {"lr": 10.0**-number, "model": {"name": "cnn", "layers": [8, number]}, "amp": True, "none": None}
            service.send("PUT", f"/runs/{run}", {"config": config})
            report_curve(service, run, [1.0, 0.5 / (number + 1)])
            summary = {"best": {"acc": 0.9}, "loss": -1.0, "note": "text", "flag": True} if number == 2 else {}
            service.send("PATCH", f"/runs/{run}", {"status": status, "summary": summary})
        service.report("sweep/plain", {"step": 1, "scalars": {"other": 1.0}})
        experiment, groups = sessions(service)
        assert {info["name"]: info["type"] for info in experiment["hparamInfos"]} == {
            "lr": "DATA_TYPE_FLOAT64", "model.name": "DATA_TYPE_STRING", "model.layers": "DATA_TYPE_STRING",
            "amp": "DATA_TYPE_BOOL",
        }  # fmt: skip
        assert {info["name"]["tag"] for info in experiment["metricInfos"]} == {"loss", "best.acc"}
        assert set(groups) == {"sweep/r0", "sweep/r1", "sweep/r2"}
        assert groups["sweep/r1"]["hparams"] == {
            "lr": 0.1, "model.name": "cnn", "model.layers": "[8,1]", "amp": True,
        }  # fmt: skip
        found = {
            name: {value["name"]["tag"]: value["value"] for value in group["metricValues"]}
            for name, group in groups.items()
        }
        assert found == {
            "sweep/r0": {"loss": 0.5}, "sweep/r1": {"loss": 0.25}, "sweep/r2": {"loss": -1.0, "best.acc": 0.9},
        }  # fmt: skip
        assert [groups[f"sweep/r{n}"]["sessions"][0]["status"] for n in range(3)] == [
            "STATUS_RUNNING", "STATUS_SUCCESS", "STATUS_FAILURE",
        ]  # fmt: skip
        assert set(ask(service, "plugin/scalars/tags")["sweep/r2"]) == {"loss"}  # the summary is no curve
        evals = {"experimentName": "", "sessionName": "sweep/r2", "metricName": {"tag": "best.acc", "group": ""}}
        answer = service.request(
            "POST", "/tensorboard/data/plugin/hparams/metric_evals", json.dumps(evals).encode(),
            {"Content-Type": "application/json"},
        )  # fmt: skip
        assert [(step, value) for _, step, value in json.loads(answer.body)] == [(1, 0.9)]

    def test_without_a_config_there_is_no_such_tab(self, start_service: StartService) -> None:
        service = start_service()
        report_curve(service, "a/b", [1.0])
        assert not ask(service, "plugins_listing")["hparams"]["enabled"]
        service.send("PATCH", "/runs/a/b", {"config": {"lr": 1}})
        assert ask(service, "plugins_listing")["hparams"]["enabled"]


def test_a_thousand_runs(start_service: StartService) -> None:
    service = start_service()
    runs = [f"many/r{number:04}" for number in range(1000)]
    for number, run in enumerate(runs):
        document = {"reports": [{"step": s, "scalars": {"loss": number + s / 4, "acc": s}} for s in range(3)]}
        assert service.report(run, document).status == 200
    assert set(ask(service, "runs")) == set(runs)
    tags = ask(service, "plugin/timeseries/tags")["scalars"]["runTagInfo"]
    assert tags == {run: ["acc", "loss"] for run in runs}
    answer = service.request(
        "POST", "/tensorboard/data/plugin/timeseries/timeSeries",
        urlencode({"requests": json.dumps([{"plugin": "scalars", "tag": "loss"}])}).encode(),
        {"Content-Type": "application/x-www-form-urlencoded"},
    )  # fmt: skip
    (series,) = json.loads(answer.body)
    drawn = {run: [point["value"] for point in points] for run, points in series["runToSeries"].items()}
    assert drawn == {run: [number, number + 0.25, number + 0.5] for number, run in enumerate(runs)}
    service.report(runs[500], {"step": 3, "scalars": {"loss": 0.0, "new": 1.0}})
    assert ask(service, "plugin/timeseries/tags")["scalars"]["runTagInfo"][runs[500]] == ["acc", "loss", "new"]


class TestAccess:
    def test_without_the_token_nothing_answers(self, start_service: StartService) -> None:
        service = start_service(token=TOKEN)
        report_curve(service, "a/b", [1.0])
        assert ask(service, "runs") == ["a/b"]
        service.headers.clear()
        made: Any = make_application(service.parts.store)
        assert len(made.exact_routes) > 100
        queries = "/data/plugin/scalars/scalars?run=a/b&tag=loss", f"/?token={TOKEN}"
        for route in ("", *made.exact_routes, "/experiment/x/data/runs", "/no/such/route", *queries):
            for method in ("GET", "POST", "HEAD"):
                answer = service.request(method, f"/tensorboard{route}")
                assert answer.status == 401, (method, route)
        assert service.request("GET", "/font-roboto/x.woff2").status == 401
        # Each scheme in a line of its own: Chromium takes a line for one challenge.
        response = service.pool.request("GET", f"{service.url}/tensorboard/")
        assert [line.split()[0] for line in response.headers.getlist("www-authenticate")] == ["Bearer", "Basic"]

    def test_hosts_and_origins_are_checked(self, service: RunningService) -> None:
        own = {"Host": f"localhost:{service.port}"}
        assert service.request("GET", "/tensorboard/data/runs", headers=own).status == 200
        assert service.request("GET", "/tensorboard/data/runs", headers={"Host": "evil.example"}).status == 421
        evil = own | {"Origin": "https://evil.example"}
        assert service.request("GET", "/tensorboard/data/runs", headers=evil).status == 403

    def test_responses_are_marked_once(self, service: RunningService) -> None:
        for path in ("", "data/runs", "index.js", "no/such/route"):
            answer = service.request("GET", f"/tensorboard/{path}")
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"
        assert "content-security-policy" in service.request("GET", "/tensorboard/").headers

    def test_left_out_on_request(self, start_service: StartService, tmp_path: Path) -> None:
        service = start_service(tensorboard=False, static=tmp_path / "nothing")
        assert service.request("GET", "/tensorboard/").status == 404
        assert service.request("GET", "/tensorboard").status == 404
        assert b"tensorboard/" not in service.request("GET", "/").body

    def test_the_front_page_leads_there(self, start_service: StartService, tmp_path: Path) -> None:
        service = start_service(static=tmp_path / "nothing")
        assert b'<a href="tensorboard/">' in service.request("GET", "/").body
        answer = service.request("GET", "/tensorboard?a=b")
        assert (answer.status, answer.headers["location"]) == (307, "tensorboard/?a=b")

    def test_below_the_path_that_a_proxy_gave_it(self, tmp_path: Path) -> None:
        with serving(Settings(data_dir=tmp_path / "data", port=0, root_path="/tally")) as service:
            report_curve(service, "a/b", [1.0])
            assert ask(service, "runs") == ["a/b"]
            assert service.request("GET", "/tensorboard/").status == 200
            assert service.request("GET", "/tensorboard").headers["location"] == "tensorboard/"


class TestBounds:
    def test_a_body_has_a_bound(self, service: RunningService) -> None:
        body = b"requests=" + b"x" * board.BODY_BYTES_MAX
        path, head = "/tensorboard/data/plugin/timeseries/timeSeries", {"Content-Type": "text/plain"}
        assert service.request("POST", path, body, head).status == 413

    def test_a_body_has_to_come_in_time(self, start_service: StartService) -> None:
        service = start_service(body_timeout_s=0.2)
        request = "POST /tensorboard/data/plugin/timeseries/timeSeries HTTP/1.1\r\nHost: localhost\r\n"
        answer = service.raw(f"{request}Content-Length: 100\r\n\r\nabc".encode())
        assert answer.startswith(b"HTTP/1.1 408")

    def test_slow_readers_hold_up_nobody(self, service: RunningService, run_name: str) -> None:
        """More connections than threads ask for much and read nothing."""
        report_curve(service, run_name, [1.0])
        slow = []
        for _ in range(2 * board.WORKERS + 1):
            connection = socket.create_connection(("127.0.0.1", service.port))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(b"GET /tensorboard/index.js HTTP/1.1\r\nHost: localhost\r\n\r\n")
            slow.append(connection)
        try:
            assert run_name in ask(service, "runs")
        finally:
            for connection in slow:
                connection.close()

    def test_reports_never_wait_for_it(
        self, service: RunningService, run_name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """All its threads hang; reports and charts go on as if nothing were."""
        ask(service, "environment")
        go_on = threading.Event()
        asked = threading.Semaphore(0)
        list_runs = StoreProvider.list_runs

        def hang(provider: StoreProvider, ctx: Any = None, *, experiment_id: str) -> Any:
            asked.release()
            assert go_on.wait(30)
            return list_runs(provider, ctx, experiment_id=experiment_id)

        monkeypatch.setattr(StoreProvider, "list_runs", hang)
        with ThreadPoolExecutor(board.WORKERS + 3) as pool:
            waiting = [pool.submit(ask, service, "runs") for _ in range(board.WORKERS + 3)]
            try:
                for _ in range(board.WORKERS):
                    assert asked.acquire(timeout=30)
                for step in range(20):
                    assert service.report(run_name, {"step": step, "scalars": {"loss": step}}).status == 200
                assert len(service.points(run_name, "loss")) == 20
                assert not asked.acquire(blocking=False)  # no more threads than it may have
            finally:
                go_on.set()
            assert all(run_name in future.result(timeout=60) for future in waiting)

    def test_too_many_at_once_are_told_to_come_back(
        self, service: RunningService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(board, "WAITING_MAX", 0)
        answer = service.request("GET", "/tensorboard/data/runs")
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")

    def test_answers_are_packed_for_those_who_ask(self, service: RunningService) -> None:
        answer = service.pool.request(
            "GET", f"{service.url}/tensorboard/index.js", headers={"Accept-Encoding": "gzip"}, decode_content=False
        )
        assert len(zlib.decompress(answer.data, 31)) > len(answer.data)
