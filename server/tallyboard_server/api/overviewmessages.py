"""What pages ask besides runs and charts: tags and columns of many runs, and the service itself, as msgspec types."""

import msgspec

from tallyboard.wire import Message
from tallyboard_server.principal import Scope


class TagsBody(Message):
    """A body of POST /tags: runs by name or pattern, and how many tags to list at most."""

    runs: tuple[str, ...]
    limit: int = 1_000


class TagRow(msgspec.Struct, kw_only=True):
    """A scalar tag: how many runs have visible points of it, and on which counter, in how many of them.

    `tag:<tag>` is a counter of the tag's own, as a SummaryWriter's tags have them.
    """

    tag: str
    runs: int
    counters: dict[str, int]


class KindRow(msgspec.Struct, kw_only=True):
    """Tags of one kind that is no scalar (TensorBoard's plugin name). runs: that have the most frequent of them."""

    kind: str
    tags: list[str]
    runs: int


class TagsAnswer(msgspec.Struct, kw_only=True):
    """The visible tags of some runs, in order. runs: how many there are; missing: names and patterns of none.

    truncated: there are more; those that most runs have are listed.
    """

    runs: int
    tags: list[TagRow]
    kinds: list[KindRow]
    missing: list[str]
    truncated: bool


class KeyColumn(msgspec.Struct, kw_only=True):
    """A key of the runs' config or summary. column: as it is written in columns, filters and orders.

    runs: how many have it. sorts: `number`, `text`, `bool`, `list` or `object`, and in how many runs the value is one.
    distinct: how many different values (of a text the first 200 characters count); null if they are more than 1,000, or
    some are lists or objects. values: those values in order, if they are at most 20. least, greatest: of the finite
    numbers.
    """

    column: str
    runs: int
    sorts: dict[str, int]
    distinct: int | None
    values: list[float | int | str | bool]
    least: float | int | None
    greatest: float | int | None


class TagColumn(msgspec.Struct, kw_only=True):
    """A scalar tag. column: its last value; any other figure (min, max, …) may stand in the place of `last`."""

    column: str
    tag: str
    runs: int


class CounterColumn(msgspec.Struct, kw_only=True):
    """A counter; totals: of how many runs it is known how far it is to go. `totals` and `rates` may stand for
    `counters` in the column."""

    column: str
    counter: str
    runs: int
    totals: int


class ColumnsAnswer(msgspec.Struct, kw_only=True):
    """What a table of some runs can show. truncated: there is more; what most runs have is listed, or not all runs
    were looked at."""

    runs: int
    config: list[KeyColumn]
    summary: list[KeyColumn]
    tags: list[TagColumn]
    counters: list[CounterColumn]
    truncated: bool


class AccessView(msgspec.Struct, kw_only=True):
    """Who asks, by their token. project: the one whose runs they reach; null: all."""

    name: str
    scope: Scope
    project: str | None


class ServiceAnswer(msgspec.Struct, kw_only=True):
    """What a page has to know of the service. boot: another after each start. now: its clock, in seconds since the
    epoch.

    tensorboard: whether it is shown below tensorboard/. protected: whether a token is needed. access: who asks.
    logdir: of the event files, on the service's machine; null for who does not reach all projects. lost_after_s:
    silence after which a running run is shown as lost.
    """

    version: str
    boot: str
    now: float
    tensorboard: bool
    protected: bool
    access: AccessView
    logdir: str | None
    lost_after_s: float
