"""A run as the training code holds it."""

import socket
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, get_args
from urllib.parse import quote

from tallyboard.collect.counters import Create
from tallyboard.collect.recorder import Recorder
from tallyboard.collect.reports import as_step
from tallyboard.collect.stats import Stats, Tally
from tallyboard.counter import Counter, checked_total
from tallyboard.delivery.sender import Sender
from tallyboard.documents import Config, Summary
from tallyboard.errors import ConfigurationError, ContractError, InvalidReportError
from tallyboard.notices import Notices, caller_line
from tallyboard.parameters import choice, text
from tallyboard.remedies import unsent
from tallyboard.summaries.histograms import BINS, histogram_blob
from tallyboard.summaries.images import Layout, image_blob
from tallyboard.summaries.texts import text_blob
from tallyboard.wire import (
    DEFAULT_COUNTER,
    InvalidBatchError,
    InvalidNameError,
    Level,
    Status,
    check_document,
    names,
)

FLUSH_TIMEOUT_S: Final = 30.0
LAST_LINES: Final = 8
"""Lines of an exception's traceback that are kept in the summary."""
_LINE_CHARS_MAX: Final = 500
_CREATES: Final = get_args(Create)


class Run:
    """Reports scalars of one run; made by `tallyboard.init`. Thread-safe.

    After `finish`, in a forked child, and with `mode="disabled"` every call still works and reports nothing.
    """

    def __init__(
        self,
        recorder: Recorder,
        sender: Sender | None,
        notices: Notices,
        tally: Tally,
        *,
        name: str,
        server_url: str,
        exit_timeout_s: float,
        quiet: bool = False,
    ) -> None:
        """quiet: show no progress bars."""
        self._recorder = recorder
        self._sender = sender
        self._notices = notices
        self._tally = tally
        self._name = name
        self._server_url = server_url
        self.exit_timeout_s: Final = exit_timeout_s
        self._quiet = quiet
        self._handles: dict[str, Counter] = {}
        self._finishing = threading.RLock()
        self._finished = False
        self._endings: list[Callable[[], None]] = []
        self._crash: list[str] = []
        self._exit: tuple[str, object] | None = None
        self.config: Final = Config(self._document_fits, lambda patch: recorder.amend(patch, {}))
        self.summary: Final = Summary(self._document_fits, recorder.summarise)

    @property
    def name(self) -> str:
        """Its name, `project/name`; another one is settled on if that was taken (`project/name-2`)."""
        return self._name if self._sender is None else self._sender.run_name

    @property
    def url(self) -> str:
        """Where the service's dashboard shows its charts; empty if it reports to none."""
        return f"{self._server_url}/?run={quote(self.name)}" if self._server_url else ""

    @property
    def recorder(self) -> Recorder:
        """What its reports go through, for other parts of the client."""
        return self._recorder

    @property
    def finished(self) -> bool:
        """Whether it reports nothing more."""
        return self._finished

    def tell_once(self, key: str, message: str) -> None:
        """Tell the person who trains, unless this was said before."""
        self._notices.warn_once((key,), message)

    def when_ending(self, call: Callable[[], None]) -> None:
        """Have this called once, as the run begins to end and still reports; never in a forked child.

        It may be called inside a signal handler.
        """
        self._endings.append(call)

    # ── scalars and counters ─────────────────────────────────────────────────────────────────────────────────────

    def log(
        self,
        scalars: Mapping[str, Any],
        step: int | None = None,
        *,
        counter: str | None = None,
        at: Mapping[str, int] | None = None,
        wall_time: float | None = None,
    ) -> None:
        """Report scalars at a step, and return at once.

        Without `step` the counter's value is taken. If nobody has moved that counter yet (by `increment`, `set` or an
        explicit step), it counts the calls: 1, 2, 3, … (a step counter is 1 after the first update), or on from where
        a continued run stands. Without `counter`, each tag goes where `init(counters=…)` says, else to `global_step`.
        `at` tells where other counters stood; those with a value are filled in by themselves, but for `system`, which
        counts the machine's figures. `wall_time` is in seconds since the epoch.

        A value is anything that is one number; a tensor is read at once, which may wait for its device. What is not
        one number is left out with a warning. What the step contract refuses is warned about
        once per line of code and counted; with `strict` it raises ContractError. Nothing else ever raises.
        """
        self._recorder.log(scalars, step, counter, at, wall_time)

    def log_text(
        self,
        tag: str,
        text: str | Sequence[str],
        step: int | None = None,
        *,
        counter: str | None = None,
        at: Mapping[str, int] | None = None,
        wall_time: float | None = None,
    ) -> None:
        """Report a text, shown as Markdown, or several, shown as rows of a table. The rest is as in `log`.

        What is too large to be sent (8 MiB) is dropped with a warning and counted.
        """
        self._recorder.log_blob(tag, partial(text_blob, text), step, counter, at, wall_time)

    def log_image(
        self,
        tag: str,
        image: Any,
        step: int | None = None,
        *,
        layout: Layout | None = None,
        counter: str | None = None,
        at: Mapping[str, int] | None = None,
        wall_time: float | None = None,
    ) -> None:
        """Report an image: an array [H, W], [H, W, C] or [C, H, W] of uint8, or of floats from 0 to 1.

        C is 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA). `layout` ("HW", "HWC", "CHW") says which axis is what
        where the shape leaves it open. The pixels are copied; another thread makes the PNG file. The rest is as in
        `log`. A file of more than 8 MiB is dropped with a warning and counted.
        """
        self._recorder.log_blob(tag, partial(image_blob, image, layout), step, counter, at, wall_time)

    def log_histogram(
        self,
        tag: str,
        values: Any,
        step: int | None = None,
        *,
        bins: int | Sequence[float] = BINS,
        counter: str | None = None,
        at: Mapping[str, int] | None = None,
        wall_time: float | None = None,
    ) -> None:
        """Report how values of any shape are spread over so many bins, or over bins with these edges.

        Values that are not finite are left out. They are copied; another thread counts them. The rest is as in `log`.
        """
        self._recorder.log_blob(tag, partial(histogram_blob, values, bins), step, counter, at, wall_time)

    def alert(self, title: str, text: str = "", *, level: Level = "warn") -> None:
        """Tell people something now ("info", "warn", "error"), and return at once.

        It is delivered as reports are: exactly once, in order with them, from this machine's disk if need be. Where the
        counters stand goes with it (the first 32). Who sits at the terminal sees the first 100 of a run; the service
        keeps the newest 1,000. A title beyond 256 bytes, or a text beyond 4 KiB, is cut. Of alerts that come faster
        than they are sent, the first 64 of each half second are kept; the others are counted, which is said once.

        What makes no sense is left out with a warning, or raises InvalidReportError if the run is strict.
        """
        self._recorder.alert(title, text, level)

    def counter(self, name: str = DEFAULT_COUNTER, total: int | None = None, *, create: Create = "auto") -> Counter:
        """The counter of that name, made if the run has none yet. `total`: the step that it is expected to reach.

        create: "new" wants one that the run has not, "existing" one that it has: in this process (somebody asked for it
        here, or reported on it), or, of a run that is continued, by the server's word. Until a server that is away has
        given that, either takes the counter as it is, and a warning follows if the server turns out to know otherwise;
        an offline run never hears of it. Raises ConfigurationError, a ValueError, if it is otherwise, and ValueError
        for what can't name a counter or be a total.
        """
        goal = None if total is None else checked_total(total)
        text("the name of a counter", name, DEFAULT_COUNTER)
        choice("create", create, _CREATES)
        handle = self._handles.get(name)
        if handle is None or create != "auto":
            state = self._recorder.counter(name, create)
            handle = self._handles.setdefault(name, Counter(self._recorder, state, quiet=self._quiet))
        if goal is not None and goal != handle.total:
            self._recorder.set_total(name, goal)
        return handle

    def rewind(self, next_steps: Mapping[str, int], reason: str = "") -> None:
        """Go back: of each counter named, the steps from its next step on are superseded by what follows.

        `{"global_step": 1000}` means that step 1000 comes next; the counter's value is 999 then, so that `increment`
        gives 1000 (0 for 0). Takes effect in order with what was logged before. Raises ValueError, before anything is
        changed, for a name or step that is none.
        """
        self._recorder.rewind(checked_next_steps(next_steps), reason, {})

    def state_dict(self) -> dict[str, dict[str, int | bool]]:
        """Every counter exactly, for the checkpoint: plain JSON. Without `system`, which counts the machine's figures.

        `{"global_step": {"value": 999, "next_step": 1000, "moved": True}}`: next_step is where a resumed job goes on
        reporting (past the value, if something was reported there).
        """
        return {
            name: {"value": state.value, "next_step": state.next_step(), "moved": state.moved}
            for name, state in self._recorder.counters().items()
            if state.active and name != names.SYSTEM_COUNTER
        }

    def load_state_dict(self, state: Mapping[str, Mapping[str, int | bool]]) -> None:
        """Put every counter where `state_dict` found it, and rewind to there. `system` stays where it is.

        Raises ValueError, before anything is changed, if it is no such state.
        """
        try:
            counters = {name: saved for name, saved in state.items() if name != names.SYSTEM_COUNTER}
            values = {name: as_step(saved["value"]) for name, saved in counters.items()}
            next_steps = {name: as_step(saved["next_step"]) for name, saved in counters.items()}
            moved = {name: bool(saved.get("moved", True)) for name, saved in counters.items()}
        except (AttributeError, KeyError, TypeError, InvalidReportError) as error:
            raise ConfigurationError(f"not the state of a run's counters: {error!r}") from error
        if counters:
            self._recorder.rewind(checked_next_steps(next_steps), "resumed from a checkpoint", values)
            for name in moved.keys() - {names.ALL_IMPLICIT}:
                self._recorder.counter(name).moved = moved[name]

    def _document_fits(self, document: dict[str, Any]) -> bool:
        try:
            check_document(document, "document")
        except InvalidBatchError as error:
            where = caller_line()
            self._notices.warn_once(("document", where), f"left out of config or summary: {error.detail} ({where})")
            return False
        return True

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────

    def flush(self, timeout_s: float | None = None, *, kept: bool = False) -> bool:
        """Wait until everything logged before is on the server's disk, at most `timeout_s` (30) seconds.

        kept: it is enough if it is on the disk of this machine, which an absent server does not delay (for an offline
        run it always is). Done before a checkpoint is saved, this makes sure that a job which is killed and resumed
        from there leaves no hole in its curves.

        Returns False if that was not to be had. A strict run raises here what only the server could refuse.
        """
        if self._sender is None or self._finished:
            return True
        limit_s = FLUSH_TIMEOUT_S if timeout_s is None else timeout_s
        wait = self._sender.keep if kept else self._sender.flush
        delivered = wait(self._recorder.mark(), limit_s)
        self._recorder.raise_pending()
        return delivered

    def finish(self, status: Status = "finished", *, timeout_s: float | None = None) -> None:
        """Send the rest, at most for `timeout_s` (`exit_timeout_s`), say what was sent, and report nothing more.

        What can't be sent in time stays on this machine's disk, and the command that sends it later is said. Doing it
        again changes nothing. A strict run raises here what only the server could refuse.
        """
        self._end(status, self.exit_timeout_s if timeout_s is None else timeout_s)

    def preempt(self, signal_name: str, timeout_s: float) -> None:
        """Send what fits into `timeout_s`, keep the rest on disk, and leave the run's status as it is.

        Its summary says `preempted`. What a SIGTERM does, and what a handler of your own may do.
        """
        if self._finished and self._sender is not None:  # the end is under way in the very thread that was interrupted
            self._sender.stop(timeout_s)
            return
        when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        self._recorder.summarise({"preempted": f"{signal_name} on {socket.gethostname()}, {when}"})
        self._end(None, timeout_s)

    def _end(self, status: Status | None, timeout_s: float) -> None:
        with self._finishing:
            if self._finished:
                return
            self._finished = True
        for handle in list(self._handles.values()):
            handle.close_bar()
        self._wind_up()
        summary = {"exception": "\n".join(self._crash)} if self.crashed else {}
        sections = self._recorder.close(f"run {self.name} is finished", status, summary)
        if self._sender is None:
            return
        deadline = time.monotonic() + timeout_s
        if status is None:  # whoever takes the machine away may not wait: what is not sent at once goes to disk first
            self._sender.keep(sections, timeout_s)
            timeout_s = deadline - time.monotonic()
        self._sender.flush(sections, timeout_s)
        self._sender.stop(deadline - time.monotonic())
        self._notices.say(self._closing_line())
        self._recorder.raise_pending()

    def _wind_up(self) -> None:
        while self._endings:
            try:
                self._endings.pop()()
            except Exception:  # noqa: BLE001 - the rest of the run is still to be sent
                self._notices.bug("end")

    def stats(self) -> Stats:
        """What became of its reports so far."""
        return self._tally.stats()

    def _closing_line(self) -> str:
        stats = self._tally.stats()
        parts = [f"{stats.accepted + stats.refused:,} reports sent", f"{stats.refused:,} refused"]
        parts.append(f"{stats.dropped_reports:,} dropped")
        if stats.dropped_scalars:
            parts.append(f"{stats.dropped_scalars:,} values left out")
        if stats.dropped_alerts:
            parts.append(f"{stats.dropped_alerts:,} alerts dropped")
        kept = None if self._sender is None else self._sender.kept
        lost = stats.waiting if self._sender is None or kept is None else self._sender.lost_reports
        if lost:
            parts.append(f"{lost:,} NOT sent and lost: neither the server nor the disk took them in time")
        if kept is not None:
            parts.append(unsent(stats.waiting - lost, kept))
        line = f"run {self.name}: {', '.join(parts)}"
        return line if kept is not None or not self.url else f"{line} · {self.url}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.finish()
            return
        self.note_crash(error)
        try:
            self.finish("failed")
        except ContractError as pending:  # must not stand in the place of the exception under way
            self._notices.warn(str(pending))

    def note_crash(self, error: BaseException) -> None:
        """Remember an exception: the run ends as `failed`, with the last lines of its traceback in the summary."""
        text = "".join(traceback.format_exception(error)).splitlines()
        self._crash = [line[:_LINE_CHARS_MAX] for line in text[-LAST_LINES:]]

    def note_exit(self, status: object) -> None:
        """Remember that the process is about to end with this status; forgotten if it goes on reporting."""
        self._exit = (f"SystemExit: {status}"[:_LINE_CHARS_MAX], self.state_dict())

    @property
    def crashed(self) -> bool:
        """Whether an exception was noted, or a failed exit after which nothing was reported."""
        if not self._crash and self._exit is not None and self._exit[1] == self.state_dict():
            self._crash = [self._exit[0]]
        return bool(self._crash)

    def abandon(self) -> None:
        """In a forked child: report nothing, and wait for nothing that belongs to the parent."""
        self._finishing = threading.RLock()
        self._finished = True
        if self._sender is not None:
            self._sender.abandon()
        self._recorder.abandon("this process was forked from the one that reports: call tallyboard.init in it")

    def __repr__(self) -> str:
        return f"Run({self.name!r})"


def checked_next_steps(next_steps: Mapping[str, int]) -> dict[str, int]:
    """Next steps by counter. Raises ConfigurationError for a name or step that is none."""
    if not next_steps:
        raise ConfigurationError('a rewind names its counters: {"global_step": 1000}')
    try:
        return {names.check_any_counter(name): as_step(step) for name, step in next_steps.items()}
    except (InvalidNameError, InvalidReportError, AttributeError) as error:
        raise ConfigurationError(f"next_steps: {error}") from error
