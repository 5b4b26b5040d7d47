"""What the API answers and takes besides the wire's batches and receipts, as msgspec types."""

from typing import Any, Literal

import msgspec

from tallyboard.wire import CounterValue, Level, Message, Problem, Refusal, Status
from tallyboard_server.api.watchmessages import IncidentItem
from tallyboard_server.retention import Outcome
from tallyboard_server.verify.report import RunReport

ShownStatus = Literal["running", "finished", "failed", "lost"]
"""A run's status as it is shown: `lost` is a running one whose producers have fallen silent; it is never sent."""


class AttemptView(msgspec.Struct, kw_only=True):
    """One writer's stretch of a counter.

    start: the least step it may hold. last_step: the largest accepted, last_visible: the largest that no later
    attempt hides (both null before the first). limit: the step at and after which later attempts hide it; null:
    none does. unmoved: reports in a row, up to the newest, that came at last_step and brought nothing new. host, pid,
    user, began_at, last_seen: of its writer, as far as known; began_at by its own clock, last_seen by the service's
    (seconds since the epoch).
    """

    number: int
    writer: str
    start: int
    last_step: int | None
    last_visible: int | None
    limit: int | None
    reports: int
    scalars: int
    unmoved: int
    host: str | None = None
    pid: int | None = None
    user: str | None = None
    began_at: float | None = None
    last_seen: float | None = None


class CounterView(msgspec.Struct, kw_only=True):
    """A step counter: its value (largest visible step; null: none yet), attempts oldest first, and visible tags.

    stalled: reports keep coming at one step and bring nothing new, 10 of them or more in a row; most likely nobody
    increments it.
    """

    last_step: int | None
    attempt: int
    total: int | None
    attempts: list[AttemptView]
    tags: list[str]
    stalled: bool


class CounterBrief(msgspec.Struct, kw_only=True):
    """A step counter in a list of runs; stalled as in a CounterView."""

    last_step: int | None
    attempt: int
    total: int | None
    stalled: bool


class Health(msgspec.Struct, kw_only=True):
    """How a run does: whether anything is heard of it, by the server's clock, and what people should look at.

    last_seen: newest report, heartbeat or change (seconds since the epoch); silent_s: how long ago that was, null
    unless the run is running or lost. refused_kept, alerts_kept: how many refused reports GET /refused lists, and
    alerts GET /alerts (both bounded); refused_at, alerted_at: when the newest of them came. stalled: the counters that
    are stalled, unless the run has ended. incidents: what watchdogs found, and is not over yet, newest first.
    """

    last_seen: float
    silent_s: float | None
    refused_kept: int
    refused_at: float | None
    alerts_kept: int
    alerted_at: float | None
    stalled: list[str]
    incidents: list[IncidentItem]


class RunView(msgspec.Struct, kw_only=True):
    """A run, whole. Times are seconds since the epoch. `warnings`: what a PUT could not take over.

    tag_counters: the visible tags that each count on a counter of their own (`tag:<tag>`), which `counters` leaves out.
    kinds: what the visible tags are that are no scalars: images, text, histograms, … (TensorBoard's plugin name).
    """

    run: str
    status: ShownStatus
    display_name: str | None
    group: str | None
    tags: tuple[str, ...]
    notes: str | None
    archived: bool
    created_at: float
    updated_at: float
    config: dict[str, Any]
    summary: dict[str, Any]
    provenance: dict[str, Any]
    counters: dict[str, CounterView]
    tag_counters: dict[str, CounterValue]
    kinds: dict[str, str]
    health: Health
    warnings: list[str] = []


class RunRow(msgspec.Struct, kw_only=True):
    """A run in a list."""

    run: str
    status: ShownStatus
    display_name: str | None
    group: str | None
    tags: tuple[str, ...]
    archived: bool
    created_at: float
    updated_at: float
    last_seen: float
    config: dict[str, Any]
    summary: dict[str, Any]
    counters: dict[str, CounterBrief]


class RunPage(msgspec.Struct, kw_only=True):
    """Runs in the order of their names, or in the one asked for. `cursor` asks for what follows; null: that was all.

    A page may hold fewer runs than asked for, even none, and still have a cursor: each page searches a bounded
    number of runs.
    """

    runs: list[msgspec.Raw]
    cursor: str | None


