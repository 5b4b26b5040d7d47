"""`tallyboard export`: files that are whole or not there, from a service and from a data directory."""

import io
import subprocess
from pathlib import Path

import pytest
from pyarrow import parquet

from tallyboard_server.cli import exporting
from tallyboard_server.export import pages
from tallyboard_server.settings import Settings
from tallyboard_server.store.protocol import StoreError
from tests.cli_process import TALLYBOARD, Cli, clean, report
from tests.export_kit import event_points, rows
from tests.service import RunningService, serving


@pytest.fixture(scope="module")
def filled(service: RunningService) -> RunningService:
    """A service with two runs of a project, and one of another."""
    for run in ("mnist/one", "mnist/deep/two", "other/run"):
        report(service, run, range(10))
    report(service, "mnist/one", range(3), counter="epoch", tag="val/loss")
    return service


def test_one_run_to_a_file(cli: Cli, filled: RunningService, tmp_path: Path) -> None:
    target = tmp_path / "one.csv"
    outcome = cli("export", "mnist/one", "-o", str(target))
    assert outcome.code == 0, outcome
    assert outcome.out == ""
    assert f"{target.stat().st_size:,} bytes" in outcome.err
    assert [(row.counter, row.tag, row.step) for row in rows("csv", target.read_bytes())] == [
        *(("global_step", "loss", step) for step in range(10)),
        *(("epoch", "val/loss", step) for step in range(3)),
    ]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet", "msgpack"])
def test_the_format_is_by_the_name(cli: Cli, filled: RunningService, tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"points.{suffix}"
    assert cli("export", "other/run", "-o", str(target)).code == 0
    assert len(rows(suffix, target.read_bytes())) == 10


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_several_runs_in_one_file(cli: Cli, filled: RunningService, tmp_path: Path, form: str) -> None:
    target = tmp_path / "all"
    assert cli("export", "other/run", "mnist/*", "-o", str(target), "-f", form, "--tag", "lo*").code == 0
    text = target.read_text()
    assert len(rows(form, text.encode())) == 30
    assert text.count("run,counter,step") == (form == "csv")
    assert text.index("other/run") < text.index("mnist/deep/two") < text.index("mnist/one")


def test_a_file_per_run_in_a_directory(cli: Cli, filled: RunningService, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    assert cli("export", "mnist/*", "-f", "parquet", "-o", f"{folder}/").code == 0
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert files == [Path("mnist/deep/two.parquet"), Path("mnist/one.parquet")]
    assert parquet.read_table(io.BytesIO((folder / files[1]).read_bytes())).num_rows == 13


def test_event_files_are_a_logdir(cli: Cli, filled: RunningService, tmp_path: Path) -> None:
    assert cli("export", "mnist/*", "-f", "tfevents", "-o", str(tmp_path)).code == 0
    found = sorted(tmp_path.rglob("*tfevents*"))
    assert [path.parent.relative_to(tmp_path) for path in found] == [Path("mnist/deep/two"), Path("mnist/one")]
    assert [(tag, step) for tag, step, *_ in event_points(found[0].read_bytes())] == [("loss", s) for s in range(10)]


def test_superseded_points(cli: Cli, filled: RunningService, tmp_path: Path) -> None:
    report(filled, "other/rewound", range(10))
    filled.send("POST", "/rewind/other/rewound", {"next_steps": {"global_step": 7}})
    target = tmp_path / "all.jsonl"
    assert cli("export", "other/rewound", "-o", str(target), "--attempts", "all").code == 0
    assert [row.superseded for row in rows("jsonl", target.read_bytes())] == [False] * 7 + [True] * 3
    refused = cli("export", "other/rewound", "-f", "tfevents", "-o", f"{tmp_path}/x/", "--attempts", "all")
    assert (refused.code, "no place for superseded points" in refused.err) == (1, True)


def test_what_is_there_is_not_overwritten(cli: Cli, filled: RunningService, tmp_path: Path) -> None:
    target = tmp_path / "one.csv"
    target.write_text("mine")
    outcome = cli("export", "other/run", "-o", str(target))
    assert (outcome.code, "exists already" in outcome.err, target.read_text()) == (1, True, "mine")
    assert cli("export", "other/run", "-o", str(target), "--force").code == 0
    assert len(rows("csv", target.read_bytes())) == 10


def test_an_export_that_breaks_off_leaves_nothing(
    cli: Cli, filled: RunningService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> object:
        raise StoreError("the disk is failing")

    monkeypatch.setattr(pages, "read_page", broken)
    outcome = cli("export", "other/run", "-o", str(tmp_path / "one.csv"))
    assert (outcome.code, "broke off" in outcome.err) == (3, True), outcome
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_is_told(
    cli: Cli, filled: RunningService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting, "sync_file", full)
    target = tmp_path / "one.csv"
    outcome = cli("export", "other/run", "-o", str(target))
    assert (outcome.code, f"{target}: No space left on device" in outcome.err) == (1, True), outcome
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("no/run", "-o", "{}/a.csv"), 4, "there is no run"),
        (("no*", "-o", "{}/a.csv"), 4, "no run matches 'no*'"),
        (("mnist/*", "-o", "{}/a.parquet"), 1, "one run a file"),
        (("mnist/one", "-o", "{}/nowhere/a.csv"), 1, "No such file or directory"),
    ],
)
def test_what_can_t_be_done_is_said(
    cli: Cli, filled: RunningService, tmp_path: Path, arguments: tuple[str, ...], code: int, told: str
) -> None:
    outcome = cli("export", *(argument.format(tmp_path) for argument in arguments))
    assert (outcome.code, told in outcome.err) == (code, True), outcome
    assert list(tmp_path.iterdir()) == []


def test_stdout_and_a_reader_that_has_enough(filled: RunningService) -> None:
    environment = clean({"TALLYBOARD_URL": filled.url})
    whole = subprocess.run(
        [*TALLYBOARD, "export", "mnist/*", "-f", "jsonl"], capture_output=True, timeout=60, env=environment
    )
    assert (whole.returncode, len(rows("jsonl", whole.stdout))) == (0, 23)
    report(filled, "other/long", range(20_000))
    with subprocess.Popen(
        [*TALLYBOARD, "export", "other/long"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"run,counter,step,wall_time,tag,value\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_a_data_directory_that_nobody_owns(cli: Cli, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", port=0)
    with serving(settings) as service:
        report(service, "a/b", range(20))
        online = service.get("/export/a/b").body
        in_use = cli("export", "a/b", "-o", str(tmp_path / "a.csv"), "--data-dir", str(settings.data_dir))
        assert (in_use.code, "is in use by process" in in_use.err) == (1, True)
    option = ("--data-dir", str(settings.data_dir))
    assert cli("export", "a/*", "-o", str(tmp_path / "a.csv"), *option).code == 0
    assert (tmp_path / "a.csv").read_bytes() == online
    assert cli("export", "no/run", "-o", str(tmp_path / "b.csv"), *option).code == 4
