"""The image and compose file say what they must; no container engine is needed to find out."""

import re
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import yaml
from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "docker/Dockerfile"
COMPOSE = ROOT / "docker/compose.yaml"
BIN = Path(sys.executable).parent


def instructions() -> list[tuple[str, str]]:
    """(instruction, argument) pairs of the Dockerfile, in order."""
    parser = DockerfileParser(fileobj=BytesIO(DOCKERFILE.read_bytes()))
    return [(i["instruction"], i["value"]) for i in parser.structure if i["instruction"] != "COMMENT"]


def final_stage() -> dict[str, list[str]]:
    """The instructions of the stage that is shipped."""
    everything = instructions()
    start = max(index for index, (name, _) in enumerate(everything) if name == "FROM")
    stage: dict[str, list[str]] = {}
    for name, value in everything[start:]:
        stage.setdefault(name, []).append(value)
    return stage


def compose() -> dict[str, Any]:
    document = yaml.safe_load(COMPOSE.read_text())
    assert isinstance(document, dict)
    return document


def compose_is_valid(path: Path) -> bool:
    """Whether the compose specification's own JSON schema accepts a file."""
    check = [str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(check, capture_output=True, timeout=60).returncode == 0


def test_the_dockerfile_passes_hadolint() -> None:
    done = subprocess.run([BIN / "hadolint", DOCKERFILE], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_is_built_in_two_stages_from_a_pinned_slim_python() -> None:
    bases = [value for name, value in instructions() if name == "FROM"]
    assert len(bases) == 2
    assert all(re.match(r"python:3\.\d+-slim\b", base) for base in bases)


def test_the_shipped_stage_runs_as_nobody_special_with_a_volume_and_exec_commands() -> None:
    stage = final_stage()
    uid, gid = (int(part) for part in stage["USER"][0].split(":"))
    assert uid > 0
    assert gid > 0
    assert stage["VOLUME"] == ['["/data"]']
    assert "TALLYBOARD_DATA_DIR=/data" in stage["ENV"][0]
    assert stage["CMD"] == ['["tallyboard", "serve"]']
    assert re.search(r'CMD \["python", .*/healthz', stage["HEALTHCHECK"][0])


def test_no_secret_is_baked_into_the_image() -> None:
    assert not [value for name, value in instructions() if name in {"ENV", "ARG"} and "TOKEN" in value.upper()]


def test_what_the_image_copies_passes_the_ignore_file() -> None:
    ignored = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().splitlines()
    let_in = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    copies = [value.split()[:-1] for name, value in instructions() if name == "COPY" and "--from" not in value]
    assert {source for sources in copies for source in sources} == let_in
    assert all((ROOT / source).exists() for source in let_in)
    assert "*" in ignored


def test_the_compose_file_meets_the_compose_specification(tmp_path: Path) -> None:
    assert compose_is_valid(COMPOSE)
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(COMPOSE.read_text().replace("read_only:", "readonly:"))
    assert not compose_is_valid(wrong)


def test_the_compose_services_are_confined_and_published_on_loopback_only() -> None:
    services = compose()["services"]
    assert set(services) == {"tallyboard", "tensorboard"}
    for service in services.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_tensorboard_reads_the_service_s_own_volume_without_write() -> None:
    services = compose()["services"]
    assert services["tallyboard"]["volumes"] == ["data:/data"]
    assert services["tensorboard"]["volumes"] == ["data:/data:ro"]
    command = services["tensorboard"]["command"]
    assert command[command.index("--logdir") + 1] == "/data/logdir"


def test_compose_takes_its_token_from_env_and_refuses_to_go_without() -> None:
    token = compose()["services"]["tallyboard"]["environment"]["TALLYBOARD_TOKEN"]
    assert token.startswith("${TALLYBOARD_TOKEN:?")


def test_the_example_env_file_names_every_variable_of_the_compose_files() -> None:
    used = {
        name for path in COMPOSE.parent.glob("compose*.yaml") for name in re.findall(r"\$\{([A-Z_]+)", path.read_text())
    }
    named = set(re.findall(r"^([A-Z_]+)=", (COMPOSE.parent / ".env.example").read_text(), re.MULTILINE))
    assert used == named


def test_the_env_file_stays_out_of_git() -> None:
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()