class RunTablePage(msgspec.Struct, kw_only=True):
    """What GET /runs answers if columns are named: a row per run, with a value for each column.

    columns: as they were named. Values are JSON, null where there is none; NaN, Infinity and -Infinity are texts.
    Order and `cursor` are as in a RunPage.
    """

    columns: list[str]
    rows: list[msgspec.Raw]
    cursor: str | None


class RunPatch(Message):
    """A body of PATCH /runs: what is absent stays; config and summary are merged (RFC 7396: null removes a key)."""

    status: Status | msgspec.UnsetType = msgspec.UNSET
    display_name: str | msgspec.UnsetType | None = msgspec.UNSET
    group: str | msgspec.UnsetType | None = msgspec.UNSET
    notes: str | msgspec.UnsetType | None = msgspec.UNSET
    tags: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    archived: bool | msgspec.UnsetType = msgspec.UNSET
    config: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    summary: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class RewindBody(Message):
    """A body of POST /rewind. `producer`: who writes from there on; absent: whoever reports without one."""

    next_steps: dict[str, int]
    reason: str = ""
    id: str | None = None
    producer: str | None = None


class HeartbeatBody(Message):
    """A body of POST /heartbeat."""

    producer: str | None = None


class HeartbeatAnswer(msgspec.Struct, kw_only=True):
    """When the run was heard of, by the server's clock (seconds since the epoch)."""

    run: str
    last_seen: float


class RefusedItem(msgspec.Struct, kw_only=True):
    """A refused report: when, whose, and why."""

    at: float
    producer: str
    refusal: Refusal


class RefusedPage(msgspec.Struct, kw_only=True):
    """The newest refused reports of a run, newest first."""

    run: str
    refused: list[RefusedItem]


class AlertItem(msgspec.Struct, kw_only=True):
    """An alert.

    wall_time: when it was raised, as told; received_at: when it came, by the service's clock (seconds since the epoch).
    at: where the run's counters stood, as far as told.
    """

    title: str
    text: str
    level: Level
    wall_time: float
    at: dict[str, int]
    producer: str
    received_at: float


class AlertsPage(msgspec.Struct, kw_only=True):
    """The newest alerts of a run, newest first."""

    run: str
    alerts: list[AlertItem]


class AuditItem(msgspec.Struct, kw_only=True):
    """One thing that was done. at: seconds since the epoch. actor: who did it, for people to read.

    token: the id of the token that was given, null without one. address: where it was asked from, "" if nowhere.
    run: what it was done to, null for the service itself. detail: what more there is to say; by action.
    """

    id: int
    at: float
    actor: str
    token: str | None
    address: str
    action: str
    run: str | None
    detail: dict[str, Any]


class AuditPage(msgspec.Struct, kw_only=True):
    """Entries of the audit, newest first; before: what to ask with for those before them, null if there are none."""

    entries: list[AuditItem]
    before: int | None


class RepairBody(Message):
    """A body of POST /repair. `reason` goes into the log."""

    reason: str = ""


class RepairAnswer(msgspec.Struct, kw_only=True):
    """The run's event file, null if nothing is visible; done: it is the new one."""

    run: str
    event_file: str | None
    done: bool


class VerifyLine(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A line of GET /verify: how far it has come; the last one has the report, or why there is none."""

    scalars_read: int = 0
    report: RunReport | None = None
    problem: Problem | None = None


class PruneBody(Message, kw_only=True):
    """What is to go of a run (POST /prune). Nothing does unless dry_run is false.

    older_than_s: nothing, if anything was heard of the run in so many seconds. superseded: points that rewinds hid.
    thin: of each tag with more visible points than this about so many stay. whole: the run itself.
    """

    dry_run: bool = True
    older_than_s: float = 0.0
    superseded: bool = False
    thin: int | None = None
    whole: bool = False


class PruneLine(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A line of POST /prune: how far it has come; the last one has the outcome, or what went wrong."""

    scalars_read: int = 0
    outcome: Outcome | None = None
    problem: Problem | None = None


class Readiness(msgspec.Struct, kw_only=True):
    """Whether the service can take reports and show them; `reasons` says why not.

    warnings: what is amiss with single runs' event files (bounded), and does not keep the service from its work.
    """

    ready: bool
    reasons: list[str]
    checks: dict[str, Any]
    warnings: list[str] = []
