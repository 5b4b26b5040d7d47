"""Cursors of chart answers: what a reader has seen, sealed for `since`."""

import base64
import binascii
import hashlib
import zlib
from collections.abc import Mapping
from typing import Annotated, Final

import msgspec

from tallyboard_server.api.problems import InvalidQueryError
from tallyboard_server.series.since import Seen, SeenLine

CHARACTERS_MAX: Final = 2_000_000
_BYTES_MAX: Final = 16_000_000
_VERSION: Final = 1

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Step = Annotated[int, msgspec.Meta(ge=-1, le=2**63 - 1)]


class _Run(msgspec.Struct, array_like=True):
    """What was seen of a run: columns of lines, which compress well."""

    name: str
    run_id: _Count
    epoch: _Count
    pos: _Count
    tags: list[_Count]
    counters: list[_Count]
    attempts: list[_Count]
    steps: list[_Step]
    by_time: list[bool]
    versions: list[_Count]


class _Sealed(msgspec.Struct, array_like=True):
    version: int
    question: bytes
    runs: list[_Run]


def digest(*parts: object) -> bytes:
    """A short sum over anything that has a repr."""
    return hashlib.blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=12).digest()


def sealed(question: bytes, seen: Mapping[str, Seen]) -> str:
    """A cursor; question: digest of what was asked, seen: by run."""
    runs = []
    for name, run in seen.items():
        keys, lines = list(run.lines), list(run.lines.values())
        runs.append(
            _Run(
                name, run.run_id, run.epoch, run.pos,
                [key[0] for key in keys], [key[1] for key in keys], [key[2] for key in keys],
                [line.last_step for line in lines], [line.by_time for line in lines], [line.version for line in lines],
            )
        )  # fmt: skip
    data = zlib.compress(msgspec.msgpack.encode(_Sealed(_VERSION, question, runs)), 1)
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def opened(cursor: str, question: bytes) -> dict[str, Seen]:
    """What was seen, by run. Raises InvalidQueryError for what is no cursor of an answer to this question."""
    try:
        found = msgspec.msgpack.decode(_unpacked(cursor), type=_Sealed)
        seen = {run.name: _seen(run) for run in found.runs}
    except (binascii.Error, zlib.error, ValueError, msgspec.DecodeError) as error:
        raise InvalidQueryError("not a cursor of this API; leave it out to get everything", field="since") from error
    if found.version != _VERSION or found.question != question:
        raise InvalidQueryError(
            "this cursor belongs to another question: repeat the one whose answer it came with, with all its "
            "parameters; or leave it out to get everything",
            field="since",
        )
    return seen


def _seen(run: _Run) -> Seen:
    """Raises ValueError for columns of different lengths: whoever changed a cursor may have done anything to it."""
    lines = zip(run.tags, run.counters, run.attempts, run.steps, run.by_time, run.versions, strict=True)
    return Seen(
        run.run_id, run.epoch, run.pos,
        {
            (tag, counter, attempt): SeenLine(step, by_time, version)
            for tag, counter, attempt, step, by_time, version in lines
        },
    )  # fmt: skip


def _unpacked(cursor: str) -> bytes:
    if len(cursor) > CHARACTERS_MAX:
        raise ValueError("too long")
    data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    unpacking = zlib.decompressobj()
    unpacked = unpacking.decompress(data, _BYTES_MAX)
    if not unpacking.eof or unpacking.unused_data:
        raise ValueError("cut, too large, or more than a cursor")
    return unpacked
