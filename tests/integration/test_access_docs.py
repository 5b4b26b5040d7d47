"""docs/access.md: its lines work as they stand there, its table is that of the routes, its numbers hold."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tallyboard_server.access import SESSION_S, TOKENS_MAX, TRIES_MAX, TRIES_S
from tallyboard_server.access.codes import CODE_S
from tallyboard_server.access.tokens import ENDED_KEPT_MAX
from tallyboard_server.api.documented import ALL_PROJECTS, NEEDS
from tallyboard_server.api.routes import described_routes
from tallyboard_server.cli.serve import announcement
from tallyboard_server.principal import SCOPES
from tallyboard_server.settings import Settings
from tests.access_kit import Guarded, guarded
from tests.cli_process import Cli
from tests.service import RunningService

PAGE = (Path(__file__).parents[2] / "docs" / "access.md").read_text(encoding="utf-8")
TEXT = " ".join(PAGE.split())
LINES = [line for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.M | re.S) for line in block.splitlines()]


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with guarded(tmp_path_factory.mktemp("data")) as found:
        yield found


@pytest.fixture
def service(there: Guarded) -> RunningService:
    return there.service


def asked(service: RunningService, line: str, variables: dict[str, str]) -> int:
    """The status of what a curl line asks for."""
    for name, value in variables.items():
        line = line.replace(f"${name}", value)
    _, url, _, header, *more = shlex.split(line)
    path = url.removeprefix("localhost:6007")
    headers = dict([header.split(": ", 1)]) | ({"Content-Type": "application/json"} if more else {})
    return service.request("POST" if more else "GET", path, more[1].encode() if more else None, headers).status


def test_its_lines_work_in_their_order(
    cli: Cli, there: Guarded, service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLYBOARD_TOKEN", there.whole["admin"])
    variables: dict[str, str] = {}
    revoked, _ = there.make("read")
    done = []
    for line in LINES:
        if (assigned := re.fullmatch(r"([A-Z]+)=\$\((tallyboard .*)\)", line)) is not None:
            outcome = cli(*shlex.split(assigned[2])[1:])
            variables[assigned[1]] = outcome.out.strip()
            assert (outcome.code, outcome.out[:3]) == (0, "tb_")
        elif line.startswith("curl "):
            assert asked(service, line, variables) == 200, line
        elif line.startswith("tallyboard token "):
            assert cli(*shlex.split(line.replace("k3v0a9x2mq", revoked))[1:]).code == 0, line
        else:
            assert line == "tallyboard serve --host 0.0.0.0"  # test_cli_serve.py starts one
        done.append(line.split()[0])
    assert len(done) == 11
    assert service.get("/runs/other/x", {"Authorization": f"Bearer {variables['VIEWER']}"}).status == 403


def test_what_a_first_start_prints_is_what_is_told(tmp_path: Path) -> None:
    settings = Settings(host="0.0.0.0", data_dir=tmp_path, port=0)
    with guarded(tmp_path) as found:
        access = found.service.parts.access
        access.first = type("First", (), {"text": "tb_k3v0a9x2mq_…", "code": "…"})()
        said = announcement(settings, 6007, access)
    (block,) = re.findall(r"^```\n(  token .*?)^```$", PAGE, re.M | re.S)
    assert block in f"{said}\n"


def test_its_table_is_that_of_the_routes() -> None:
    told = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE, re.M))
    assert tuple(told) == SCOPES
    words = {
        "list_runs": "look at runs", "query": "charts", "alerts": "alerts", "refused": "refusals", "verify": "verify",
        "export": "export", "metrics": "/metrics", "report": "report", "put_run": "create", "patch_run": "change",
        "rewind": "rewind", "alert": "raise alerts", "repair": "event files written anew", "delete_run": "delete",
        "prune": "prune", "backup": "backup", "create_token": "make", "list_tokens": "list", "revoke_token": "revoke",
        "incidents": "incidents", "get_project_watch": "rules of watchdogs", "put_project_watch": "rules of watchdogs",
        "audit": "audit",
    }  # fmt: skip
    routes = {route.operation_id: route.openapi_extra or {} for _, route in described_routes()}
    routes["report"] = {NEEDS: "write"}
    for operation, word in words.items():
        assert word in told[routes[operation][NEEDS]], operation
    whole = {operation for operation, extra in routes.items() if extra.get(ALL_PROJECTS)}
    watching = {"get_watch", "put_watch", "delete_watch", "test_watch", "test_project_watch"}
    assert whole == {"metrics", "readyz", "backup"} | watching
    assert "`/metrics`, `/readyz`, the backup, watchdogs' rules for all projects and trying a webhook." in TEXT


def test_its_numbers_are_those_that_hold() -> None:
    for told in (
        f"At most {TOKENS_MAX:,} tokens are in use",
        f"the newest {ENDED_KEPT_MAX:,} stay listed",
        f"good for {SESSION_S / 86_400:g} days",
    ):
        assert told in TEXT, told
    assert (TRIES_MAX, TRIES_S, CODE_S) == (10, 60.0, 3600.0)
    assert "After ten wrong tokens from an address within a minute" in TEXT
    assert "once, within an hour" in TEXT
    (example,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.M | re.S)
    assert yaml.safe_load(example)["scrape_configs"][0]["authorization"]["credentials_file"]
