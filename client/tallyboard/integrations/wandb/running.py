"""A run as code written for wandb holds it, on a run of Tallyboard."""

import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import tallyboard
from tallyboard.collect.reports import as_step
from tallyboard.errors import InvalidReportError
from tallyboard.integrations.wandb.documents import Config, Summary
from tallyboard.integrations.wandb.media import Histogram, Image
from tallyboard.integrations.wandb.metrics import Aggregate, Definitions, Metric, counter_of, summary_of
from tallyboard.integrations.wandb.rows import Row, Rows
from tallyboard.integrations.wandb.telling import Absent, Error, tell
from tallyboard.integrations.wandb.values import Value, sort
from tallyboard.wire import DEFAULT_COUNTER, Level, limits

SUMMARY_EVERY_S: Final = 10.0
"""How often what `define_metric` wants in the summary is sent, before the end."""
ALERT_WAIT_S: Final = 60.0
ALERT_TITLES_MAX: Final = 1_000
_LEVELS: Final[Mapping[str, Level]] = {"info": "info", "warn": "warn", "error": "error"}
LOCK_TIMEOUT_S: Final = 0.2
"""How long the end waits for a thread that logs: it may be the one that a signal handler interrupted."""


class Run:
    """`wandb.run`. Thread-safe; `tallyboard` is the run behind it. What wandb's has and this has not does nothing."""

    def __init__(self, run: tallyboard.Run, *, asked: Mapping[str, Any], clock: Callable[[], float]) -> None:
        """asked: the arguments of `wandb.init`. clock: seconds that never go back."""
        self.tallyboard: Final = run
        self._asked = dict(asked)
        self._folder: str | None = None
        self._clock = clock
        self._lock = threading.RLock()
        self._steps = run.counter(DEFAULT_COUNTER)
        self._rows: Rows | None = None
        self._first_step = 0
        self._metrics = Definitions()
        self._positions: dict[str, int | None] = {}  # of step metrics: their last value; None if it is no step
        self._settled: dict[str, str | None] = {}  # of each key: the step metric that it counts on, for good
        self._aggregates: dict[str, Aggregate] = {}
        self._last: dict[str, float | str] = {}
        self._summarised_at = clock()
        self._silent_until: dict[str, float] = {}
        self.config: Final = Config(run.config)
        self.summary: Final = Summary(run.summary, self._known)
        run.when_ending(self._wind_up)

    # ── logging ──────────────────────────────────────────────────────────────────────────────────────────────────

    def log(self, data: Mapping[str, Any], step: int | None = None, commit: bool | None = None, **_: Any) -> None:
        """Log at wandb's step, or fill in what is logged at it; docs/wandb.md says what becomes of each value."""
        run = self.tallyboard
        if run.finished or not isinstance(data, Mapping):  # in a forked child, the lock may be held for ever
            run.log(data)
            return
        try:
            self._log(data, step, commit)
        except tallyboard.TallyboardError:  # of a strict run
            raise
        except Exception as error:  # noqa: BLE001 - a foreign value may raise anything, and training goes on
            tell(f"wandb.log: left out by an error inside the client: {type(error).__name__}: {error}")

    def _log(self, data: Mapping[str, Any], step: int | None, commit: bool | None) -> None:
        found = sort(data)
        if found.odd:
            self.tallyboard.log(found.odd)  # which says what is wrong with them, and reports nothing
        with self._lock:
            for row in self._counting().add(found.values, step, commit):
                self._report(row)
            if self._aggregates and self._clock() >= self._summarised_at + SUMMARY_EVERY_S:
                self._summarise()

    def define_metric(
        self,
        name: str,
        step_metric: str | Metric | None = None,
        step_sync: bool | None = None,
        hidden: bool | None = None,
        summary: str | None = None,
        goal: str | None = None,
        overwrite: bool | None = None,
    ) -> Metric:
        """Say on which other key a key counts (`"val/*"` on `"epoch"`), and what goes into the summary."""
        with self._lock:
            return self._metrics.define(name, step_metric, summary, goal, anew=bool(overwrite))

    @property
    def step(self) -> int:
        """The step of the next call of `log`."""
        with self._lock:
            return self._counting().step

    def _counting(self) -> Rows:
        if self._rows is None:  # by now a continued run knows where it stands
            state = self.tallyboard.state_dict().get(DEFAULT_COUNTER)
            self._first_step = 0 if state is None else int(state["next_step"])
            self._rows = Rows(self._first_step)
        return self._rows

    def _report(self, row: Row) -> None:
        """One report for each counter that keys of the row count on; wandb's step, and what others count on, first."""
        texts = {key: value for key, value in row.values.items() if isinstance(value, str)}
        if texts:
            tell("wandb.log: texts go into the summary, the newest of each key")
            self.tallyboard.summary.update({key: text for key, text in texts.items() if self._last.get(key) != text})
        self._move(row)
        reports: dict[tuple[str, Any], dict[str, Value]] = {}
        for key, value in row.values.items():
            if not isinstance(value, str) and (place := self._place(key, row.step)) is not None:
                reports.setdefault(place, {})[key] = value
        for counter, step in sorted(reports, key=lambda place: place[0] != DEFAULT_COUNTER):
            self._send(reports[counter, step], counter, step)
        self._remember(row.values)

    def _move(self, row: Row) -> None:
        """Put counters where the row says that they stand, so that all its reports tell it."""
        for metric in self._metrics.step_metrics & row.values.keys():
            self._positions[metric] = _whole(row.values[metric])
            counter = counter_of(metric)
            position = self._positions[metric]
            if counter is not None and position is not None and position >= self.tallyboard.counter(counter).value:
                self.tallyboard.counter(counter).set(position)
        step = _whole(row.step)
        if step is not None and step >= self._steps.value:
            self._steps.set(step)

    def _place(self, key: str, step: Any) -> tuple[str, Any] | None:
        """Counter and step for a key; None if it has to be left out."""
        known, metric = key in self._settled, self._metrics.of(key).step_metric
        if known:
            if metric != self._settled[key]:
                tell(f"wandb.define_metric: {key!r} was logged before and goes on counting as it did")
            metric = self._settled[key]
        position = self._positions.get(metric, 0) if metric is not None else None  # 0 before its first, as in wandb
        counter = counter_of(metric) if metric is not None else None
        if metric is not None and (position is None or counter is None):
            fate = "is left out" if known else "counts on wandb's own steps"
            tell(f"wandb.define_metric: {metric!r} is not 0, 1, 2, …, so {key!r} {fate}")
            if known:
                return None
            metric = None
        if not known and len(self._settled) < limits.TAGS_PER_RUN_MAX:
            self._settled[key] = metric
        return (DEFAULT_COUNTER, step) if metric is None or counter is None else (counter, position)

    def _send(self, values: dict[str, Value], counter: str, step: Any) -> None:
        numbers = {key: value for key, value in values.items() if isinstance(value, float)}
        if numbers:
            self.tallyboard.log(numbers, step, counter=counter)
        for key, value in values.items():
            if isinstance(value, Image | Histogram):
                self.tallyboard.recorder.log_blob(key, value.blob, step, counter, None, None)

    def _remember(self, values: Mapping[str, Value]) -> None:
        """For the summary."""
        for key, value in values.items():
            if isinstance(value, float | str) and (key in self._last or len(self._last) < limits.TAGS_PER_RUN_MAX):
                self._last[key] = value
                metric = self._metrics.of(key)
                if metric.summary and isinstance(value, float):
                    self._aggregates.setdefault(key, Aggregate(metric)).add(value)

    def _known(self) -> dict[str, Any]:
        return {**self._last, **summary_of(dict(self._aggregates))}

    def _summarise(self) -> None:
        self._summarised_at = self._clock()
        if told := summary_of(self._aggregates):
            self.tallyboard.summary.update(told)

    # ── the rest of what scripts ask of a run ────────────────────────────────────────────────────────────────────

    def alert(self, title: str, text: str = "", level: Any = None, wait_duration: Any = None) -> None:
        """Tell people something; nothing more under this title for `wait_duration` (a minute; seconds or timedelta)."""
        given = getattr(wait_duration, "total_seconds", None)
        seconds = given() if callable(given) else ALERT_WAIT_S if wait_duration is None else float(wait_duration)
        now = self._clock()
        with self._lock:
            if now < self._silent_until.get(title, now):
                return
            if len(self._silent_until) >= ALERT_TITLES_MAX:
                self._silent_until.clear()
            self._silent_until[title] = now + seconds
        named = str(getattr(level, "value", level) or "INFO").lower()
        self.tallyboard.alert(title, text, level=_LEVELS.get(named, "warn"))

    def finish(self, exit_code: int | None = None, quiet: bool | None = None) -> None:
        """Send the rest and end the run; as failed if `exit_code` says so."""
        self.tallyboard.finish("failed" if exit_code else "finished")

    @property
    def name(self) -> str:
        """The run's name without its project."""
        return self.tallyboard.name.partition("/")[2] or self.tallyboard.name

    @name.setter
    def name(self, name: str) -> None:
        tell("wandb.run.name: a run is named by wandb.init(name=…) and keeps its name")

    @property
    def id(self) -> str:
        """What was given as id, or the name."""
        return str(self._asked.get("id") or self.name)

    @property
    def project(self) -> str:
        """The first part of the run's name."""
        return self.tallyboard.name.partition("/")[0]

    @property
    def url(self) -> str:
        """Where the service shows it."""
        return self.tallyboard.url

    @property
    def path(self) -> str:
        """`project/name`."""
        return self.tallyboard.name

    @property
    def entity(self) -> str:
        """What was given; nothing else is made of it."""
        return str(self._asked.get("entity") or "")

    @property
    def group(self) -> str:
        """What was given."""
        return str(self._asked.get("group") or "")

    @property
    def job_type(self) -> str:
        """What was given."""
        return str(self._asked.get("job_type") or "")

    @property
    def resumed(self) -> bool:
        """Whether the run goes on where another process stood."""
        with self._lock:
            self._counting()
            return self._first_step > 0

    @property
    def disabled(self) -> bool:
        """Whether it reports nothing, by its mode."""
        return self._asked.get("mode") == "disabled"

    @property
    def offline(self) -> bool:
        """Whether it keeps everything on this machine, by its mode."""
        return self._asked.get("mode") in ("offline", "dryrun")

    @property
    def dir(self) -> str:
        """A folder for files of the script's own, made when it is asked for; nothing is sent from it."""
        if self._folder is None:
            made = time.strftime("run-%Y%m%d_%H%M%S-") + self.id.replace("/", "-")
            self._folder = str(Path(self._asked.get("dir") or ".", "wandb", made, "files").absolute())
        os.makedirs(self._folder, exist_ok=True)  # noqa: PTH103 - as text, which scripts join to
        return self._folder

    def use_artifact(self, *_: Any, **__: Any) -> Any:
        """Raises Error: Tallyboard keeps no artifacts, and a script can't go on without what it asks for."""
        raise Error("wandb.use_artifact: Tallyboard keeps no artifacts")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return Absent(f"run.{name}")

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _wind_up(self) -> None:
        """As the run ends: report the row under way, and what the summary lacks."""
        held = self._lock.acquire(timeout=LOCK_TIMEOUT_S)
        try:
            for row in self._rows.take() if self._rows is not None else ():
                self._report(row)
            self._summarise()
        finally:
            if held:
                self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.tallyboard.__exit__(kind, error, trace)

    def __repr__(self) -> str:
        return f"<wandb run {self.tallyboard.name} of Tallyboard>"


def _whole(value: Any) -> int | None:
    """The value as a step; None if it is none."""
    try:
        return as_step(value)
    except InvalidReportError:
        return None
