"""Watchdogs, rules and webhooks on a whole service: over HTTP and from the command line."""

import contextlib
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tallyboard_server.api import guard
from tallyboard_server.principal import Principal
from tallyboard_server.settings import Settings
from tests.cli_process import Cli
from tests.conftest import StartService
from tests.service import RunningService, serving, until
from tests.sse import listening
from tests.webhooks import Receiver, Reply, receiving


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[RunningService]:
    """With watchdogs, and a webhook for all."""
    folder = tmp_path_factory.mktemp("data")
    settings = Settings(data_dir=folder, port=0, webhook_url=receiver.url, public_url="https://tb.example.org")
    with serving(settings) as running:
        yield running


def incidents(service: RunningService, query: str = "") -> list[Any]:
    found: list[Any] = service.get(f"/incidents{query}").json()["incidents"]
    return found


def test_a_nan_is_everywhere_within_seconds(service: RunningService, receiver: Receiver) -> None:
    run = "nan/try1"
    service.report(run, {"step": 3, "scalars": {"loss": "NaN"}})
    assert until(lambda: bool(incidents(service, "?project=nan")))
    (found,) = incidents(service, "?project=nan")
    assert (found["run"], found["kind"], found["subject"], found["told"]) == (run, "nonfinite", "loss", True)
    (alert,) = service.get(f"/alerts/{run}").json()["alerts"]
    assert (alert["producer"], alert["title"], alert["level"]) == ("watchdog", "loss is NaN", "error")
    view = service.get(f"/runs/{run}").json()
    assert view["health"]["incidents"] == [found]
    table = service.get(f"/runs?run={run}&columns=name,incidents,alerts").json()
    assert table["rows"] == [[run, ["nonfinite"], 1]]
    assert service.get("/runs?columns=name&filter=incidents%20~%20%22nonfinite%22").json()["rows"] == [[run]]
    assert until(lambda: receiver.titles(run) == ["loss is NaN"])
    (notice,) = [notice for notice in receiver.notices if notice["run"] == run]
    assert notice["url"] == f"https://tb.example.org/?view=health&run={run}&watch={run}"
    metrics = service.request("GET", "/metrics").body.decode()
    assert "tallyboard_watch_incidents_nonfinite 1\n" in metrics
    assert "tallyboard_notices_sent_total" in metrics


def test_what_a_job_says_goes_the_same_way(service: RunningService, receiver: Receiver) -> None:
    run = "job/try1"
    service.report(run, {"step": 1, "scalars": {"loss": 1.0}})
    service.send("POST", f"/alerts/{run}", {"title": "the disk is nearly full", "level": "info"})
    assert until(lambda: receiver.titles(run) == ["the disk is nearly full"])


def test_incidents_are_narrowed_to_a_project_and_bounded(service: RunningService) -> None:
    for number in range(3):
        service.report(f"many/run{number}", {"step": 1, "scalars": {"loss": "NaN"}})
    assert until(lambda: len(incidents(service, "?project=many")) == 3)
    page = service.get("/incidents?project=many&limit=2").json()
    assert (len(page["incidents"]), page["more"]) == (2, True)
    assert incidents(service, "?project=man") == []
    assert service.get("/incidents?limit=0").status == 422
    assert service.get("/incidents?projects=many").status == 422
    service.request("DELETE", "/api/v1/runs/many/run0")
    assert until(lambda: len(incidents(service, "?project=many")) == 2)


