"""The layout of several replicas: its compose files and nginx's configuration agree with each other and the service."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import fsspec
import pytest
import yaml
from moto.server import ThreadedMotoServer

from tallyboard.wire.limits import BODY_BYTES_MAX, MIB
from tallyboard_server.api.documented import NEEDS
from tallyboard_server.api.routes import described_routes
from tallyboard_server.cli.server import SHUTDOWN_TIMEOUT_S
from tallyboard_server.settings import Settings
from tallyboard_server.store.postgres.store import CONNECTIONS_MAX
from tests.unit.test_docker import compose_is_valid, instructions

ROOT: Final = Path(__file__).parents[2]
SCALE: Final = ROOT / "docker/compose.scale.yaml"
OBJECTS: Final = ROOT / "docker/compose.objects.yaml"
NGINX: Final = (ROOT / "docker/nginx.scale.conf").read_text(encoding="utf-8")
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REPLICAS: Final = ("replica-1", "replica-2", "replica-3")
SAFE_TO_REPEAT: Final = {"/api/v1/heartbeat/{run}"}
"""What is sent by POST, changes nothing when it comes again, and has no need `read`."""


def document(path: Path) -> dict[str, Any]:
    loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def services(path: Path = SCALE) -> dict[str, Any]:
    found = document(path)["services"]
    assert isinstance(found, dict)
    return found


def own_services() -> list[tuple[str, dict[str, Any]]]:
    """Every service with a container of its own; what the second file only changes is left out."""
    return [*services().items(), *((name, services(OBJECTS)[name]) for name in ("bucket", "objects"))]


@pytest.mark.parametrize("path", [SCALE, OBJECTS], ids=lambda path: path.name)
def test_the_files_meet_the_compose_specification(path: Path, tmp_path: Path) -> None:
    assert compose_is_valid(path)
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(path.read_text().replace("read_only:", "readonly:"))
    assert not compose_is_valid(wrong)


def test_the_image_has_what_postgresql_and_object_storage_need() -> None:
    (installed,) = re.findall(
        r"'\.\[([a-z,-]+)\]'", "\n".join(value for name, value in instructions() if name == "RUN")
    )
    assert set(installed.split(",")) == {"server", "postgres", "object-store"}
    assert set(installed.split(",")) <= set(PROJECT["optional-dependencies"])


@pytest.mark.parametrize(("name", "service"), own_services(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_service_is_confined(name: str, service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    assert not re.search(r":latest|^[^:]*$", service["image"]), "a version"
    if name != "bucket":
        assert {"cpus", "memory"} <= service["deploy"]["resources"]["limits"].keys()
        assert "test" in service["healthcheck"]
    if not service["image"].startswith(("${TALLYBOARD_IMAGE", "minio/")):  # ours has a user of its own
        assert int(service["user"].partition(":")[0]) > 0


def test_the_image_is_of_this_version() -> None:
    version = PROJECT["version"]
    used = re.findall(r"\$\{TALLYBOARD_IMAGE:-tallyboard:([^}]+)\}", SCALE.read_text() + OBJECTS.read_text())
    assert used == [version] * len(used)
    assert f"TALLYBOARD_IMAGE=tallyboard:{version}\n" in (ROOT / "docker/.env.example").read_text()


def test_no_secret_has_a_default() -> None:
    text = SCALE.read_text() + OBJECTS.read_text()
    for name in ("TALLYBOARD_TOKEN", "POSTGRES_PASSWORD", "OBJECTS_SECRET"):
        assert (used := re.findall(rf"\$\{{{name}([^}}]*)\}}", text))
        assert all(rest.startswith(":?") for rest in used), name
        assert f"\n{name}=\n" in (ROOT / "docker/.env.example").read_text()
    assert not re.search(r"postgresql://[^@\s]*:[^@\s]*@", text)


def test_the_replicas_are_the_same_but_for_their_addresses() -> None:
    different = {"networks", "ports", "build"}
    first, *others = (
        {key: value for key, value in services()[name].items() if key not in different} for name in REPLICAS
    )
    assert others == [first, first]
    assert services(OBJECTS)["replica-1"] == services(OBJECTS)["replica-2"] == services(OBJECTS)["replica-3"]


@pytest.mark.parametrize("path", [SCALE, OBJECTS], ids=lambda path: path.name)
def test_what_is_set_are_settings(path: Path) -> None:
    known = {f"TALLYBOARD_{name.upper()}" for name in Settings.model_fields}
    for name in REPLICAS:
        given = {key for key in services(path)[name]["environment"] if key.startswith("TALLYBOARD_")}
        assert given
        assert given <= known


def test_nginx_and_the_replicas_have_the_addresses_that_each_expects_of_the_other() -> None:
    addresses = [services()[name]["networks"]["front"]["ipv4_address"] for name in REPLICAS]
    assert re.findall(r"^\s+server (\S+):6007 ", NGINX, re.MULTILINE) == addresses
    assert all(services()[name]["ports"][0].endswith(":6007") for name in REPLICAS)
    trusted = services()["replica-1"]["environment"]["TALLYBOARD_TRUSTED_PROXIES"]
    assert trusted == services()["nginx"]["networks"]["front"]["ipv4_address"]
    (listened,) = re.findall(r"^\s+listen (\d+) ", NGINX, re.MULTILINE)
    assert services()["nginx"]["ports"][0].endswith(f":{listened}")


def test_only_replicas_reach_postgresql() -> None:
    on_store = {name for name, service in services().items() if "store" in (service.get("networks") or ())}
    assert on_store == {"postgres", *REPLICAS}
    assert services()["postgres"]["networks"] == ["store"]
    assert document(SCALE)["networks"]["store"] == {"internal": True}
    assert "ports" not in services()["postgres"]


def test_postgresql_has_connections_for_the_replicas_and_some_more() -> None:
    (most,) = [int(word.partition("=")[2]) for word in services()["postgres"]["command"] if "max_connections" in word]
    assert most >= (len(REPLICAS) + 1) * CONNECTIONS_MAX + 3  # one more while one is replaced, and the superuser's


def test_there_is_time_to_stop_in_order() -> None:
    for name in REPLICAS:
        assert int(services()[name]["stop_grace_period"].removesuffix("s")) >= 3 * SHUTDOWN_TIMEOUT_S


def test_tensorboard_reads_where_the_replicas_write_and_can_t_write() -> None:
    board, replica = services()["tensorboard"], services()["replica-1"]
    assert board["volumes"] == ["data:/data:ro"]
    assert replica["volumes"] == ["data:/data"]
    assert board["command"][2] == replica["environment"]["TALLYBOARD_LOGDIR"]


def test_tensorboard_reads_the_objects_that_the_replicas_write() -> None:
    board, replica = services(OBJECTS)["tensorboard"], services(OBJECTS)["replica-1"]
    url = replica["environment"]["TALLYBOARD_LOGDIR"]
    assert board["command"][2] == url
    assert board["environment"] == replica["environment"] | {"FSSPEC_S3": '{"use_listings_cache": false}'}
    (default,) = re.findall(r"^\$\{OBJECTS_URL:-(.+)\}$", url)
    assert str(Settings.model_validate({"logdir": default}).event_file_dir) == default
    assert f"OBJECTS_URL={default}\n" in (ROOT / "docker/.env.example").read_text()


# ── nginx and the routes of the service ──────────────────────────────────────────────────────────────────────────────


def routes() -> Iterator[tuple[str, set[str], dict[str, Any]]]:
    """(path as a client would ask, methods, what the documentation has beside)."""
    for path, route in described_routes():
        yield path, set(route.methods or ()), route.openapi_extra or {}


def affinity(path: str) -> str | None:
    """The run by which nginx chooses a replica for a path."""
    (pattern,) = re.findall(r'map \$request_uri \$affinity \{\s+"~(.*)" \$run;', NGINX)
    found = re.search(pattern.replace("(?<", "(?P<"), path)
    return found["run"] if found else None


def test_whatever_is_about_one_run_goes_to_that_run_s_replica() -> None:
    about_one = {path for path, _, _ in routes() if "{run}" in path}
    assert len(about_one) > 8
    assert affinity("/api/v1/scalars/a/b%20c?x=1") == "a/b%20c"
    assert affinity("/api/v1/scalars?run=a/b") is None
    for path in about_one:
        assert affinity(path.replace("{run}", "mnist/try1")) == "mnist/try1", path
    for path, _, _ in routes():
        if path not in about_one:
            assert affinity(path) is None, path


def test_only_what_may_be_repeated_is_sent_twice() -> None:
    (pattern,) = re.findall(r"location ~ (\S+) \{\s+proxy_next_upstream error timeout non_idempotent;", NGINX)
    posts = {path: extra for path, methods, extra in routes() if "POST" in methods}
    repeated = {path for path in posts if re.match(pattern, path)}
    reads = {path for path, extra in posts.items() if extra[NEEDS] == "read"}
    assert repeated == reads | SAFE_TO_REPEAT
    assert NGINX.count("non_idempotent;") == 2  # these, and numbered batches


def test_nginx_s_limits_are_the_service_s() -> None:
    settings = Settings()
    assert f"client_max_body_size {BODY_BYTES_MAX // MIB}m;" in NGINX
    kept = [int(seconds) for seconds in re.findall(r"keepalive_timeout (\d+)s;", NGINX)]
    assert kept[0] < settings.idle_timeout_s
    assert f"client_body_timeout {settings.body_timeout_s:.0f}s;" in NGINX


# ── object storage ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def storage() -> Iterator[str]:
    """A server that speaks S3."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def test_the_bucket_is_made_once(storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    service = services(OBJECTS)["bucket"]
    given = {
        "AWS_ENDPOINT_URL": storage, "AWS_ACCESS_KEY_ID": "tallyboard", "AWS_SECRET_ACCESS_KEY": "secret-of-tests",
        "AWS_DEFAULT_REGION": "us-east-1", "TALLYBOARD_LOGDIR": "s3://tallyboard/logdir",
    }  # fmt: skip
    assert given.keys() == service["environment"].keys()
    assert service["command"][:2] == ["python", "-c"]
    for _ in range(2):
        command = [sys.executable, "-c", service["command"][2]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=dict(os.environ) | given)
        assert done.returncode == 0, done.stderr
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert fsspec.filesystem("s3", skip_instance_cache=True).ls("") == ["tallyboard"]
