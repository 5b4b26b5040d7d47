"""docs/object-storage.md: its settings, figures and commands are those that hold."""

import json
import re
import shlex
from pathlib import Path

from tallyboard_server.eventfiles.objects import bucket, exporter, faults, keys, runobjects, storage
from tallyboard_server.objecturl import ObjectUrl, parse_logdir
from tallyboard_server.settings import Settings
from tests.s3 import S3, Faulty

PAGE = (Path(__file__).parents[2] / "docs" / "object-storage.md").read_text(encoding="utf-8")
TEXT = " ".join(PAGE.split())


def commands() -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    return [shlex.split(line, comments=True) for block in blocks for line in block.splitlines() if line]


def test_its_settings_have_the_defaults_it_says() -> None:
    rows = dict(re.findall(r"\| `TALLYBOARD_(\w+)` \| ([\d]+ \w+) \|", PAGE))
    units = {"s": 1, "MiB": 2**20}
    assert set(rows) == {"SEGMENT_INTERVAL_S", "SEGMENT_BYTES", "OBJECT_TIMEOUT_S"}
    for name, told in rows.items():
        number, unit = told.split()
        assert Settings.model_fields[name.lower()].default == float(number) * units[unit]
    assert set(re.findall(r"TALLYBOARD_(\w+)", PAGE)) <= {name.upper() for name in Settings.model_fields}


def test_its_figures_are_those_of_the_code() -> None:
    assert f"a generation of {runobjects.MANY} segments that has become twice as large" in TEXT
    assert f"one of {runobjects.TOO_MANY:,} that grew by an eighth" in TEXT
    assert runobjects.TOO_MANY_SHARE == 8
    assert (storage.QUIET_S, exporter.GRACE_S) == (600.0, 600.0)
    assert "stays for ten minutes" in TEXT
    assert "quiet for ten minutes" in TEXT
    assert (storage.LIST_INTERVAL_S, storage.LISTED_EVERY_S) == (2.0, 3600.0)
    assert f"Up to {bucket.AT_ONCE} requests are under way" in TEXT
    assert f"one per {bucket.PART_BYTES // 2**20} MiB" in TEXT
    assert faults._PAUSE_MAX_S == 10.0
    an_hour = 3600 / Settings.model_fields["segment_interval_s"].default
    assert f"{an_hour:.0f} an hour at 20 s" in TEXT
    assert f"${an_hour * 0.005 / 1000:.4f} per run and hour" in TEXT
    assert f"${an_hour * 0.005:.2f} an hour for 1,000" in TEXT


def test_names_are_written_as_it_says() -> None:
    signs = re.search(r"- (`\*`.*?) are written as `%2A`", TEXT)
    assert signs
    assert all(sign in signs[1] for sign in ("`*`", "`?`", "`[`", "`]`", "`#`", "`::`", "`%`"))
    assert keys.run_key("p/a*?[]#::%41%") == "p/a%2A%3F%5B%5D%23:%3A%2541%"


def test_its_commands_are_what_tests_run() -> None:
    serve = [command for command in commands() if command[:2] == ["tallyboard", "serve"]]
    assert serve
    for command in serve:
        assert isinstance(parse_logdir(command[command.index("--logdir") + 1]), ObjectUrl)
    for url in re.findall(r"\| `([a-z0-9]+://[^`]+)` \|", PAGE):
        assert isinstance(parse_logdir(url), ObjectUrl)
    (told,) = [part for command in commands() for part in command if part.startswith("FSSPEC_S3=")]
    used = S3("http://127.0.0.1:1", Faulty(None), None).environment
    assert json.loads(told.removeprefix("FSSPEC_S3=")) == json.loads(used["FSSPEC_S3"])
    (shown,) = [command for command in commands() if command[0] == "tensorboard"]
    assert shown[1:] == ["--logdir", "s3://bucket/prefix"]
