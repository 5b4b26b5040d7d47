"""The messages of the protocol as msgspec types: what a batch, a receipt and a problem look like."""

from typing import Annotated, Any, Literal

import msgspec

from tallyboard.wire import limits
from tallyboard.wire.names import DEFAULT_COUNTER

Resume = Literal["new", "continue", "must"]
Status = Literal["running", "finished", "failed"]
Level = Literal["info", "warn", "error"]
Value = float | Literal["NaN", "Infinity", "-Infinity"]
"""A scalar in JSON, which has no numbers for the non-finite ones."""
Reason = Literal[
    "step_decreased",
    "tag_repeated",
    "tag_of_other_counter",
    "tag_of_other_kind",
    "counter_taken",
    "too_many_tags",
    "too_many_counters",
]


class Message(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Base of what clients send: a misspelt field is an error, never ignored."""


class CounterSpec(Message):
    """What a run declares of a counter: `total` is the step it is expected to reach."""

    total: int | None = None


class Open(Message):
    """Create a run, or go on with one: the first part of a producer's first batch, and the body of PUT /runs.

    `uid` names this very `init`; repeating an Open with the same uid finds the same run again. `take_over` names the
    counters whose current attempt goes over from its writer to the batch's producer; absent, that is all of them,
    unless `resume` is "new".
    """

    uid: str | None = None
    resume: Resume = "continue"
    config: dict[str, Any] = {}
    group: str | None = None
    tags: tuple[str, ...] = ()
    notes: str | None = None
    counters: dict[str, CounterSpec] = {}
    provenance: dict[str, Any] = {}
    take_over: tuple[str, ...] | None = None


class Rewind(Message):
    """Go back: each counter named gets a new attempt that starts at its next step.

    `id` makes a repetition harmless.
    """

    next_steps: dict[str, int]
    reason: str = ""
    id: str | None = None


class Report(Message):
    """One report as JSON has it. Non-finite values travel as the strings NaN, Infinity and -Infinity."""

    step: int | float
    scalars: dict[str, Value]
    counter: str = DEFAULT_COUNTER
    wall_time: float | None = None
    at: dict[str, int | float] = {}


class Block(Message):
    """Reports of one counter with the same tags, as little-endian columns.

    `steps` int64[n], `wall_times` float64[n] (the server's clock if absent), `values` float64[n * k] row by
    row, `at` int64[n] for each other counter.
    """

    counter: str
    tags: tuple[str, ...]
    steps: memoryview
    values: memoryview
    wall_times: memoryview | None = None
    at: dict[str, memoryview] = {}


class EventBlock(Message):
    """Points of one tag that is no scalar: images, text, histograms, … on a counter.

    `steps` int64[n], `wall_times` float64[n] (the server's clock if absent), `at` int64[n] for each other counter,
    little-endian. `values` are n serialised Summary.Value, each with nothing but its image, histo, audio or tensor.
    `metadata` is a serialised SummaryMetadata: its plugin name is the tag's kind, else the value's form tells. The
    first metadata of a tag stays.
    """

    counter: str
    tag: str
    steps: memoryview
    values: Annotated[list[bytes], msgspec.Meta(max_length=limits.ROWS_PER_BATCH_MAX)]
    metadata: bytes = b""
    wall_times: memoryview | None = None
    at: dict[str, memoryview] = {}


class Alert(Message):
    """Something that people should see now: part of a batch, and the body of POST /alerts.

    `wall_time` is in seconds since the epoch (the server's clock if absent). `at` says where counters of the run stood;
    it is kept as it is, never checked, and moves nothing.
    """

    title: str
    text: str = ""
    level: Level = "warn"
    wall_time: float | None = None
    at: dict[str, int | float] = {}


class EventsMessage(Message):
    """A body of POST /events: serialised Event protos as TensorBoard's writers make them (in JSON: base64).

    Every tag counts on `counter`; absent, each on a counter of its own.
    """

    events: Annotated[list[bytes], msgspec.Meta(max_length=limits.ROWS_PER_BATCH_MAX)]
    counter: str | None = None
    producer: str | None = None
    seq: int | None = None
    partial: bool = False


class BatchMessage(Message):
    """A body of POST /scalars: open, rewind, blocks (and events) or reports, alerts, summary, status, in this order.

    The short form `{"step": 3, "scalars": {…}}` is one report; its fields may not be mixed with `reports`.
    """

    producer: str | None = None
    seq: int | None = None
    partial: bool = False
    open: Open | None = None
    rewind: Rewind | None = None
    blocks: list[Block] = []
    events: list[EventBlock] = []
    reports: list[Report] = []
    alerts: list[Alert] = []
    summary: dict[str, Any] = {}
    status: Status | None = None
    step: int | float | None = None
    scalars: dict[str, Value] | None = None
    counter: str | None = None
    wall_time: float | None = None
    at: dict[str, int | float] = {}


class Refusal(msgspec.Struct, frozen=True):
    """One report that was not stored: where it stood in the request, and what to do about it."""

    block: int
    row: int
    counter: str
    step: int
    last_step: int | None
    tags: list[str]
    reason: Reason
    detail: str


class CounterValue(msgspec.Struct, frozen=True):
    """A counter's largest visible step (None before the first) and the number of its current attempt."""

    last_step: int | None
    attempt: int


class Receipt(msgspec.Struct, kw_only=True):
    """The answer to a batch. `accepted` and `refused_count` count reports, `stored` and `repeated` scalars.

    `counters` holds the counters that the batch touched; after an open or a rewind, all of the run's. Counters of
    single tags (`tag:…`) are left out.
    """

    run: str
    accepted: int = 0
    stored: int = 0
    repeated: int = 0
    refused_count: int = 0
    refused: list[Refusal] = []
    counters: dict[str, CounterValue] = {}
    not_rewound: dict[str, CounterValue] = {}
    replayed: bool = False
    warnings: list[str] = []


class Problem(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An error as application/problem+json (RFC 9457): `code` is stable, `detail` says what to do.

    position: of the character in `field` where what is wrong begins, from 1.
    """

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    field: str | None = None
    position: int | None = None
    refused: list[Refusal] = []
    refused_count: int = 0
    expected_seq: int | None = None
    request_id: str | None = None
