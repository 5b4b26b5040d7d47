"""TensorBoard inside: a token of one project shows its runs in every tab, also right after somebody else asked."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from tests.access_kit import FOREIGN, OWN, Guarded, bearer, guarded
from tests.service import Answer
from tests.summary_kit import framed, write_every_kind

DATA = "/tensorboard/data"
FORM = "application/x-www-form-urlencoded"
LISTINGS = [
    "runs", "plugin/scalars/tags", "plugin/timeseries/tags", "plugin/images/tags", "plugin/histograms/tags",
    "plugin/distributions/tags", "plugin/text/tags", "plugin/pr_curves/tags", "plugin/mesh/tags",
    "plugin/custom_scalars/scalars?tag=loss&run=", "plugin/custom_scalars/layout",
]  # fmt: skip


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    events = framed(*write_every_kind(tmp_path_factory.mktemp("events")))
    with guarded(tmp_path_factory.mktemp("data")) as found:
        for project in (OWN, FOREIGN):
            writer = bearer(found.whole["write"])
            sent = found.service.request(
                "POST", f"/api/v1/events/{project}/run", events, writer | {"Content-Type": "application/x-tfrecord"}
            )
            assert sent.status == 200, sent.body
            opening = json.dumps({"config": {f"lr_{project}": 0.1}}).encode()
            found.service.request(
                "PUT", f"/api/v1/runs/{project}/run", opening, writer | {"Content-Type": "application/json"}
            )
        yield found


def ask(there: Guarded, path: str, token: str, document: Any = None) -> Answer:
    if document is None:
        return there.service.request("GET", f"{DATA}/{path}", headers=bearer(token))
    body = json.dumps(document).encode()
    return there.service.request("POST", f"{DATA}/{path}", body, bearer(token) | {"Content-Type": "application/json"})


@pytest.mark.parametrize("path", [path for path in LISTINGS if "custom" not in path])
def test_each_sees_its_own_runs_in_turn(there: Guarded, path: str) -> None:
    for _ in range(2):
        whole, own = (ask(there, path, tokens["read"]) for tokens in (there.whole, there.own))
        assert (whole.status, own.status) == (200, 200)
        assert f"{OWN}/run" in whole.body.decode()
        assert f"{FOREIGN}/run" in whole.body.decode()
        assert f"{OWN}/run" in own.body.decode()
        assert FOREIGN not in own.body.decode()


def test_the_hparams_tab(there: Guarded) -> None:
    asked = {"experimentName": "", "startIndex": 0, "sliceSize": 100, "allowedStatuses": ["STATUS_RUNNING"]}
    for _ in range(2):
        for tokens, projects in ((there.whole, {OWN, FOREIGN}), (there.own, {OWN})):
            experiment = ask(there, "plugin/hparams/experiment", tokens["read"], {"experimentName": ""})
            names = {info["name"] for info in json.loads(experiment.body)["hparamInfos"]}
            assert names == {f"lr_{project}" for project in projects}
            groups = json.loads(ask(there, "plugin/hparams/session_groups", tokens["read"], asked).body)
            sessions = {session["name"] for group in groups["sessionGroups"] for session in group["sessions"]}
            assert sessions == {f"{project}/run" for project in projects}


def test_a_project_without_anything_has_no_tabs(there: Guarded) -> None:
    _, nobody = there.make("read", "empty")
    for _ in range(2):
        shown = json.loads(ask(there, "plugins_listing", there.own["read"]).body)
        assert {"scalars", "images", "text", "hparams"} <= {name for name, tab in shown.items() if tab["enabled"]}
        empty = json.loads(ask(there, "plugins_listing", nobody).body)
        assert not {name for name, tab in empty.items() if tab["enabled"]} & {"scalars", "images", "text", "hparams"}
    assert json.loads(ask(there, "runs", nobody).body) == []


@pytest.mark.parametrize("path", [
    "scalars/scalars?tag=loss", "images/images?tag=samples/one&sample=0", "histograms/histograms?tag=weights",
    "distributions/distributions?tag=weights", "text/text?tag=notes/text_summary", "pr_curves/pr_curves?tag=pr",
    "mesh/meshes?tag=mesh&sample=0", "custom_scalars/scalars?tag=loss",
])  # fmt: skip
def test_a_foreign_run_is_answered_as_one_that_is_not_there(there: Guarded, path: str) -> None:
    def told(run: str, token: str) -> tuple[int, bytes]:
        answer = ask(there, f"plugin/{path}&run={quote(run, safe='')}", token)
        return answer.status, answer.body.replace(run.encode(), b"RUN")

    nothing = told(f"{OWN}/none", there.own["read"])
    assert told(f"{FOREIGN}/run", there.whole["read"]) != nothing
    assert told(f"{OWN}/run", there.own["read"]) != nothing
    assert told(f"{FOREIGN}/run", there.own["read"]) == nothing


def test_several_runs_at_once(there: Guarded) -> None:
    form = urlencode({"tag": "loss", "runs": [f"{OWN}/run", f"{FOREIGN}/run"]}, doseq=True).encode()
    several = there.service.request(
        "POST", f"{DATA}/plugin/scalars/scalars_multirun", form, bearer(there.own["read"]) | {"Content-Type": FORM}
    )
    assert set(json.loads(several.body)) == {f"{OWN}/run"}


def test_an_image_is_not_had_by_its_key(there: Guarded) -> None:
    run = quote(f"{FOREIGN}/run", safe="")
    listed = ask(there, f"plugin/images/images?run={run}&tag=samples/one&sample=0", there.whole["read"])
    query = json.loads(listed.body)[0]["query"]
    path = f"plugin/images/individualImage?{query}"
    assert ask(there, path, there.whole["read"]).status == 200
    assert ask(there, path, there.own["read"]).status == 404


def test_the_page_and_its_files_need_a_token(there: Guarded) -> None:
    for path in ("/tensorboard/", "/tensorboard/index.js", "/tensorboard/static/x", f"{DATA}/environment"):
        assert there.service.request("GET", path).status == 401
        assert there.service.request("GET", path, headers=bearer(there.own["read"])).status in (200, 404)
    assert OWN not in ask(there, "environment", there.own["read"]).body.decode()
