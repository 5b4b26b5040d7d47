"""Tokens over HTTP and from the command line: making, listing, using and revoking them, and logging in with one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest

from tallyboard_server.access import TRIES_MAX
from tallyboard_server.principal import SERVICE
from tallyboard_server.settings import Settings
from tests.access_kit import OWN, Guarded, bearer, guarded
from tests.cli_process import Cli, Outcome
from tests.conftest import StartService
from tests.service import Answer, RunningService, serving, until

HTML = {"Accept": "text/html"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with guarded(tmp_path_factory.mktemp("data")) as found:
        yield found


@pytest.fixture
def service(there: Guarded) -> RunningService:
    """That the command line is carried out against."""
    there.forget_tries()
    return there.service


def post(service: RunningService, token: str, **body: Any) -> Answer:
    data = msgspec.json.encode(body)
    return service.request("POST", "/api/v1/tokens", data, bearer(token) | {"Content-Type": "application/json"})


def log_in(service: RunningService, token: str) -> Answer:
    return service.request("POST", "/login", urlencode({"token": token}).encode(), HTML | FORM)


def cookie_of(answer: Answer) -> dict[str, str]:
    return {"Cookie": answer.headers["set-cookie"].partition(";")[0]}


def audited(service: RunningService, action: str) -> list[tuple[str, Any]]:
    with service.parts.store.snapshot() as view:
        return [(entry.actor, msgspec.json.decode(entry.detail)) for entry in view.audit(action=action)]


class TestFirst:
    def test_an_open_service_is_closed_by_an_admins_token_only(self, start_service: StartService) -> None:
        service = start_service()
        assert service.get("/service").json()["access"] == {"name": "anybody", "scope": "admin", "project": None}
        for body in ({"scope": "read"}, {"scope": "admin", "project": "p"}):
            refused = service.send("POST", "/tokens", body)
            assert (refused.status, refused.json()["code"]) == (409, "admin_token_first")
        assert service.get("/service").json()["protected"] is False
        made = service.send("POST", "/tokens", {"scope": "admin", "name": "ada"})
        assert (made.status, made.headers["cache-control"]) == (201, "no-store")
        assert service.get("/service").status == 401
        service.headers |= bearer(made.json()["token"])
        told = service.get("/service").json()
        assert (told["protected"], told["access"]) == (True, {"name": "ada", "scope": "admin", "project": None})
        refused = service.request("DELETE", f"/api/v1/tokens/{made.json()['id']}")
        assert (refused.status, refused.json()["code"]) == (409, "last_admin_token")
        assert "TALLYBOARD_TOKEN" in refused.json()["detail"]
        assert [actor for actor, _ in audited(service, "token.create")] == ["anybody"]

    def test_with_a_token_of_the_environment_any_can_be_made_and_all_revoked(self, start_service: StartService) -> None:
        service = start_service(token="s3cret")
        made = service.send("POST", "/tokens", {"scope": "admin"}).json()
        assert made["created_by"] == "TALLYBOARD_TOKEN"
        page = service.get("/tokens").json()
        assert ([token["id"] for token in page["tokens"]], page["environment"]) == ([made["id"]], True)
        assert service.request("DELETE", "/api/v1/tokens/TALLYBOARD_TOKEN").status == 404
        assert service.request("DELETE", f"/api/v1/tokens/{made['id']}").status == 204

    def test_tokens_and_sessions_last_over_a_restart(self, tmp_path: Path) -> None:
        with guarded(tmp_path) as there:
            entered = log_in(there.service, there.own["read"])
        with guarded(tmp_path) as again:
            service = again.service
            assert service.get("/runs", bearer(there.own["read"])).status == 200
            assert service.get("/service", cookie_of(entered)).json()["access"]["name"] == "own-read"
            listed = service.get("/tokens", bearer(there.whole["admin"])).json()["tokens"]
            used = {token["id"]: token["last_used_at"] for token in listed}
            assert used[there.whole["write"][3:13]] is None
            assert used[there.own["read"][3:13]] is not None


class TestHttp:
    def test_a_made_token_works_at_once_and_shows_when_it_was_used(self, there: Guarded) -> None:
        service = there.service
        made = post(service, there.whole["admin"], scope="write", name="CI", project="ci", expires_s=60, rate=5).json()
        assert made["token"].split("_")[:2] == ["tb", made["id"]]
        assert made["expires_at"] - made["created_at"] == 60
        listed = {token["id"]: token for token in service.get("/tokens", bearer(there.whole["admin"])).json()["tokens"]}
        assert listed[made["id"]] == {name: value for name, value in made.items() if name != "token"}
        report = service.request(
            "POST", "/api/v1/scalars/ci/run", b'{"step": 1, "scalars": {"loss": 1}}',
            bearer(made["token"]) | {"Content-Type": "application/json"},
        )  # fmt: skip
        assert report.status == 200
        listed = {token["id"]: token for token in service.get("/tokens", bearer(there.whole["admin"])).json()["tokens"]}
        assert listed[made["id"]]["last_used_at"] >= made["created_at"]
        with service.parts.store.snapshot() as view:
            (entry,) = view.audit(run="ci/run")
        assert (entry.actor, entry.token, entry.action) == ("CI", made["id"], "run.create")

    @pytest.mark.parametrize(("body", "field"), [
        ({"scope": "root"}, "$.scope"), ({}, "$.scope"), ({"scope": "read", "project": "a//b"}, "$.project"),
        ({"scope": "read", "project": ""}, "$.project"), ({"scope": "read", "project": "../x"}, "$.project"),
        ({"scope": "read", "name": "x" * 201}, "$.name"), ({"scope": "read", "name": "a\nb"}, "$.name"),
        ({"scope": "read", "expires_s": 0}, "$.expires_s"), ({"scope": "read", "expires_s": -5}, "$.expires_s"),
        ({"scope": "read", "expires_s": 1e30}, "$.expires_s"), ({"scope": "read", "rate": 0}, "$.rate"),
        ({"scope": "read", "hash": "x"}, "$.hash"),
    ])  # fmt: skip
    def test_what_can_not_be_is_refused(self, there: Guarded, body: dict[str, Any], field: str) -> None:
        answer = post(there.service, there.whole["admin"], **body)
        assert (answer.status, answer.json()["code"]) == (422, "invalid_body")
        assert answer.json()["field"] == field

    def test_a_projects_admin_sees_makes_and_revokes_its_own(self, there: Guarded) -> None:
        service, admin = there.service, there.own["admin"]
        page = service.get("/tokens", bearer(admin)).json()
        assert {token["project"].partition("/")[0] for token in page["tokens"]} == {OWN}
        for body in ({"scope": "read"}, {"scope": "read", "project": "foreign"}, {"scope": "read", "project": "ow"}):
            refused = post(service, admin, **body)
            assert (refused.status, refused.json()["code"]) == (403, "forbidden")
        made = post(service, admin, scope="admin", project=f"{OWN}/part").json()
        foreign, _ = there.make("read", "foreign")
        for token_id, status in ((foreign, 404), ("nobody", 404), (made["id"], 204), (made["id"], 204)):
            answer = service.request("DELETE", f"/api/v1/tokens/{token_id}", headers=bearer(admin))
            assert answer.status == status
        told = service.get("/runs", bearer(made["token"]))
        assert (told.status, f"the token {made['id']} was revoked" in told.json()["detail"]) == (401, True)
        assert audited(service, "token.revoke")[0][0] == "own-admin"
        there.forget_tries()

    def test_an_expired_one_says_so(self, there: Guarded) -> None:
        token_id, text = there.make("read", expires_s=1e-6)
        answer = there.service.get("/runs", bearer(text))
        assert answer.status == 401
        assert f"the token {token_id} has expired; send" in answer.json()["detail"]
        there.forget_tries()

    def test_after_many_wrong_tokens_only_right_ones_are_answered_otherwise(self, there: Guarded) -> None:
        for _ in range(TRIES_MAX):
            assert there.service.get("/runs", bearer("wrong")).status == 401
        refused = there.service.get("/runs", bearer("wrong"))
        assert (refused.status, refused.json()["code"]) == (429, "too_many_wrong_tokens")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert there.service.get("/runs", bearer(there.own["read"])).status == 200
        assert there.service.get("/runs").status == 401
        assert log_in(there.service, there.own["read"]).status == 303
        there.forget_tries()


class TestLogin:
    def test_any_token_lets_a_browser_in_and_as_far_as_itself(self, there: Guarded) -> None:
        service = there.service
        page = service.request("GET", "/login", headers=HTML).body.decode()
        assert "any that this service made" in page
        cookie = cookie_of(log_in(service, there.own["read"]))
        assert service.get("/service", cookie).json()["access"] == {"name": "own-read", "scope": "read", "project": OWN}
        assert service.request("DELETE", f"/api/v1/runs/{OWN}/x", headers=cookie).status == 403
        assert service.request("GET", "/tensorboard/data/runs", headers=cookie).status == 200
        assert service.get("/runs/foreign/x", cookie).json()["code"] == "forbidden_run"

    def test_logging_out_ends_the_session_for_whoever_has_the_cookie(self, there: Guarded) -> None:
        service = there.service
        one, other = (cookie_of(log_in(service, there.own["read"])) for _ in range(2))
        assert service.request("POST", "/logout", b"", one).status == 303
        assert service.get("/runs", one).status == 401
        assert service.get("/runs", other).status == 200

    def test_revoking_ends_it_too(self, there: Guarded) -> None:
        token_id, text = there.make("read")
        cookie = cookie_of(log_in(there.service, text))
        assert there.service.get("/runs", cookie).status == 200
        there.service.parts.access.revoke(token_id, SERVICE)
        assert there.service.get("/runs", cookie).status == 401

    def test_a_wrong_code_leads_to_the_page(self, there: Guarded) -> None:
        there.forget_tries()
        answer = there.service.request("GET", "/login?code=guessed&next=docs", headers=HTML)
        assert (answer.status, "set-cookie" in answer.headers) == (401, False)
        page = answer.body.decode()
        assert "The link is wrong, too old, or was used before" in page
        assert 'name="next" value="docs"' in page
        assert "guessed" not in page

    def test_another_token_of_the_environment_ends_its_sessions(self, tmp_path: Path) -> None:
        cookies: list[dict[str, str]] = []
        for token in ("one", "one", "two"):
            with serving(Settings(data_dir=tmp_path / "data", port=0, token=token)) as service:
                service.headers.clear()
                expected = 200 if token == "one" else 401
                assert all(service.get("/runs", cookie).status == expected for cookie in cookies)
                cookies.append(cookie_of(log_in(service, token)))


class TestCommands:
    @pytest.fixture
    def asked(self, cli: Cli, there: Guarded, monkeypatch: pytest.MonkeyPatch) -> Cli:
        def run(*arguments: str) -> Outcome:
            monkeypatch.setenv("TALLYBOARD_TOKEN", there.whole["admin"])
            return cli("token", *arguments)

        return run

    def test_create_prints_nothing_but_the_token(self, asked: Cli, service: RunningService) -> None:
        done = asked("create", "--scope", "read", "--project", OWN, "--expires", "90d", "--name", "wall", "--rate", "2")
        assert done.code == 0
        text = done.out.removesuffix("\n")
        assert service.get("/service", bearer(text)).json()["access"] == {
            "name": "wall", "scope": "read", "project": OWN,
        }  # fmt: skip
        assert f"token {text[3:13]}: read, project {OWN}, good until 20" in done.err
        as_json = msgspec.json.decode(asked("create", "--scope", "read", "--json").out)
        assert service.get("/runs", bearer(as_json["token"])).status == 200

    def test_list_and_revoke(self, asked: Cli, service: RunningService) -> None:
        text = asked("create", "--scope", "write", "--name", "[bold]job").out.strip()
        token_id = text[3:13]
        row = next(line for line in asked("list").out.splitlines() if line.startswith(token_id))
        assert row.split() == [token_id, "[bold]job", "write", "all", "good", "never", "all-admin"]
        service.get("/runs", bearer(text))
        page = msgspec.json.decode(asked("list", "--json").out)
        assert next(one for one in page["tokens"] if one["id"] == token_id)["last_used_at"] is not None
        assert asked("revoke", token_id).code == 0
        assert service.get("/runs", bearer(text)).status == 401
        row = next(line for line in asked("list").out.splitlines() if line.startswith(token_id))
        assert "revoked" in row
        assert text not in asked("list").out

    @pytest.mark.parametrize(("arguments", "code", "said"), [
        (("create", "--scope", "root"), 2, "none of read, write, admin"),
        (("create", "--scope", "read", "--expires", "soon"), 2, "write for example 90d"),
        (("create", "--scope", "read", "--project", "a//b"), 1, "a//b"),
        (("create",), 2, "--scope"), (("revoke", "nobody"), 4, "there is no token 'nobody'"),
    ])  # fmt: skip
    def test_what_can_not_be_is_one_clear_line(
        self, asked: Cli, arguments: tuple[str, ...], code: int, said: str
    ) -> None:
        done = asked(*arguments)
        assert (done.code, done.out) == (code, "")
        assert said in " ".join(done.err.split())

    def test_a_doctor_of_one_project_says_what_it_can_not_know(
        self, cli: Cli, there: Guarded, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        there.service.headers |= bearer(there.own["write"])
        assert there.service.report(f"{OWN}/sick", {"step": 1, "scalars": {"loss": 1.0}}).status == 200
        there.service.headers.clear()
        monkeypatch.setenv("TALLYBOARD_TOKEN", there.own["read"])
        done = cli("doctor", f"{OWN}/sick")
        assert (done.code, "✓ no report was refused" in done.out) == (0, True)
        for said in ("· it does not say whether it is ready", "· where event files are is not told"):
            assert said in done.out

    def test_a_token_that_may_not_is_told_so(self, cli: Cli, there: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TALLYBOARD_TOKEN", there.whole["write"])
        done = cli("token", "list")
        assert (done.code, "needs a token of scope admin" in done.err) == (5, True)


def test_what_was_used_is_in_the_store_when_it_stops(tmp_path: Path) -> None:
    with guarded(tmp_path) as there:
        cookie = cookie_of(log_in(there.service, there.own["read"]))
        store = there.service.parts.store

        def kept() -> bool:
            with store.snapshot() as view:
                return len(view.sessions()) == 1

        assert until(kept)  # at once, not a minute later
        assert cookie["Cookie"].partition("=")[2].encode() not in b"".join(
            path.read_bytes() for path in tmp_path.rglob("*.sqlite3*")
        )
