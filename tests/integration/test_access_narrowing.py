"""What a token of one project sees: nothing of the others, in any answer about many runs, nor in TensorBoard."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

import tallyboard
from tallyboard_server.principal import SERVICE
from tests.access_kit import FOREIGN, OWN, Guarded, bearer, guarded
from tests.service import Answer
from tests.sse import listening

RUNS = [f"{OWN}/a", f"{OWN}/b", f"{OWN}x/c", f"{FOREIGN}/d"]
"""The third begins as the project does, but for the slash."""
SEEN = RUNS[:2]


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with guarded(tmp_path_factory.mktemp("data")) as found:
        service = found.service
        service.headers |= bearer(found.whole["admin"])
        for number, run in enumerate(RUNS):
            opening = {"config": {"lr": number, f"key_of_{run[-1]}": 1}, "uid": f"uid-{run[-1]}"}
            assert service.send("PUT", f"/runs/{run}", opening).status == 201
            report = {"step": 1, "scalars": {"loss": float(number), f"tag_of_{run[-1]}": 1.0}}
            assert service.report(run, report).status == 200
            assert service.send("PATCH", f"/runs/{run}", {"summary": {f"best_of_{run[-1]}": number}}).status == 200
        service.headers.clear()
        yield found


def seen_by(there: Guarded, method: str, path: str, document: Any = None, **headers: str) -> Answer:
    """An answer to the project's reader."""
    there.service.headers |= bearer(there.own["read"])
    try:
        if document is None:
            return there.service.get(path, headers)
        return there.service.send(method, path, document)
    finally:
        there.service.headers.clear()


def seen_whole(there: Guarded, path: str, **headers: str) -> Answer:
    """An answer to the reader of all projects."""
    return there.service.get(path, bearer(there.whole["read"]) | headers)


def names(answer: Answer) -> list[str]:
    assert answer.status == 200, answer.body
    return [row["run"] for row in answer.json()["runs"]]


@pytest.mark.parametrize(("query", "expected"), [
    ("", SEEN), ("?project=own", SEEN), ("?project=ownx", []), ("?project=foreign", []), ("?project=own/a", []),
    ("?filter=config.lr >= 0", SEEN), ("?sort=-config.lr", SEEN[::-1]), ("?q=foreign", []), ("?config.lr=3", []),
    (f"?run={RUNS[0]}&run={RUNS[2]}&run={RUNS[3]}", SEEN[:1]), ("?limit=1", SEEN[:1]),
])  # fmt: skip
def test_runs(there: Guarded, query: str, expected: list[str]) -> None:
    assert names(seen_by(there, "GET", f"/runs{quote(query, safe='?&=/')}")) == expected


@pytest.mark.parametrize("sort", ["", "&sort=config.lr"])
def test_a_cursor_of_somebody_else_leads_nowhere_else(there: Guarded, sort: str) -> None:
    first = seen_whole(there, f"/runs?limit=1{sort}").json()
    rest = seen_by(there, "GET", f"/runs?cursor={quote(first['cursor'])}{sort}")
    assert names(rest) == [run for run in SEEN if run not in [row["run"] for row in first["runs"]]]
    table = seen_by(there, "GET", "/runs?columns=name,config.key_of_d")
    assert [row[0] for row in table.json()["rows"]] == SEEN


@pytest.mark.parametrize("pattern", ["*", "own*", "*/*", "?*", "own/*"])
def test_charts_of_patterns(there: Guarded, pattern: str) -> None:
    for answer in (
        seen_by(there, "GET", f"/scalars?run={quote(pattern)}&tag=loss"),
        seen_by(there, "POST", "/query", {"runs": [pattern], "tags": ["loss"]}),
    ):
        assert [series["run"] for series in answer.json()["series"]] == SEEN
        assert answer.json()["missing"] == []


def test_charts_of_names(there: Guarded) -> None:
    asked = [*RUNS, f"{FOREIGN}/none", f"{FOREIGN}/*"]
    for answer in (
        seen_by(there, "GET", "/scalars?tag=loss&" + "&".join(f"run={quote(run)}" for run in asked)),
        seen_by(there, "POST", "/query", {"runs": asked, "tags": ["loss"]}),
    ):
        found = answer.json()
        assert [series["run"] for series in found["series"]] == SEEN
        assert sorted(one["run"] for one in found["missing"]) == sorted([*RUNS[2:], *asked[4:]])
    grouped = seen_by(there, "POST", "/query", {"runs": ["*"], "tags": ["loss"], "group": "lr"}).json()
    assert [group["value"] for group in grouped["groups"]] == [0, 1]


