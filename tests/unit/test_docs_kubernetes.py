"""docs/kubernetes.md: manifests that Kubernetes takes, that fit each other, and that fit the service."""

import re
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml

from tallyboard.wire.limits import BODY_BYTES_MAX, MIB
from tallyboard_server.api.routes import described_routes
from tallyboard_server.cli.server import SHUTDOWN_TIMEOUT_S
from tallyboard_server.settings import Settings
from tests.unit.test_docker_scale import PROJECT, services

PAGE: Final = (Path(__file__).parents[2] / "docs" / "kubernetes.md").read_text(encoding="utf-8")
DOCUMENTS: Final[list[dict[str, Any]]] = [
    document
    for block in re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for document in yaml.safe_load_all(block)
]
VERSIONS: Final = ("1.30", "1.37")
"""Of Kubernetes, whose schemas the manifests meet."""


def of_kind(kind: str, name: str = "tallyboard") -> dict[str, Any]:
    (found,) = [d for d in DOCUMENTS if (d["kind"], d["metadata"]["name"]) == (kind, name)]
    return found


def pod(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The pod of a deployment, and its only container."""
    spec = of_kind("Deployment", name)["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    return spec, container


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: f"{d['kind']}-{d['metadata']['name']}")
def test_kubernetes_takes_them(document: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document | {"spce": {}}, version, strict=True)


def test_selectors_find_the_pods_they_are_for() -> None:
    labels = {}
    for name in ("tallyboard", "tensorboard"):
        spec = of_kind("Deployment", name)["spec"]
        labels[name] = spec["template"]["metadata"]["labels"]
        assert spec["selector"]["matchLabels"] == labels[name]
        assert of_kind("NetworkPolicy", name)["spec"]["podSelector"]["matchLabels"] == labels[name]
    assert labels["tallyboard"] != labels["tensorboard"]
    assert of_kind("Service")["spec"]["selector"] == labels["tallyboard"]
    assert of_kind("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels["tallyboard"]
    (spread,) = pod("tallyboard")[0]["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"] == labels["tallyboard"]
    assert of_kind("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] == "tallyboard"


def test_ports_lead_to_the_service() -> None:
    _, container = pod("tallyboard")
    assert container["ports"] == [{"name": "http", "containerPort": Settings().port}]
    (port,) = of_kind("Service")["spec"]["ports"]
    assert port["targetPort"] == "http"
    for name in ("tallyboard-reports", "tallyboard"):
        (rule,) = of_kind("Ingress", name)["spec"]["rules"]
        (path,) = rule["http"]["paths"]
        assert path["backend"]["service"] == {"name": "tallyboard", "port": {"name": port["name"]}}
        annotations = of_kind("Ingress", name)["metadata"]["annotations"]
        assert annotations["nginx.ingress.kubernetes.io/proxy-body-size"] == f"{BODY_BYTES_MAX // MIB}m"


def test_probes_ask_what_there_is() -> None:
    paths = {path for path, _ in described_routes()}
    _, container = pod("tallyboard")
    asked = {container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe")}
    assert asked == {"/healthz"}
    assert {"/healthz", "/readyz"} <= paths
    command = container["readinessProbe"]["exec"]["command"]
    assert command == services()["replica-1"]["healthcheck"]["test"][1:]  # which a test runs
    assert f":{container['ports'][0]['containerPort']}/readyz" in command[2]


def test_what_is_set_are_settings_and_the_probe_s_are_among_them() -> None:
    _, container = pod("tallyboard")
    given = {entry["name"] for entry in container["env"]} | of_kind("Secret")["stringData"].keys()
    assert container["envFrom"] == [{"secretRef": {"name": of_kind("Secret")["metadata"]["name"]}}]
    assert given <= {f"TALLYBOARD_{name.upper()}" for name in Settings.model_fields} | {"PGPASSWORD"}
    assert set(re.findall(r'environ\["(\w+)"\]', container["readinessProbe"]["exec"]["command"][2])) <= given
    hosts = {rule["host"] for d in DOCUMENTS if d["kind"] == "Ingress" for rule in d["spec"]["rules"]}
    assert {entry["value"] for entry in container["env"] if entry["name"].endswith("ALLOWED_HOSTS")} == hosts
    values = {entry["name"].removeprefix("TALLYBOARD_").lower(): entry["value"] for entry in container["env"]}
    assert Settings(**values).trusted_proxies


def test_there_is_time_to_stop_in_order() -> None:
    spec, container = pod("tallyboard")
    waits = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert spec["terminationGracePeriodSeconds"] >= waits + 4 * SHUTDOWN_TIMEOUT_S


@pytest.mark.parametrize("name", ["tallyboard", "tensorboard"])
def test_pods_are_confined_and_have_what_they_mount(name: str) -> None:
    spec, container = pod(name)
    assert container["image"].endswith(f":{PROJECT['version']}")
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 10001  # the image's
    assert spec["automountServiceAccountToken"] is False
    allowed = container["securityContext"]
    assert (allowed["allowPrivilegeEscalation"], allowed["readOnlyRootFilesystem"]) == (False, True)
    assert allowed["capabilities"] == {"drop": ["ALL"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}
    claims = [volume["persistentVolumeClaim"] for volume in spec["volumes"] if "persistentVolumeClaim" in volume]
    assert [claim["claimName"] for claim in claims] == ["tallyboard-logdir"]
    assert of_kind("PersistentVolumeClaim", "tallyboard-logdir")["spec"]["accessModes"] == ["ReadWriteMany"]


def test_tensorboard_reads_where_replicas_write_and_can_t_write() -> None:
    _, board = pod("tensorboard")
    _, replica = pod("tallyboard")
    logdir = {entry["name"]: entry.get("value") for entry in replica["env"]}["TALLYBOARD_LOGDIR"]
    assert board["command"][2] == logdir
    (mount,) = [mount for mount in board["volumeMounts"] if mount["name"] == "logdir"]
    assert (mount["mountPath"], mount["readOnly"]) == (logdir, True)
