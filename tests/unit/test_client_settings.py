"""Settings, names and provenance: what a run knows before it begins."""

import random
import re
from pathlib import Path
from typing import Any

import pytest

from tallyboard.errors import ConfigurationError
from tallyboard.naming import for_rank, made_up, run_name
from tallyboard.provenance import git_head, provenance
from tallyboard.settings import read_settings
from tallyboard.wire import check_document


def test_settings_come_from_arguments_then_environment_then_defaults() -> None:
    bare = read_settings({})
    assert (bare.url, bare.token, bare.strict, bare.mode) == ("http://127.0.0.1:6007", None, False, "online")
    environ = {
        "TALLYBOARD_URL": "https://tally.example/board/",
        "TALLYBOARD_TOKEN": "abc",
        "TALLYBOARD_RUN": "digits/try1",
        "TALLYBOARD_STRICT": "1",
        "TALLYBOARD_MODE": "disabled",
        "RANK": "3",
    }
    told = read_settings(environ)
    assert (told.url, told.token, told.run) == ("https://tally.example/board", "abc", "digits/try1")
    assert (told.strict, told.mode, told.rank) == (True, "disabled", 3)
    argued = read_settings(environ, url="http://other:1", token="def", mode="online")
    assert (argued.url, argued.token, argued.mode) == ("http://other:1", "def", "online")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"url": "localhost:6007"}, "http://127.0.0.1:6007"),
        ({"url": "http://"}, "url"),
        ({"url": "http://host:notaport"}, "url"),
        ({"token": "two words"}, "token"),
        ({"token": "line\nbreak"}, "token"),
        ({"mode": "onlin"}, "'online', 'offline' or 'disabled'"),
        ({"system_metrics": 0.5}, "0.5 is neither on nor off"),
        ({"system_metrics": float("nan")}, "1 to 86,400"),
        ({"system_metrics": "often"}, "'often' is neither on nor off"),
    ],
)
def test_a_setting_that_is_none_is_named(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        read_settings({}, **arguments)


@pytest.mark.parametrize(
    ("argument", "told", "every_s"),
    [
        (None, None, 15.0),
        (None, "", 15.0),
        (None, "0", None),
        (None, "Off", None),
        (None, "true", 15.0),
        (None, "1", 15.0),
        (None, "1.0", 1.0),
        (None, "2.5", 2.5),
        (True, "0", 15.0),
        (False, "30", None),
        (1, "30", 1.0),
        (60.0, None, 60.0),
    ],
)
def test_how_often_the_machine_is_sampled(argument: float | None, told: str | None, every_s: float | None) -> None:
    environ = {} if told is None else {"TALLYBOARD_SYSTEM_METRICS": told}
    assert read_settings(environ, system_metrics=argument).system_every_s == every_s


@pytest.mark.parametrize(
    ("name", "project", "fallback", "expected"),
    [
        ("try1", "digits", "other/run", "digits/try1"),
        ("digits/try1", None, "other/run", "digits/try1"),
        ("sweep/try1", "digits", None, "digits/sweep/try1"),
        (None, None, "other/run", "other/run"),
        (None, "digits", "other/run", r"digits/[a-z]+-[a-z]+-\d{4}"),
        (None, None, None, r"train/[a-z]+-[a-z]+-\d{4}"),
    ],
)
def test_a_run_is_named_by_what_was_given(
    name: str | None, project: str | None, fallback: str | None, expected: str
) -> None:
    assert re.fullmatch(expected, run_name(name, project, fallback, "/home/ada/train.py", random.Random(1)))


@pytest.mark.parametrize("script", ["", "-c", "/opt/ipykernel_launcher.py"])
def test_without_a_script_made_up_names_go_to_runs(script: str) -> None:
    assert run_name(None, None, None, script, random.Random(1)).startswith("runs/")


@pytest.mark.parametrize("name", ["../etc", "/abs", "a//b", "", "a\nb", "x" * 600])
def test_a_name_that_can_be_no_run_is_refused_at_once(name: str) -> None:
    with pytest.raises(ConfigurationError):
        run_name(name, None, None, "train.py", random.Random(1))


def test_made_up_names_differ() -> None:
    rng = random.Random(5)
    assert len({made_up(rng) for _ in range(200)}) == 200


def test_ranks() -> None:
    assert for_rank("digits/try1", None, "zero") == "digits/try1"
    assert for_rank("digits/try1", 0, "zero") == "digits/try1"
    assert for_rank("digits/try1", 7, "zero") is None
    assert for_rank("digits/try1", 7, "all") == "digits/try1/rank07"
    assert for_rank("digits/try1", 0, "all") == "digits/try1/rank00"


def test_provenance_masks_what_looks_secret() -> None:
    argv = ["train.py", "--api-key", "s3cret", "--wandb-token=s3cret", "--lr=0.1", "password=s3cret"]
    found = provenance(argv, {"SLURM_JOB_ID": "17", "HOME": "/home/ada"}, Path("/nowhere"))
    assert found["argv"] == ["train.py", "--api-key", "***", "--wandb-token=***", "--lr=0.1", "password=***"]
    assert found["scheduler"] == {"SLURM_JOB_ID": "17"}
    assert {"host", "pid", "user", "cwd", "python", "platform"} <= found.keys()


def test_git_head_is_read_from_loose_packed_and_detached_refs(tmp_path: Path) -> None:
    git, commit = tmp_path / ".git", "c" * 40
    (git / "refs/heads/dev").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/dev/fast\n")
    inside = tmp_path / "src/deep"
    inside.mkdir(parents=True)
    assert git_head(inside) == {"git_branch": "dev/fast"}  # no commit yet
    (git / "packed-refs").write_text(f"# pack-refs\n{'d' * 40} refs/heads/other\n{commit} refs/heads/dev/fast\n")
    assert git_head(inside) == {"git_branch": "dev/fast", "git_commit": commit}
    (git / "refs/heads/dev/fast").write_text("e" * 40 + "\n")
    assert git_head(inside)["git_commit"] == "e" * 40
    (git / "HEAD").write_text(commit + "\n")
    assert git_head(inside) == {"git_commit": commit}


def test_git_head_of_a_worktree_is_found_in_the_main_one(tmp_path: Path) -> None:
    main, tree = tmp_path / "main/.git", tmp_path / "tree"
    (main / "worktrees/tree").mkdir(parents=True)
    (main / "refs/heads").mkdir(parents=True)
    (main / "refs/heads/side").write_text("a" * 40)
    (main / "worktrees/tree/HEAD").write_text("ref: refs/heads/side")
    (main / "worktrees/tree/commondir").write_text("../..")
    tree.mkdir()
    (tree / ".git").write_text(f"gitdir: {main / 'worktrees/tree'}")
    assert git_head(tree) == {"git_branch": "side", "git_commit": "a" * 40}


def test_no_git_is_no_error(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    assert git_head(tmp_path) == {}


def test_provenance_is_bounded_and_always_text() -> None:
    argv = ["train.py", *("ü" * 1000 for _ in range(1000)), "bad \udcff"]
    found = provenance(argv, {"SLURM_JOB_ID": "\udcff" * 10_000}, Path("/x" * 3000))
    check_document(found, "provenance")
    assert found["argv"][-1] == "…"
    assert provenance(["bad \udcff"], {}, Path("/"))["argv"] == ["bad ?"]


def test_provenance_without_a_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert "cwd" not in provenance([], {})
