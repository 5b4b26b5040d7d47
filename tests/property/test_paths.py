"""From a run's name to its directory: whatever the name, inside the logdir, and nobody else's.

Held for file systems that tell names apart by their bytes, as Linux's do. Where case or Unicode forms are not told
apart (macOS, some mounts), two runs may share a directory: there, too, each has files of its own.
"""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallyboard_server.eventfiles.layout import LogDirectory, UnsafePathError, file_name, is_event_file, part_name

PIECES = st.sampled_from(
    [
        "..",
        ".",
        "/",
        "//",
        "\\",
        "~",
        "a",
        "A",
        "é",
        "e\u0301",
        "K",
        "\u212a",
        "\u202e",
        "\u2024\u2024",
        "\uff0e\uff0e",
        "\u2215",
        "\uff0f",
        "%2e%2e",
        "%2F",
        "\0",
        "\n",
        " ",
        "\u3000",
        "con",
        "nul",
        "C:",
        "-rf",
        "$HOME",
        "*",
        "tfevents",
        ".tallyboard-1-1.part",
        "\ud800",
        "x" * 200,
        "ß" * 100,
    ]
)
NAMES = st.lists(PIECES | st.text(max_size=3), min_size=1, max_size=8).map("".join)


def directory(root: Path, name: str) -> Path | None:
    """Where the event files of a run go; None if it can't be one."""
    try:
        return LogDirectory(root).of_run(name)
    except UnsafePathError:
        return None


@given(NAMES)
def test_a_name_leads_to_a_place_of_its_own_inside(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    root = tmp_path_factory.getbasetemp() / "logdir"
    found = directory(root, name)
    if found is None:
        return
    assert os.fspath(found) == os.path.normpath(found) == f"{root}/{name}"  # so no other name has it
    assert found.resolve() == found
    parts = found.relative_to(root).parts
    assert 1 <= len(parts) == name.count("/") + 1
    assert all(part.strip(".") and len(part.encode()) <= 255 for part in parts)
    assert not any(
        part.startswith(".") or is_event_file(part) for part in parts
    )  # no file of the exporter's is called so


@given(st.lists(NAMES, min_size=2, max_size=5, unique=True))
def test_directories_are_made_where_they_were_said_to_be(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    root = tmp_path_factory.mktemp("logdir")
    beside = set(root.parent.iterdir())
    made: dict[tuple[int, int], str] = {}
    for name in names:
        if (path := directory(root, name)) is None:
            continue
        path.mkdir(parents=True, exist_ok=True)
        assert Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))
        place = path.stat()
        assert made.setdefault((place.st_dev, place.st_ino), name) == name
    assert set(root.parent.iterdir()) == beside


FILES = st.tuples(st.integers(1, 10**6), st.integers(1, 10**6))


@given(FILES, FILES, st.integers(0, 2**33), st.integers(0, 2**33))
def test_files_of_two_runs_differ_even_in_one_directory(
    one: tuple[int, int], other: tuple[int, int], then: int, now: int
) -> None:
    for first, second in (
        (file_name(then, "host", *one), file_name(now, "host", *other)),
        (part_name(*one), part_name(*other)),
    ):
        assert (first == second) <= (one == other)
        assert first.isascii()
        assert "/" not in first


def test_links_that_lead_out_are_not_followed(tmp_path: Path) -> None:
    root, outside = tmp_path / "logdir", tmp_path / "outside"
    for path in (root / "a", outside / "b"):
        path.mkdir(parents=True)
    (root / "out").symlink_to(outside)
    (root / "a" / "deep").symlink_to("../../outside")
    (root / "itself").symlink_to(".")
    for name in ("out", "out/b", "out/new", "a/deep", "a/deep/b", "itself"):
        assert directory(root, name) is None
    assert directory(root, "a/b") == root / "a" / "b"