def test_rules_are_inherited_changed_and_audited(service: RunningService) -> None:
    assert service.get("/watch").json()["own"] == {}
    answer = service.send("PUT", "/watch/team", {"lost_after_s": 600, "nonfinite": False})
    assert (answer.status, answer.json()["own"]) == (200, {"nonfinite": False, "lost_after_s": 600.0})
    service.send("PUT", "/watch/team/mnist", {"lost_after_s": 900, "limits": [{"tag": "loss", "max": 10}]})
    deep = service.get("/watch/team/mnist").json()
    assert (deep["rules"]["lost_after_s"], deep["rules"]["nonfinite"], deep["rules"]["stalled"]) == (900.0, False, True)
    service.report("team/mnist/try1", {"step": 1, "scalars": {"loss": 12.5, "acc": "NaN"}})
    assert until(lambda: bool(incidents(service, "?project=team")))
    assert [(one["kind"], one["title"]) for one in incidents(service, "?project=team")] == [
        ("bounds", "loss is 12.5, above 10")
    ]
    assert service.request("DELETE", "/api/v1/watch/team/mnist").status == 204
    assert service.get("/watch/team/mnist").json()["rules"]["lost_after_s"] == 600.0
    assert until(lambda: incidents(service, "?project=team") == [], 25.0)
    with service.parts.store.snapshot() as view:
        told = [(entry.actor, msgspec.json.decode(entry.detail)) for entry in view.audit(action="watch.change")]
    assert told[::-1][:3] == [
        ("anybody", {"project": "team", "fields": ["lost_after_s", "nonfinite"]}),
        ("anybody", {"project": "team/mnist", "fields": ["limits", "lost_after_s"]}),
        ("anybody", {"project": "team/mnist", "fields": []}),
    ]


@pytest.mark.parametrize(
    ("rules", "field", "said"),
    [
        ({"stalld": True}, "$", "unknown field `stalld`"),
        ({"lost": "yes"}, "$.lost", "Expected `bool`"),
        ({"lost_after_s": 1}, "$.lost_after_s", "from 10 to 2592000 s"),
        ({"stalled_after_s": 1e9}, "$.stalled_after_s", "from 10"),
        ({"limits": [{"tag": "loss"}]}, "$.limits[0]", "min, max, or both"),
        ({"limits": [{"tag": "", "min": 0}]}, "$.limits[0].tag", "must not be empty"),
        ({"limits": [{"tag": "a", "min": 2, "max": 1}]}, "$.limits[0]", "min 2 is above max 1"),
        ({"limits": [{"tag": "a", "min": 2}] * 101}, "$.limits", "at most 100"),
        ({"webhook": {"url": "hooks.slack.com"}}, "$.webhook.url", "a URL like https"),
        ({"webhook": {"url": "http://a/", "format": "teams"}}, "$.webhook.format", "Invalid enum value"),
    ],
)
def test_what_can_not_be_followed_is_refused(service: RunningService, rules: Any, field: str, said: str) -> None:
    answer = service.send("PUT", "/watch/wrong", rules)
    problem = answer.json()
    assert (answer.status, problem["code"]) == (422, "invalid_body"), problem
    assert said in problem["detail"]
    assert problem["field"].startswith(field)
    assert service.get("/watch/wrong").json()["own"] == {}
    assert service.send("PUT", "/watch/.hidden", {}).status == 422


