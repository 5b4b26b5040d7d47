"""Finding runs: filters, and pages that each look at a bounded number of runs."""

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from tallyboard.wire.limits import MIB
from tallyboard_server.api.messages import RunPage, ShownStatus
from tallyboard_server.api.problems import InvalidQueryError
from tallyboard_server.api.views import Liveness, run_row
from tallyboard_server.model import RunState
from tallyboard_server.store.protocol import Store

LIMIT_MAX: Final = 500
"""Most runs in a page."""
SCANNED_MAX: Final = 2_000
"""Runs looked at for one page; a filter that few runs pass takes several pages."""
PAGE_BYTES_MAX: Final = 8 * MIB
_SLICE: Final = 50
"""Runs read in one snapshot, which keeps it far below 250 ms."""


@dataclass(slots=True, frozen=True)
class RunFilter:
    """What a run must be like; None and () ask for nothing."""

    project: str | None = None
    status: ShownStatus | None = None
    text: str | None = None
    group: str | None = None
    archived: bool | None = None
    config: tuple[tuple[str, str], ...] = ()

    def admits(self, state: RunState, status: ShownStatus) -> bool:
        """Whether the run, shown with that status, is wanted (its project is the caller's to check, by the name)."""
        meta = state.meta
        if self.status is not None and status != self.status:
            return False
        if self.group is not None and meta.group != self.group:
            return False
        if self.archived is not None and meta.archived != self.archived:
            return False
        if self.text is not None:
            text = self.text.casefold()
            if not any(text in (part or "").casefold() for part in (state.name, meta.display_name, meta.notes)):
                return False
        return all(_says(meta.config, key, wanted) for key, wanted in self.config)


def find_runs(
    store: Store,
    wanted: RunFilter,
    liveness: Callable[[RunState], Liveness],
    *,
    encode: Callable[[Any], bytes],
    limit: int,
    cursor: str | None,
) -> RunPage:
    """One page of the runs that pass the filter.

    `liveness` tells whether a run is heard of; `encode` makes each row as the whole answer will be encoded.
    """
    after = "" if cursor is None else _opened(cursor)
    prefix = "" if wanted.project is None else f"{wanted.project}/"
    rows: list[msgspec.Raw] = []
    size = 0
    for _ in range(SCANNED_MAX // _SLICE):
        with store.snapshot() as view:
            names = view.run_names(prefix=prefix, after=after, limit=_SLICE)
            found = [(name, view.load(name)) for name in names]
        for name, state in found:
            after = name
            if state is None or not wanted.admits(state, (seen := liveness(state)).status):
                continue
            row = encode(run_row(state, seen))
            rows.append(msgspec.Raw(row))
            size += len(row)
            if len(rows) >= limit or size >= PAGE_BYTES_MAX:
                return RunPage(runs=rows, cursor=_sealed(after))
        if len(names) < _SLICE:
            return RunPage(runs=rows, cursor=None)
    return RunPage(runs=rows, cursor=_sealed(after))


def _says(config: Mapping[str, Any], key: str, wanted: str) -> bool:
    """Whether config has the value at a key, or at a dotted path, as JSON or as text."""
    value = config[key] if key in config else _at_path(config, key.split("."))
    if value is msgspec.UNSET:
        return False
    return value == wanted if isinstance(value, str) else _same_json(value, wanted)


def _at_path(document: Any, path: list[str]) -> Any:
    for part in path:
        if not isinstance(document, Mapping) or part not in document:
            return msgspec.UNSET
        document = document[part]
    return document


def _same_json(value: Any, text: str) -> bool:
    try:
        wanted = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    return isinstance(value, bool) == isinstance(wanted, bool) and bool(value == wanted)


def _sealed(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode().rstrip("=")


def _opened(cursor: str) -> str:
    try:
        return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError, ValueError) as error:
        raise InvalidQueryError("not a cursor of this API; leave it out to start over", field="cursor") from error
