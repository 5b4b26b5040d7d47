"""`tallyboard.SummaryWriter`."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tallyboard.collect.blobs import PendingBlob
from tallyboard.collect.recorder import Recorder
from tallyboard.errors import ContractError
from tallyboard.run import Run
from tallyboard.settings import Mode, Ranks
from tallyboard.start import init_beside
from tallyboard.summary_writer import logdirs, opened
from tallyboard.summary_writer.encoder import make_encoder
from tallyboard.summary_writer.exported import SCALARS_MAX, Exported
from tallyboard.summary_writer.hparams import Trials
from tallyboard.summary_writer.kinds import Kinds
from tallyboard.summary_writer.relay import Relay
from tallyboard.wire import Resume, names

FLUSH_TIMEOUT_S: Final = 5.0
"""How long `flush` waits at most; scripts call it once an epoch and more, whether or not the service is there."""


_unnamed: Final = count()


class SummaryWriter(Kinds):
    """tensorboardX's class (and torch.utils.tensorboard's) with its whole API, reporting to the service. Thread-safe.

    No file is written, nothing blocks for long, and no `add_…` raises for what is reported, but with `strict`.
    """

    def __init__(
        self,
        logdir: str | os.PathLike[str] | None = None,
        comment: str | None = "",
        purge_step: int | Mapping[str, int] | None = None,
        max_queue: int | None = 10,
        flush_secs: float | None = 120,
        filename_suffix: str | None = "",
        write_to_disk: bool | None = True,
        log_dir: str | os.PathLike[str] | None = None,
        comet_config: Mapping[str, Any] | None = None,
        *,
        run: str | None = None,
        config: Any = None,
        counters: Mapping[str, str] | None = None,
        resume: Resume | None = None,
        mode: Mode | None = None,
        ranks: Ranks = "zero",
        strict: bool = False,
        url: str | None = None,
        token: str | None = None,
        spool_dir: str | os.PathLike[str] | None = None,
        exit_timeout_s: float = 10.0,
    ) -> None:
        """logdir (log_dir): becomes the run's name, by the rule in `logdirs`, unless `run` is one.

        Without any, the name is `script/<time>_<host><comment>`. Writers of one process on one logdir share a run; in
        another process the same logdir begins a run of its own (`try1-2`), unless `resume` or `purge_step` goes on.
        purge_step: the step that comes next: what the run has from there on is superseded. Of tags with counters of
        their own, all; with `counters={"*": "global_step"}`, of that counter; a mapping names counters.
        counters: which tags share a counter, `{"val/*": "epoch", "*": "global_step"}`; the others have one each, so
        epochs and batches may be mixed at will. A step that goes back on a counter is refused.
        write_to_disk=False reports nothing. max_queue, flush_secs and filename_suffix change nothing. The rest is as in
        `tallyboard.init`, and so is what is raised.
        """
        chosen = logdir if logdir else log_dir
        self._logdir = os.fspath(chosen) if chosen else logdirs.default_logdir(comment or "")
        self.purge_step = purge_step
        own = "*" not in (counters or {})
        routes = {**(counters or {}), **({"*": names.ALL_IMPLICIT} if own else {})}
        name = run or (logdirs.run_name(self._logdir, _working_dir()) if chosen else None)
        otherwise = logdirs.script_run_name(self._logdir, sys.argv[0] if sys.argv else "")
        self._begin_with = partial(
            init_beside, name=name, otherwise=otherwise, counters=routes,
            mode="disabled" if write_to_disk is False else mode,
            ranks=ranks, strict=strict, url=url, token=token, spool_dir=spool_dir, exit_timeout_s=exit_timeout_s,
        )  # fmt: skip
        self._key = f"{name} {url} {mode} {write_to_disk}" if name else f"unnamed {next(_unnamed)}"
        self._next_steps = _next_steps(purge_step, routes["*"])
        self._resume = resume
        self._config = config
        self._exported = Exported()
        self._trials = Trials()
        self._defaults: tuple[Any, Any] = (None, None)
        self._encoder: Any = None
        self._lock = threading.RLock()
        self._run: Run | None = None
        self._single: Callable[[str, Any, Any], bool] = _never
        self.file_writer: Final = Relay(self)
        self.all_writers: Final = {self._logdir: self.file_writer}
        self._open()
        if comet_config is not None and not comet_config.get("disabled", False):
            self.run.tell_once("comet", "SummaryWriter hands nothing on to Comet")

    # ── the run ──────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def run(self) -> Run:
        """The run that it reports to; after `close`, one that goes on with it."""
        return self._run if self._run is not None else self._open()

    @property
    def logdir(self) -> str:
        """The folder that it was given, made if need be: scripts put checkpoints beside what they log."""
        try:
            Path(self._logdir).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self.run.tell_once("logdir", f"can't make {self._logdir}: {error.strerror or error}")
        return self._logdir

    log_dir = logdir

    def get_logdir(self) -> str:
        """The same, as torch.utils.tensorboard has it."""
        return self.logdir

    def _get_file_writer(self) -> Relay:
        return self.file_writer

    def _open(self) -> Run:
        with self._lock:
            if self._run is not None:
                return self._run
            run, shared = opened.acquire(self._key, self._begin)
            if shared and self._next_steps:
                run.rewind(self._next_steps, "purge_step")
            self._next_steps = {}  # a writer that is opened again goes on
            self._run = run
            self._find_single()
            return run

    def _find_single(self) -> None:
        """Let scalars take the shortest way, unless something has to be filled in on it."""
        plain = self._run is not None and self._defaults == (None, None)
        self._single = self._run.recorder.log_single if self._run is not None and plain else _never

    def _begin(self, left: opened.Left | None) -> Run:
        goes_on = left is not None or bool(self._next_steps)
        begin = self._begin_with if left is None else partial(self._begin_with, name=left.name)
        return begin(
            config=self._config,
            resume=self._resume or ("continue" if goes_on else "new"),
            next_steps=self._next_steps,
            own_next_steps=left.next_steps if left is not None else {},
        )

    def flush(self) -> None:
        """Have what was added on the service's disk, or on this machine's while the service is away (at most 5 s)."""
        if self._run is not None:
            self._run.flush(FLUSH_TIMEOUT_S, kept=True)

    def close(self) -> None:
        """Send the rest, and end the run if no other writer reports to it. What is added later goes on with it."""
        with self._lock:
            run, self._run = self._run, None
            self._find_single()
        if run is not None:
            opened.release(self._key, run)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        run = self.run
        run.note_crash(error)
        try:
            self.close()
        except ContractError as pending:  # must not stand in the place of the exception under way
            run.tell_once("pending", str(pending))

    @contextmanager
    def use_metadata(self, *, global_step: Any = None, walltime: float | None = None) -> Iterator[Self]:
        """Let what is added inside stand at this step and time, unless it says its own."""
        before = self._defaults
        self._defaults = (global_step, walltime)
        self._find_single()
        try:
            yield self
        finally:
            self._defaults = before
            self._find_single()

    # ── scalars ──────────────────────────────────────────────────────────────────────────────────────────────────

    def add_scalar(
        self,
        tag: str,
        scalar_value: Any,
        global_step: Any = None,
        walltime: float | None = None,
        display_name: str | None = "",
        summary_description: str | None = "",
        new_style: bool = False,
        double_precision: bool = False,
    ) -> None:
        """Report a scalar, and return at once.

        Without global_step, a tag with a counter of its own counts on: 0, 1, 2, … or from the step after its last. On a
        shared counter it stands where `writer.run.counter(…)` is. display_name and summary_description are not kept,
        and values are float64 always.
        """
        if walltime is not None or not self._single(tag, scalar_value, global_step):
            self.take_scalars({tag: scalar_value}, global_step, walltime)

    def add_scalars(
        self,
        main_tag: str,
        tag_scalar_dict: Mapping[str, Any],
        global_step: Any = None,
        walltime: float | None = None,
    ) -> None:
        """Report several scalars, as tags `main_tag/…` of this run."""
        try:
            scalars = {f"{main_tag}/{tag}": value for tag, value in tag_scalar_dict.items()}
        except AttributeError as error:
            self.reject("add_scalars", error)
            return
        self.take_scalars(scalars, global_step, walltime)
        self._export(main_tag, tag_scalar_dict, global_step, walltime)

    def export_scalars_to_json(self, path: str | os.PathLike[str]) -> None:
        """Write what `add_scalars` reported to a JSON file, and forget it. Raises OSError."""
        self._exported.write(os.fspath(path))

    @property
    def scalar_dict(self) -> dict[str, list[list[float | None]]]:
        """What `export_scalars_to_json` would write."""
        return self._exported.points()

    def add_hparams(
        self,
        hparam_dict: Mapping[str, Any],
        metric_dict: Mapping[str, Any],
        name: Any = None,
        global_step: Any = None,
        hparam_domain_discrete: Any = None,
        run_name: str | None = None,
    ) -> None:
        """Hyperparameters become the run's config, metrics its summary.

        A second call with other hyperparameters is another trial: a run of its own, below this one, with `name` or
        `run_name` as its last part. The order of arguments may be tensorboardX's or torch's.
        """
        child = next((text for text in (run_name, name, global_step) if isinstance(text, str)), None)
        try:
            hparams, metrics = self._trials.checked(hparam_dict, metric_dict)
            if self._trials.is_new(hparams):
                self._trials.report(self.run.name, child, hparams, metrics, self._begin_with)
            else:
                self.run.config.update(hparams)
                self.run.summary.update(metrics)
        except ContractError:
            raise
        except Exception as error:  # noqa: BLE001 - training is never harmed
            self.reject("add_hparams", error)

    def _export(self, main_tag: str, scalars: Mapping[str, Any], step: Any, walltime: Any) -> None:
        now = time.time() if walltime is None else walltime
        for tag, value in scalars.items():
            try:
                line = f"{self._logdir}/{main_tag}/{tag}"
                kept = self._exported.add(line, float(now), None if step is None else int(step), float(value))
            except (TypeError, ValueError):
                continue  # what is no number was complained of already
            if not kept:
                self.run.tell_once("export", f"export_scalars_to_json holds the first {SCALARS_MAX:,} scalars only")
                return

    # ── what reports go through ──────────────────────────────────────────────────────────────────────────────────

    def take_scalars(self, scalars: Mapping[str, Any], step: Any, walltime: Any) -> None:
        """Report scalars of any form."""
        recorder, number, wall = self._placed(step, walltime)
        recorder.log({logdirs.clean(tag): value for tag, value in scalars.items()}, number, None, None, wall)

    def take_blob(self, tag: str, blob: partial[PendingBlob], step: Any, walltime: Any) -> None:
        """Report a point of a tag that is no scalar."""
        recorder, number, wall = self._placed(step, walltime)
        recorder.log_blob(logdirs.clean(tag), blob, number, None, None, wall)

    def take_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Take over hyperparameters that came as a proto."""
        self.run.config.update(dict(hparams))

    def reject(self, what: str, error: Exception) -> None:
        """Say, once for each line, that something can't be reported, and count it; raise it if the run is strict."""
        self.run.recorder.reject(what, error)

    def _placed(self, step: Any, walltime: Any) -> tuple[Recorder, Any, Any]:
        """The recorder, and the step and time of a report."""
        default_step, default_walltime = self._defaults
        number = default_step if step is None else step
        if number is not None and type(number) is not int:
            try:
                number = int(number)  # as tensorboardX does
            except Exception:  # noqa: BLE001 - the recorder says what is wrong with it
                number = step
        return self.run.recorder, number, default_walltime if walltime is None else walltime

    def _encode(self, method: str, tag: str | None, /, **arguments: Any) -> None:
        try:
            if self._encoder is None:
                self._encoder = make_encoder(self._logdir)
            self._encoder.through(Relay(self, tag))
            getattr(self._encoder, method)(**arguments)
        except ContractError:
            raise
        except Exception as error:  # noqa: BLE001 - training is never harmed
            self.reject(method, error)

    @property
    def default_bins(self) -> list[float]:
        """The edges of tensorboardX's own bins."""
        if self._encoder is None:
            self._encoder = make_encoder(self._logdir)
        bins: list[float] = self._encoder.default_bins
        return bins

    def add_embedding(
        self,
        mat: Any,
        metadata: Any = None,
        label_img: Any = None,
        global_step: Any = None,
        tag: str = "default",
        metadata_header: Any = None,
    ) -> None:
        """An embedding, as files in `logdir` on this machine: TensorBoard's projector reads it from nowhere else."""
        self.run.tell_once("embedding", f"embeddings are written to {self._logdir} here, for TensorBoard's projector")
        self._encode(
            "add_embedding", None,
            mat=mat, metadata=metadata, label_img=label_img, global_step=global_step, tag=tag,
            metadata_header=metadata_header,
        )  # fmt: skip


def _never(tag: str, value: Any, step: Any) -> bool:
    """In the place of a recorder that has to be looked for first."""
    return False


def _working_dir() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # it was removed
        return ""


def _next_steps(purge_step: int | Mapping[str, int] | None, counter: str) -> dict[str, int]:
    if purge_step is None:
        return {}
    return dict(purge_step) if isinstance(purge_step, Mapping) else {counter: purge_step}
