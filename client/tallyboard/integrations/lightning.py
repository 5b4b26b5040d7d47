"""A logger for PyTorch Lightning that also is a callback: `Trainer(logger=board, callbacks=[board])`.

As a logger it gets the values, and as a callback it learns what they are about: training figures count on
`global_step`, an epoch's on `epoch`, each validation or test is the next step of `evaluation`. A checkpoint holds where
the counters stand, and a fit that is resumed from it goes back to there.
"""

import random
import sys
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from tallyboard import naming
from tallyboard.documents import as_document
from tallyboard.integrations.checkpoints import as_plain, from_plain
from tallyboard.integrations.extras import missing
from tallyboard.integrations.training import EPOCH, GLOBAL_STEP, Training
from tallyboard.run import Run
from tallyboard.wire import Resume

try:
    from lightning.fabric.loggers.logger import rank_zero_experiment
    from lightning.pytorch.callbacks import Callback
    from lightning.pytorch.loggers import Logger
    from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn
except ImportError as error:
    raise missing("lightning", "lightning", error) from error

DEVICE: Final = "device"
EVALUATION_BATCH: Final = "evaluation_batch"
_DEVICE_PREFIX: Final = "DeviceStatsMonitor."


class TallyboardLogger(Logger, Callback):
    """Reports what a Lightning Trainer logs, of global rank 0.

    name: of the run, and the folder below default_root_dir where checkpoints go by default; else TALLYBOARD_RUN, else
    one is made up. run: one made by `tallyboard.init`, which also is found by itself; without a name, and left for you
    to finish. resume: "new" and "continue" as in `tallyboard.init`; None begins a new run, unless the fit is resumed
    from a checkpoint. With "continue", a fit that starts from scratch takes the place of what the run holds.
    """

    def __init__(self, name: str | None = None, *, run: Run | None = None, resume: Resume | None = None) -> None:
        super().__init__()
        self._training = Training(name, run, resume)
        script = sys.argv[0] if sys.argv else ""
        self._default = naming.run_name(None, None, None, script, random.Random())  # not the training's generator
        self._trainer: Any = None
        self._fitted: weakref.ref[Any] | None = None
        self._restored = False
        self._over: Literal["batch", "epoch", "evaluation"] | None = None
        self._evaluated = False
        self._hparams: dict[str, Any] = {}

    # ── as a logger ──────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def name(self) -> str:
        """What the run was asked to be called."""
        return self._training.wanted(self._default)

    @property
    def version(self) -> str:
        """Empty: runs of one name are numbered by the service."""
        return ""

    @property
    @rank_zero_experiment
    def experiment(self) -> Run:
        """The run, once it is begun: when the fit starts, since only then it is known whether it is resumed.

        Raises AttributeError before that.
        """
        if (run := self._training.run) is None:
            raise AttributeError(
                "the run begins when the fit starts; to have it before, give one:"
                " TallyboardLogger(run=tallyboard.init(…))"
            )
        return run

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Put hyperparameters into the run's config."""
        self._hparams |= as_document(params)
        if self._training.run is not None:
            self._training.run.config.update(self._hparams)

    @rank_zero_only
    def log_graph(self, model: Any, input_array: Any = None) -> None:
        """Lightning shows the model to each logger as it starts: the moment to see whether we are a callback, too."""
        trainer = model.trainer
        if self._trainer is None and self not in trainer.callbacks:
            self._trainer = trainer
            rank_zero_warn(
                "TallyboardLogger is not among the Trainer's callbacks, so epochs and evaluations can't be told from"
                " other batches, and checkpoints do not hold the counters. Use Trainer(logger=board, callbacks=[board])"
            )

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Report figures on the counter that they are about.

        What comes with another step than Lightning's own, or none, gets a counter for each tag.
        """
        run = self._begin()
        trainer = self._trainer
        if trainer is None:  # Fabric, where steps are the caller's
            run.log(metrics, step)
        elif next(iter(metrics), "").startswith(_DEVICE_PREFIX):
            self._training.log_next(metrics, DEVICE)
        elif trainer.sanity_checking:
            return
        elif self._over == "epoch":
            run.summary.update(_results(metrics))
            self._training.log(metrics, EPOCH, trainer.current_epoch + 1)
        elif self._over == "evaluation":
            run.summary.update(_results(metrics))
            self._training.log_evaluation(metrics, another=not self._evaluated)
            self._evaluated = True
        elif trainer.validating or trainer.testing:
            self._training.log_next(metrics, EVALUATION_BATCH)
        elif trainer.training and step == _steps(trainer):
            self._training.log(metrics, GLOBAL_STEP, step + 1)  # Lightning names a step before it is counted
        else:
            self._training.log_apart(metrics, step)

    @rank_zero_only
    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """A checkpoint is complete."""
        self._training.saved(_folder(checkpoint_callback.dirpath))

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """See to it that all is on disk; the run goes on, for there may be a validation, or another fit."""
        self._training.end()

    # ── as a callback ────────────────────────────────────────────────────────────────────────────────────────────

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Meet the trainer, before it restores a checkpoint."""
        self._trainer = trainer
        self._over = None
        if self not in trainer.loggers and not trainer.fast_dev_run:
            rank_zero_warn("TallyboardLogger gets nothing to report: use Trainer(logger=board, callbacks=[board])")

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint; called while it is put together."""
        if self._training.run is None or not self._reports(self._trainer):
            return {}
        if self._over == "batch":
            self._log_early(self._trainer)
        saved = self._training.save()
        return {} if saved is None else as_plain(saved)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go back to the checkpoint that the fit is resumed from."""
        trainer = self._trainer
        saved = from_plain(state_dict)
        if saved is None or not self._reports(trainer) or trainer.state.fn != "fit":
            return
        self._begin(saved)
        self._training.put_back(saved, _folder(trainer.ckpt_path, file=True))
        self._restored = True

    def on_sanity_check_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin the run before it: monitors of the device report already."""
        if self._reports(trainer):
            self._begin()
            self._training.begin_anew()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin the run, and say how far it is to go."""
        if not self._reports(trainer):
            return
        self._begin()
        known = self._restored or (self._fitted is not None and self._fitted() is trainer)
        self._fitted, self._restored = weakref.ref(trainer), False
        totals = {GLOBAL_STEP: trainer.estimated_stepping_batches, EPOCH: trainer.max_epochs}
        totals = {name: int(total) for name, total in totals.items() if total is not None and 0 < total < float("inf")}
        stands = {GLOBAL_STEP: _steps(trainer), EPOCH: trainer.current_epoch}
        self._training.start({} if known else stands, totals)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """What is logged from here on belongs to steps."""
        self._over = None
        self._training.move_on()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """What a checkpoint of the step before could lack is over."""
        self._over = None
        self._training.move_on()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count an update."""
        if self._reports(trainer):
            self._over = "batch"
            self._training.at(GLOBAL_STEP, _steps(trainer) + (not _accumulates(trainer)))

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Count an epoch; its figures come next."""
        if self._reports(trainer):
            self._over = "epoch"
            self._training.at(EPOCH, trainer.current_epoch + 1)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """All that the fit itself logs is logged."""
        self._over = None
        self._training.end()

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """What is logged from here on belongs to the batches of an evaluation."""
        self._over = None
        self._evaluated = False

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """The figures of the evaluation come next."""
        self._over = "evaluation"

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """They were logged."""
        self._over = None

    on_test_start = on_validation_start
    on_test_epoch_end = on_validation_epoch_end
    on_test_end = on_validation_end

    # ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _reports(self, trainer: Any) -> bool:
        """Not a dry run, nor a search for a learning rate, for which Lightning takes its loggers away."""
        return trainer is not None and trainer.is_global_zero and self in trainer.loggers

    def _begin(self, saved: Any = None) -> Run:
        begun = self._training.run
        run = self._training.begin(self._default, stable=False, saved=saved)
        if run is not begun and self._hparams:
            run.config.update(self._hparams)
        return run

    def _log_early(self, trainer: Any) -> None:
        """A checkpoint that is saved at a batch's end precedes the batch's figures, which are not logged again.

        So they are logged before it; that they come once more changes nothing.
        """
        connector = getattr(trainer, "_logger_connector", None)
        if connector is None or not connector.should_update_logs or _accumulates(trainer):
            return
        metrics = dict(connector.metrics["log"])
        if "step" not in metrics:  # else they come with a step of the caller's
            self._training.log(metrics, GLOBAL_STEP, _steps(trainer) + 1)


def _steps(trainer: Any) -> int:
    """Updates that are over, as Lightning counts them for loggers: one, however many optimizers there are."""
    return int(trainer.fit_loop.epoch_loop._batches_that_stepped)


def _accumulates(trainer: Any) -> bool:
    """Whether the batch at hand ends without an update."""
    return bool(trainer.fit_loop._should_accumulate())


def _results(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in metrics.items() if name != "epoch"}


def _folder(path: Any, *, file: bool = False) -> Path | None:
    """The folder of a checkpoint on a disk of this machine; None for one elsewhere (s3://…)."""
    if path is None or "://" in str(path):
        return None
    return Path(path).parent if file else Path(path)