def test_neither_a_cursor_nor_an_etag_tells_of_others(there: Guarded) -> None:
    path = "/scalars?run=*&tag=loss"
    whole, own = seen_whole(there, path), seen_by(there, "GET", path)
    assert len(whole.json()["series"]) == 4
    assert whole.headers["etag"] != own.headers["etag"]
    assert seen_by(there, "GET", path, **{"If-None-Match": whole.headers["etag"]}).status == 200
    assert seen_by(there, "GET", path, **{"If-None-Match": own.headers["etag"]}).status == 304
    assert whole.headers["cache-control"] == "private, no-cache"
    since = quote(whole.json()["cursor"])
    news = seen_by(there, "GET", f"{path}&since={since}").json()
    assert news["series"] == []
    assert sorted(one["run"] for one in news["missing"]) == sorted(RUNS[2:])
    for overview in ("/tags?run=*", "/columns"):
        whole, own = seen_whole(there, overview), seen_by(there, "GET", overview)
        assert whole.headers["etag"] != own.headers["etag"]
        assert seen_by(there, "GET", overview, **{"If-None-Match": whole.headers["etag"]}).status == 200


def test_tags_and_columns(there: Guarded) -> None:
    for answer in (
        seen_by(there, "GET", f"/tags?run=*&run={RUNS[3]}"), seen_by(there, "POST", "/tags", {"runs": ["*", RUNS[3]]}),
    ):  # fmt: skip
        found = answer.json()
        assert {row["tag"] for row in found["tags"]} == {"loss", "tag_of_a", "tag_of_b"}
        assert (found["runs"], found["missing"]) == (2, [RUNS[3]])
    for query in ("", "?project=own"):
        found = seen_by(there, "GET", f"/columns{query}").json()
        assert {key["column"] for key in found["config"]} == {"config.lr", "config.key_of_a", "config.key_of_b"}
        assert found["runs"] == 2
    assert seen_by(there, "GET", "/columns?project=foreign").json()["runs"] == 0


def test_the_service_says_who_asks(there: Guarded) -> None:
    own, whole = seen_by(there, "GET", "/service").json(), seen_whole(there, "/service").json()
    assert own["access"] == {"name": "own-read", "scope": "read", "project": OWN}
    assert whole["access"] == {"name": "all-read", "scope": "read", "project": None}
    assert (own["protected"], own["logdir"]) == (True, None)
    assert whole["logdir"]


def test_a_stream_tells_of_its_own_runs_and_ends_with_its_token(there: Guarded) -> None:
    token_id, text = there.make("read", OWN)
    with listening(there.service, "", f"Authorization: Bearer {text}", "Connection: close") as stream:
        assert stream.event()[0] == "hello"
        for run in (RUNS[3], RUNS[2], RUNS[1]):
            report = {"scalars": {"more": 1.0}, "counter": "more", "step": 1}
            there.service.headers |= bearer(there.whole["write"])
            assert there.service.report(run, report).status == 200
        assert stream.event() == ("changed", {"runs": [RUNS[1]], "deleted": [], "resync": False})
        there.service.parts.access.revoke(token_id, SERVICE)
        assert there.service.report(RUNS[1], report | {"step": 2}).status == 200
        assert stream.event() == ("", None)
    there.service.headers.clear()
    with listening(there.service, "?project=foreign", f"Authorization: Bearer {there.own['read']}") as stream:
        assert stream.event()[0] == "hello"


def test_a_uid_of_another_project_leads_nowhere(there: Guarded) -> None:
    there.service.headers |= bearer(there.own["write"])
    try:
        for method, path, document in (
            ("PUT", f"/runs/{OWN}/new", {"uid": "uid-d"}),
            ("POST", f"/scalars/{OWN}/new", {"producer": "p1", "seq": 1, "open": {"uid": "uid-d"}, "reports": [
                {"step": 5, "scalars": {"loss": 1.0}},
            ]}),
        ):  # fmt: skip
            answer = there.service.send(method, path, document)
            assert (answer.status, answer.json()["code"]) == (403, "forbidden_run")
            assert FOREIGN.encode() not in answer.body
        assert there.service.send("PUT", f"/runs/{OWN}/a?resume=new", {}).json()["run"] == f"{OWN}/a-2"
        assert there.service.send("PUT", f"/runs/{OWN}/again", {"uid": "uid-a"}).json()["run"] == f"{OWN}/a"
    finally:
        there.service.headers.clear()
    there.service.request("DELETE", f"/api/v1/runs/{OWN}/a-2", headers=bearer(there.own["admin"]))
    assert len(seen_whole(there, f"/scalars?run={RUNS[3]}&tag=loss").json()["series"][0]["points"]["step"]) == 1


def test_a_job_with_a_token_of_another_project_is_told_and_trains_on(
    there: Guarded, no_run_left: None, caplog: pytest.LogCaptureFixture
) -> None:
    with tallyboard.init(f"{FOREIGN}/job", url=there.service.url, token=there.own["write"], exit_timeout_s=5.0) as run:
        for step in range(3):
            run.log({"loss": 1.0}, step=step)
    told = caplog.text
    assert f"the token may not report to run {FOREIGN}/job at {there.service.url}: set TALLYBOARD_TOKEN" in told
    assert "is not in project 'own'" in told
    assert seen_whole(there, f"/runs/{FOREIGN}/job").status == 404
