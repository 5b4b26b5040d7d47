"""`tallyboard.init`: from arguments and environment to a run that reports."""

import os
import random
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, get_args

from tallyboard import lifecycle, naming
from tallyboard.collect.recorder import Recorder
from tallyboard.collect.reports import shown
from tallyboard.collect.routing import Router
from tallyboard.collect.sections import Sections
from tallyboard.collect.stats import Tally
from tallyboard.delivery.alarm import Alarm
from tallyboard.delivery.courier import Courier
from tallyboard.delivery.dispatch import Dispatcher
from tallyboard.delivery.forerunners import find
from tallyboard.delivery.replies import Replies
from tallyboard.delivery.sender import Sender
from tallyboard.delivery.transmit import Transmitter
from tallyboard.delivery.transport import USER_AGENT, HttpTransport, Transport
from tallyboard.documents import as_document
from tallyboard.errors import ConfigurationError, ContractError
from tallyboard.notices import Notices, prepare
from tallyboard.outbox import locks
from tallyboard.outbox.spool import Place, Spool
from tallyboard.outbox.stream import Stream, new_id
from tallyboard.parameters import at_least, choice, text
from tallyboard.provenance import provenance
from tallyboard.run import Run, checked_next_steps
from tallyboard.settings import Mode, Ranks, Settings, read_settings
from tallyboard.system import gpus
from tallyboard.system.proc import Figures, Machine, Process, Source, Traffic
from tallyboard.system.sampler import Sampler
from tallyboard.version import __version__
from tallyboard.wire import InvalidBatchError, Open, Resume, check_open, names

OPEN_TIMEOUT_S: Final = 5.0
"""How long `init` waits for the service's first answer; after that the run goes on in the background."""


def init(
    name: str | None = None,
    *,
    project: str | None = None,
    config: Any = None,
    group: str | None = None,
    tags: Iterable[str] = (),
    notes: str | None = None,
    resume: Resume = "new",
    next_steps: Mapping[str, int] | None = None,
    counters: Mapping[str, str] | None = None,
    mode: Mode | None = None,
    ranks: Ranks = "zero",
    strict: bool = False,
    url: str | None = None,
    token: str | None = None,
    ca_file: str | os.PathLike[str] | None = None,
    spool_dir: str | os.PathLike[str] | None = None,
    exit_timeout_s: float = 10.0,
    system_metrics: bool | float | None = None,
) -> Run:
    """Start a run, and finish the one before it in this process.

    name, project: the run is `project/name`; a readable name is made up if none is given. An existing one gets a
    number with resume="new" (`try1-2`), is continued with "continue", and has to exist with "must".
    next_steps: resume and rewind in one: `{"global_step": 1000}` says that step 1000 comes next.
    counters: which tags are reported against which counter, `{"val/*": "epoch"}`; the others against `global_step`.
    The counter `tag:*` gives each tag one of its own.
    config: a mapping, argparse.Namespace or dataclass. group, tags, notes: for finding and comparing runs.
    mode: "online"; "offline" to keep everything on this machine for `tallyboard sync`; "disabled" to report nothing.
    ranks: with the environment's RANK, "zero" lets rank 0 alone report, "all" gives each its own run (`name/rank07`).
    strict: raise what the step contract refuses.
    url, token: the service (TALLYBOARD_URL, TALLYBOARD_TOKEN; else http://127.0.0.1:6007). TALLYBOARD_RUN,
    TALLYBOARD_MODE and TALLYBOARD_STRICT stand in for name, mode and strict. ca_file: the authorities, in PEM, that
    vouch for an https service (TALLYBOARD_CA_FILE; else those of the system). spool_dir: where reports are kept that
    can't be sent (TALLYBOARD_SPOOL_DIR; else ~/.local/state/tallyboard/spool). exit_timeout_s bounds `finish`.
    system_metrics: False, or TALLYBOARD_SYSTEM_METRICS=0, to leave out what the machine does (CPU, memory, disk,
    network, GPUs: tags `system/…` on the counter `system`); or seconds between two samples, at least 1, instead of 15.

    A run that is continued without next_steps goes on where the server says its counters stand, so `increment` is
    right for a job that goes on from exactly there. A job that restores a checkpoint says so: by next_steps,
    `run.load_state_dict`, or `counter.set`. If the server turns out to be ahead of the checkpoint, or has not yet said
    where it stands, `increment` warns with the way out (behind the server it raises in a strict run), and no point is
    stored under a step that is another's: the server refuses what lies behind it, and a job that counted from 0 while
    the server was away is not sent at all (`tallyboard sync --as-new` gives it a run of its own).

    Raises ConfigurationError (a ValueError) for what can't be had, RunNotFoundError with resume="must". A service
    that is away raises nothing: the run goes on, and reports when it is back.
    """
    settings = read_settings(
        os.environ, url=url, token=token, ca_file=ca_file, strict=strict, mode=mode, spool_dir=spool_dir,
        system_metrics=system_metrics,
    )  # fmt: skip
    wish = Wish(
        name=_name(settings, name, project, ranks),
        opening=_opening(resume, group, tags, notes),
        config=_document(config),
        next_steps={} if next_steps is None else checked_next_steps(next_steps),
        router=Router(counters),
        exit_timeout_s=at_least(0.0, "exit_timeout_s", exit_timeout_s),
        system_every_s=settings.system_every_s,
    )
    lifecycle.finish_active()
    run = begin(settings, wish)
    lifecycle.activate(run)
    return run