def test_who_has_a_project_only_sets_no_webhook_and_sees_no_secret(
    service: RunningService, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "https://hooks.example.org/services/T0/secret"
    service.send("PUT", "/watch/mine", {"webhook": {"url": secret, "format": "slack"}})
    assert service.get("/watch/mine").json()["own"]["webhook"]["url"] == secret
    with asking_as(monkeypatch, Principal("mine", "admin", "mine")):
        seen = service.get("/watch/mine").json()["own"]["webhook"]
        assert seen == {"url": "https://hooks.example.org/***", "format": "slack"}
        assert service.send("PUT", "/watch/mine", {"webhook": {"url": receiver.url}}).json()["code"] == "forbidden"
        assert service.send("PUT", "/watch/mine", {"webhook": None}).json()["code"] == "forbidden"
        assert service.send("PUT", "/watch/mine", {"webhook": seen, "lost": False}).status == 200
        assert service.send("POST", "/watch/mine:test", {}).json()["code"] == "forbidden"
        assert service.request("DELETE", "/api/v1/watch/mine").status == 204
        for path, code in (("", "forbidden"), ("/other", "forbidden_run"), ("/min", "forbidden_run")):
            assert service.send("PUT", f"/watch{path}", {}).json()["code"] == code
            assert service.get(f"/watch{path}").json()["code"] == code
        assert {one["run"].partition("/")[0] for one in incidents(service)} <= {"mine"}
        assert incidents(service, "?project=many") == []
    assert service.get("/watch/mine").json()["own"] == {"webhook": {"url": secret, "format": "slack"}}


@contextlib.contextmanager
def asking_as(monkeypatch: pytest.MonkeyPatch, principal: Principal) -> Iterator[None]:
    """Requests are this principal's until the block ends."""
    with monkeypatch.context() as patch:
        patch.setattr(guard, "Principal", lambda *_, **__: principal)
        yield


def test_the_command_line_shows_changes_and_tries(cli: Cli, service: RunningService, receiver: Receiver) -> None:
    done = cli("watchdogs", "set", "cli", "--bound", "loss:max=10", "--bound", "val/*:min=0,max=1", "--off", "stalled",
               "--lost-after", "600", "--webhook", f"{receiver.url}/cli", "--format", "slack")  # fmt: skip
    assert done.code == 0, done.err
    lines = [line.rstrip().split(maxsplit=2) for line in done.out.splitlines()]
    assert ["*", "limits", "loss:max=10; val/*:min=0,max=1"] in lines
    assert ["*", "stalled", "off"] in lines
    assert ["*", "lost_after_s", "600 s"] in lines
    assert ["lost", "on"] in lines
    assert ["*", "webhook", f"{receiver.url}/cli (slack)"] in lines
    done = cli("watchdogs", "set", "cli", "--bound", "loss:max=20", "--inherit", "stalled", "--format", "json")
    assert "loss:max=20; val/*:min=0,max=1" in done.out
    assert service.get("/watch/cli").json()["own"]["webhook"] == {"url": f"{receiver.url}/cli"}
    assert cli("watchdogs", "test", "cli").out == "taken: 200 ok\n"
    assert receiver.came[-1].path == "/hook/cli"
    receiver.replies = [Reply(404, body=b"no_such_hook")]
    done = cli("watchdogs", "test", "cli")
    assert (done.code, done.err) == (1, "tallyboard: the webhook did not take it: 404 no_such_hook\n")
    done = cli("watchdogs", "set", "cli", "--no-webhook", "--no-bounds")
    assert "none" in done.out
    assert "there is no webhook" not in done.err
    assert cli("watchdogs", "test", "cli").code == 4
    assert cli("watchdogs", "reset", "cli").code == 0
    assert service.get("/watch/cli").json()["own"] == {}
    service.report("cli/run", {"step": 1, "scalars": {"loss": "NaN"}})
    assert until(lambda: bool(incidents(service, "?project=cli")))
    assert "loss is NaN" in cli("watchdogs", "list", "cli").out
    assert "nothing is wrong" in cli("watchdogs", "list", "none").err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--bound", "loss"], "are no bounds"), (["--bound", "loss:max=x"], "is no number"),
        (["--bound", "loss:max=nan"], "is not finite"), (["--off", "stall"], "there is no watchdog 'stall'"),
        (["--inherit", "x"], "there is no rule 'x'"),
        (["--format", "slack"], "needs --webhook"), ([], "what is to change"),
    ],
)  # fmt: skip
def test_what_the_command_line_can_not_make_sense_of(cli: Cli, options: list[str], said: str) -> None:
    done = cli("watchdogs", "set", "wrong", *options)
    assert done.code == 2
    assert said in " ".join(done.err.replace("│", " ").split())


def test_pages_hear_that_an_incident_opens(start_service: StartService) -> None:
    """The live stream names the run again once the incident is there, though nobody reports."""
    service = start_service(watchdogs=True)
    with listening(service) as stream:
        stream.event()
        service.report("p/run", {"step": 1, "scalars": {"loss": "NaN"}})
        told = 0
        while not service.get("/runs/p/run").json()["health"]["incidents"] or told < 2:
            _, data = stream.event()
            told += "p/run" in data["runs"]
    assert told >= 2
