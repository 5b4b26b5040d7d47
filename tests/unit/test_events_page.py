"""The page on events: the limits it names are those of the protocol."""

import re
from pathlib import Path

from tallyboard.wire import limits

PAGE = Path(__file__).parents[2] / "docs" / "events.md"


def test_the_limits_are_those_of_the_protocol() -> None:
    _, _, table = PAGE.read_text(encoding="utf-8").partition("## Limits")
    rows = re.findall(r"^\| ([\d,]+(?: [KM]iB)?) \| (.+) \|$", table, re.MULTILINE)
    assert {what: number for number, what in rows} == {
        "one image, text, histogram, …": f"{limits.BLOB_BYTES_MAX // limits.MIB} MiB",
        "a tag's metadata": f"{limits.METADATA_BYTES_MAX // limits.KIB} KiB",
        "a body": f"{limits.BODY_BYTES_MAX // limits.MIB} MiB",
        "values in a body": f"{limits.ROWS_PER_BATCH_MAX:,}",
        "tags in a body of `/events`": f"{limits.SERIES_PER_EVENTS_MAX:,}",
        "blocks in a body of `/scalars`": f"{limits.BLOCKS_PER_BATCH_MAX:,}",
        "tags of a run": f"{limits.TAGS_PER_RUN_MAX:,}",
    }