@dataclass(slots=True, frozen=True)
class Wish:
    """What is asked of a run, checked. name: None if it reports nothing (of a rank other than 0).

    own_next_steps: where counters of single tags go on. open_timeout_s: how long the first answer is awaited.
    system_every_s: how often the machine's load is sampled, if it is.
    """

    name: str | None
    opening: Open
    config: dict[str, Any]
    next_steps: dict[str, int]
    router: Router
    exit_timeout_s: float
    own_next_steps: Mapping[str, int] = field(default_factory=dict)
    open_timeout_s: float = OPEN_TIMEOUT_S
    system_every_s: float | None = None


def init_beside(
    name: str | None,
    otherwise: str,
    *,
    config: Any = None,
    resume: Resume,
    next_steps: Mapping[str, int],
    own_next_steps: Mapping[str, int],
    counters: Mapping[str, str],
    mode: Mode | None,
    ranks: Ranks,
    strict: bool,
    url: str | None,
    token: str | None,
    spool_dir: str | os.PathLike[str] | None,
    exit_timeout_s: float,
    open_timeout_s: float = OPEN_TIMEOUT_S,
) -> Run:
    """Start a run beside the process's own, as each SummaryWriter does; `init` says what the parameters mean.

    otherwise: its name, if neither `name` nor TALLYBOARD_RUN says one.
    """
    settings = read_settings(os.environ, url=url, token=token, strict=strict, mode=mode, spool_dir=spool_dir)
    wish = Wish(
        name=_name(settings, name if name or settings.run else otherwise, None, ranks),
        opening=_opening(resume, None, (), None),
        config=_document(config),
        next_steps=checked_next_steps(next_steps) if next_steps else {},
        router=Router(counters),
        exit_timeout_s=at_least(0.0, "exit_timeout_s", exit_timeout_s),
        own_next_steps=own_next_steps,
        open_timeout_s=open_timeout_s,
    )
    run = begin(settings, wish)
    lifecycle.accompany(run)
    return run


def begin(settings: Settings, wish: Wish) -> Run:
    """A run as wished for. Raises RunNotFoundError with resume="must"."""
    prepare()
    if wish.name is not None and settings.mode != "disabled":
        transport = HttpTransport(settings.url, settings.token, USER_AGENT, ca_file=settings.ca_file)
        return _connect(settings, transport, wish, wish.name)
    if wish.name is None:
        Notices().say(f"rank {settings.rank} reports nothing; ranks='all' would give it a run of its own")
    run = _disabled(settings, wish)
    run.config.update(wish.config)
    if wish.next_steps:
        run.rewind(wish.next_steps)
    return run


def _connect(settings: Settings, transport: Transport, wish: Wish, name: str) -> Run:
    """A run on a way to the service: opened, its thread started, its first answer awaited (bounded)."""
    opening = wish.opening
    notices, tally, alarm = Notices(), Tally(), Alarm()
    uid = opening.uid = new_id()
    if opening.resume != "new":
        opening.take_over = ()  # each counter when it first reports, unless it is rewound: see Recorder
    recorder = Recorder(
        Sections(tally, alarm.ring),
        router=wish.router,
        strict=settings.strict,
        clock=time.time,
        notices=notices,
        tally=tally,
        resumed=opening.resume != "new",
    )
    recorder.begin_at(wish.own_next_steps)
    recorder.open(opening)
    stream = Stream(
        uid=uid,
        asked=name,
        run=name,
        url=settings.url if settings.url_given else None,
        opening=opening,
        began_at=opening.provenance["began_at"],
        producer=uid,
    )
    sender = _sender(settings, transport, stream, recorder, notices, tally, alarm)
    online = settings.mode == "online"
    url = settings.url if online else ""
    run = Run(
        recorder, sender, notices, tally, name=name, server_url=url, exit_timeout_s=wish.exit_timeout_s,
        quiet=not settings.leads,
    )  # fmt: skip
    run.config.update(wish.config)
    if wish.next_steps:
        recorder.rewind(wish.next_steps, "resumed", {})
    sender.start(wish.open_timeout_s)
    if opening.resume == "must" and (missing := sender.not_found()) is not None:
        run.abandon()
        sender.discard()
        raise missing
    notices.say(f"run {run.name} · {run.url}" if online else f"run {run.name} is offline: kept in {settings.spool_dir}")
    if wish.system_every_s is not None:
        _sample(run, notices, partial(recorder.is_placed, names.SYSTEM_COUNTER), wish.system_every_s)
    return run


