"""docs/replicas.md: commands name what there is, figures and settings exist; the layout's test sends its requests."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tallyboard_server.settings import Settings
from tallyboard_server.shares import SHARES
from tallyboard_server.store.postgres.store import ABANDONED_AFTER_S

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = ("replicas.md", "kubernetes.md", "operations.md", "postgresql.md")
PAGE: Final = (ROOT / "docs/replicas.md").read_text(encoding="utf-8")
VERBS: Final = frozenset({"up", "ps", "logs", "restart", "build", "exec"})


def commands(program: str) -> Iterator[list[str]]:
    """The page's lines in sh that begin with a program, as words."""
    for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            assert words[0] in {"cp", "curl", "docker"}, f"nobody looks at {line!r}"
            if words[0] == program:
                yield words


def test_every_docker_command_names_files_and_services_that_there_are() -> None:
    found = list(commands("docker"))
    assert len(found) > 8
    for words in found:
        assert words[1] == "compose"
        files = [words[index + 1] for index, word in enumerate(words) if word == "-f"]
        known: dict[str, Any] = {}
        for file in files:
            known |= yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))["services"]
        verb, *rest = words[2 + 2 * len(files) :]
        assert verb in VERBS
        named = [word for word in rest if re.fullmatch(r"nginx|postgres|tensorboard|replica-\d|bucket|objects", word)]
        assert set(named) <= set(known), words
        assert named or verb in {"up", "ps"}


def test_what_is_copied_is_there() -> None:
    ((_, source, target),) = commands("cp")
    assert (ROOT / source).is_file()
    assert Path(target).name in (ROOT / ".gitignore").read_text().splitlines()


def test_the_figures_are_those_of_metrics() -> None:
    rows = re.findall(r"^\| (`[a-z_]+`.*?) \|", PAGE, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}
    assert len(named) > 10
    listed = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in listed for name in named)


@pytest.mark.parametrize("page", PAGES)
def test_settings_exist(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    others = {"IMAGE", "URL", "CA_FILE", "TOKEN", "RESTORED_URL"}
    named = set(re.findall(r"TALLYBOARD_([A-Z_]+[A-Z])", text)) - others
    assert named <= {name.upper() for name in Settings.model_fields}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        path, _, anchor = target.partition("#")
        file = (ROOT / "docs" / path) if path else ROOT / "docs" / page
        assert file.is_file(), target
        headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not anchor or anchor in anchors, target


def test_the_numbers_are_the_program_s() -> None:
    assert f"in {SHARES} shares of runs" in PAGE
    assert f"after {ABANDONED_AFTER_S} s at most" in PAGE
