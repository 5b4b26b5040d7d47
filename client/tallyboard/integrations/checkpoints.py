"""What a checkpoint holds of a run, and what came after it: frameworks save in the middle of a step.

A checkpoint is often saved before the evaluation at its own step, or before an epoch's figures, and whoever resumes
from it does neither again. So where the counters stood when that step was over is noted in a file beside the
checkpoints: a resumed job goes back to there, not to the moment of saving, which would leave holes.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

FILE: Final = "tallyboard.json"
NOTES_MAX: Final = 16
"""Checkpoints whose end of step is remembered; one that is older is resumed from the moment of its saving."""
_BYTES_MAX: Final = 64 * 2**20


class Saved(msgspec.Struct, frozen=True):
    """Where a training stood. Plain JSON in checkpoints (see `as_plain`).

    id: no two are alike. run: its name, as settled on; asked: as asked for (None: nobody did). counters: what
    `Run.state_dict` says. offsets: of counters, what is added to the framework's own count. homes: tag → counter.
    """

    id: str
    run: str
    asked: str | None
    counters: dict[str, dict[str, int | bool]]
    offsets: dict[str, int]
    homes: dict[str, str]


def as_plain(saved: Saved) -> dict[str, Any]:
    """As any checkpoint can hold it: dictionaries, strings and numbers."""
    plain: dict[str, Any] = msgspec.to_builtins(saved)
    return plain


def from_plain(plain: object) -> Saved | None:
    """What a checkpoint held; None if it is nothing of the kind."""
    try:
        return msgspec.convert(plain, Saved)
    except msgspec.ValidationError:
        return None


def note(folder: Path, checkpoints: Iterable[Saved], now: Saved) -> None:
    """Note that the step of these checkpoints went on until now. Raises OSError."""
    path = folder / FILE
    notes = _read(path) | {saved.id: now for saved in checkpoints}
    kept = dict(list(notes.items())[-NOTES_MAX:])
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    draft.write_bytes(msgspec.json.encode(kept))
    draft.replace(path)


def noted(folder: Path | None, saved: Saved) -> Saved:
    """Where the step of a checkpoint ended, as far as anybody noted."""
    return saved if folder is None else _read(folder / FILE).get(saved.id, saved)


def _read(path: Path) -> dict[str, Saved]:
    try:
        if path.stat().st_size > _BYTES_MAX:
            return {}
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Saved])
    except (OSError, msgspec.DecodeError):  # none there yet, or nothing of ours
        return {}