def _sample(run: Run, notices: Notices, ready: Callable[[], bool], every_s: float) -> None:
    """Have a thread report what the machine does, until the run ends.

    ready: whether it is known where the run's counters stand.
    """
    recorder = run.recorder

    def report(figures: Figures) -> None:
        try:
            recorder.log(figures, None, names.SYSTEM_COUNTER, None, None)
        except ContractError as error:  # of the training, which this call of ours was the first to hear of
            recorder.fail(error)

    sources: list[Source] = [Machine(), Process(), Traffic(), *gpus.find()]
    sampler = Sampler(sources, ready, report, notices, interval_s=every_s)
    run.when_ending(sampler.end)
    sampler.start()


def _sender(
    settings: Settings,
    transport: Transport,
    stream: Stream,
    recorder: Recorder,
    notices: Notices,
    tally: Tally,
    alarm: Alarm,
) -> Sender:
    """All that lies behind the recorder, put together."""
    online, resumed = settings.mode == "online", stream.opening.resume != "new"
    place = Place(settings.spool_dir, settings.spool, settings.spool_bytes_max, sends=online)
    spool = Spool(stream, place, notices, time.monotonic)
    replies = Replies(recorder, stream, notices, tally, url=settings.url, adopt=resumed, clock=time.monotonic)
    root = settings.spool_dir if resumed and locks.SUPPORTED and settings.spool != "off" else None
    return Sender(
        recorder, spool, Dispatcher(spool, new_id), Transmitter(transport, random.Random()), Courier(alarm), replies,
        notices, forerunners=partial(find, root, stream.run, stream.url, new_id), online=online, alarm=alarm,
    )  # fmt: skip


def _name(settings: Settings, name: str | None, project: str | None, ranks: Ranks) -> str | None:
    choice("ranks", ranks, get_args(Ranks))
    if ranks == "all" and settings.rank is not None and name is None and settings.run is None:
        raise ConfigurationError("ranks='all' needs a name, so that all ranks agree on it (or TALLYBOARD_RUN)")
    script = sys.argv[0] if sys.argv else ""
    chosen = naming.run_name(name, project, settings.run, script, random.Random())  # not the training's generator
    return naming.for_rank(chosen, settings.rank, ranks)


def _opening(resume: Resume, group: str | None, tags: Iterable[str], notes: str | None) -> Open:
    choice("resume", resume, get_args(Resume))
    if isinstance(tags, str) or not isinstance(tags, Iterable):
        raise ConfigurationError(f'tags is a list of strings, such as ["baseline"], not {shown(tags)}')
    tags = [text("each of tags", tag, "baseline") for tag in tags]
    notes = None if notes is None else text("notes", notes, "with warm-up")
    group = None if group is None else text("group", group, "ablation")
    origin = provenance(sys.argv, os.environ) | {"tallyboard": __version__, "began_at": time.time()}
    opening = Open(resume=resume, group=group, tags=tuple(tags), notes=notes, provenance=origin)
    try:
        check_open(opening, "init")
    except InvalidBatchError as error:
        raise ConfigurationError(f"{error.field}: {error.detail}") from error
    return opening


def _document(config: Any) -> dict[str, Any]:
    try:
        return as_document(() if config is None else config)
    except TypeError as error:
        raise ConfigurationError(f"config: {error}") from error


def _disabled(settings: Settings, wish: Wish) -> Run:
    from tallyboard.collect.disabled import DisabledRecorder

    notices, tally = Notices(), Tally()
    recorder = DisabledRecorder(
        router=wish.router, notices=notices, tally=tally, resumed=wish.opening.resume != "new"
    )  # fmt: skip
    return Run(
        recorder, None, notices, tally, name=wish.name or "", server_url="", exit_timeout_s=wish.exit_timeout_s,
        quiet=not settings.leads,
    )  # fmt: skip
