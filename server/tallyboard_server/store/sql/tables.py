"""The tables that both engines have: their columns in order, and which of them are the key."""

from dataclasses import dataclass
from typing import Final, Literal

Row = tuple[object, ...]
Kind = Literal["int", "float", "text", "bytes"]


@dataclass(slots=True, frozen=True)
class Table:
    """Its columns by name, with what they hold; the first key_length of them are its primary key.

    added: rows are only ever inserted under a new key (or deleted), never replaced: meeting a key again is an error.
    of_run: which column holds the id of the run that a row belongs to; None: it belongs to none, or not by an id.
    """

    name: str
    columns: dict[str, Kind]
    key_length: int
    added: bool = False
    of_run: str | None = "run_id"

    @property
    def key(self) -> tuple[str, ...]:
        """The columns of the primary key."""
        return tuple(self.columns)[: self.key_length]


_KINDS: Final[dict[str, Kind]] = {"i": "int", "f": "float", "t": "text", "b": "bytes"}


def _table(name: str, key_length: int, columns: str, *, added: bool = False, of_run: str | None = "run_id") -> Table:
    """`columns`: "name:kind name:kind …"."""
    parts = (column.split(":") for column in columns.split())
    return Table(name, {column: _KINDS[kind] for column, kind in parts}, key_length, added, of_run)


_ALL: Final = (
    _table(
        "runs",
        1,
        "id:i name:t uid:t created_at:f status:t run_group:t display_name:t notes:t tags:t config:t summary:t "
        "provenance:t rewinds:t archived:i",
        of_run="id",
    ),
    _table("heads", 1, "run_id:i pos:i epoch:i version:i updated_at:f"),
    _table("counters", 2, "run_id:i id:i name:t total:i"),
    _table(
        "attempts",
        3,
        "run_id:i counter_id:i number:i writer:t start:i last_step:i last_visible:i reports:i scalars:i tail_tags:b "
        "tail_values:b checksum:i pruned_scalars:i pruned_checksum:i unmoved:i",
    ),
    _table("tags", 2, "run_id:i id:i name:t counter_id:i first_step:i attempts_then:i kind:t metadata:b"),
    _table("producers", 2, "run_id:i name:t seq:i last_seen:f checksums:b receipt:b origin:t"),
    _table("refused", 2, "run_id:i id:i at:f producer:t refusal:t", added=True),
    _table("alerts", 2, "run_id:i id:i at:f producer:t alert:t", added=True),
    _table(
        "journal",
        1,
        "id:i counter_id:i attempt:i batch:i n:i first_step:i last_step:i tag_ids:b at_counters:b data:b",
        added=True,
        of_run=None,
    ),
    _table(
        "axes",
        4,
        "run_id:i counter_id:i attempt:i id:i batch:i n:i first_step:i last_step:i at_counters:b tag_ids:b steps:b "
        "wall_times:b at_values:b",
        added=True,
    ),
    _table("value_columns", 5, "run_id:i tag_id:i counter_id:i attempt:i axis_id:i vals:b", added=True),
    _table(
        "groups",
        4,
        "run_id:i counter_id:i attempt:i batch:i version:i n:i bytes:i first_step:i last_step:i grown:i",
        added=True,
    ),
    _table(
        "envelopes",
        6,
        "run_id:i tag_id:i counter_id:i attempt:i first_step:i axis_id:i n:i cell:b at_cells:b",
        added=True,
    ),
    _table("value_cells", 5, "run_id:i tag_id:i counter_id:i attempt:i axis_id:i cells:b", added=True),
    _table("axis_cells", 4, "run_id:i counter_id:i attempt:i axis_id:i cells:b", added=True),
    _table("blobs", 2, "run_id:i key:i hash:b data:b", added=True),
    _table(
        "generations",
        2,
        "run_id:i number:i file_name:t seconds:i encoder:i epoch:i first_pos:i exported_pos:i length:i state:t "
        "changed_at:f",
    ),
    _table("segments", 3, "run_id:i generation:i number:i first_pos:i last_pos:i nbytes:i published:i changed_at:f"),
    _table("heartbeats", 1, "run_id:i heard_at:f"),
    _table("listening", 1, "only_row:i until:f since:f before:f", of_run=None),
    _table("tombstones", 1, "name:t deleted_at:f", of_run=None),
    _table("deleted_runs", 1, "run_id:i name:t purged:i"),
    _table("identity", 1, "id:t", of_run=None),
    _table(
        "tokens",
        1,
        "id:t name:t scope:t project:t hash:b created_at:f created_by:t expires_at:f revoked_at:f last_used_at:f "
        "rate:f",
        of_run=None,
    ),
    _table("sessions", 1, "hash:b token:t until:f", of_run=None),
    _table("login_codes", 1, "hash:b token:t until:f", of_run=None),
    _table("audit", 1, "id:i at:f actor:t token:t address:t action:t run:t detail:t", added=True, of_run=None),
    _table("incidents", 3, "run_id:i kind:t subject:t opened_at:f level:t title:t text:t told:i times:i"),
    _table("watch_rules", 1, "project:t rules:t", of_run=None),
    _table("notices", 1, "id:i run:t title:t first_at:f at:f times:i producer:t alert:t", of_run=None),
    _table("deliveries", 1, "id:t project:t notices:t created_at:f tries:i next_at:f", of_run=None),
)

TABLES: Final = {table.name: table for table in _ALL}
