"""A callback for Hugging Face's Trainer: `Trainer(…, callbacks=[TallyboardCallback()])`.

What the Trainer logs while it trains counts on `global_step` (on `epoch`, if it logs once an epoch), and each
evaluation is the next step of `evaluation`. A checkpoint holds where the counters stand, and a training that is resumed
from it goes back to there.
"""

import sys
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, Final

from tallyboard.integrations.checkpoints import as_plain, from_plain
from tallyboard.integrations.extras import missing
from tallyboard.integrations.training import EPOCH, GLOBAL_STEP, Training
from tallyboard.naming import script_project
from tallyboard.run import Run
from tallyboard.summary_writer.logdirs import run_name
from tallyboard.wire import Resume

try:
    from transformers import TrainerCallback
    from transformers.trainer_callback import ExportableState
except ImportError as error:
    raise missing("transformers", "transformers", error) from error

_EPOCHS_MAX: Final = 2**31
"""The Trainer says more if it has been told steps and knows no length of an epoch."""
_WHOLE: Final = 1e-6
"""Epochs are floats to the Trainer, sums of fractions."""


class TallyboardCallback(TrainerCallback, ExportableState):
    """Reports what a Trainer logs, of the world's first process.

    name: of the run; else TALLYBOARD_RUN, TrainingArguments.run_name or the name of its output_dir. run: one made by
    `tallyboard.init`, which also is found by itself; without a name, and left for you to finish. resume: "new" and
    "continue" as in `tallyboard.init`; None begins a new run, unless the training is resumed from a checkpoint.
    With "continue", a training that starts from scratch takes the place of what the run holds.
    """

    def __init__(self, name: str | None = None, *, run: Run | None = None, resume: Resume | None = None) -> None:
        self._training = Training(name, run, resume)
        self._epoch_over = False
        self._predicting = False
        self._evaluated: tuple[int, set[str]] = -1, set()

    @property
    def run(self) -> Run | None:
        """The run; None before the training, and in processes that do not report."""
        return self._training.run

    def state(self) -> dict[str, Any]:
        """For the checkpoint; called when all of it but this is written."""
        saved = self._training.save()
        arguments = {"name": self._training.name, "resume": self._training.resume}
        return {"args": arguments, "attributes": {} if saved is None else {"saved": as_plain(saved)}}

    # ── training ─────────────────────────────────────────────────────────────────────────────────────────────────

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Begin the run, or go back to the checkpoint that the training is resumed from."""
        own = state.stateful_callbacks.setdefault(type(self).__name__, {})  # a checkpoint of others has none
        if not state.is_world_process_zero:
            return
        if state.is_hyper_param_search:
            self._training.finish()
        resumed = state.global_step > 0
        saved = from_plain(_attributes(own).get("saved")) if resumed else None
        run = self._training.begin(_default_name(args, state), stable=True, saved=saved)
        if saved is not None:
            self._training.put_back(saved, Path(args.output_dir))
        totals = {GLOBAL_STEP: state.max_steps}
        if state.num_train_epochs < _EPOCHS_MAX:
            totals[EPOCH] = state.num_train_epochs
        stands = {GLOBAL_STEP: state.global_step, EPOCH: _whole(state.epoch)}
        self._training.start({} if saved is not None else stands, totals)
        run.config.update(_config(args, state, model))

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """What is logged from here on belongs to steps."""
        self._epoch_over = False
        self._training.move_on()

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """What a checkpoint of the step before could lack is over."""
        self._training.move_on()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Count an update."""
        self._training.at(GLOBAL_STEP, state.global_step)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Count an epoch, if it was a whole one."""
        self._epoch_over = True
        self._training.at(EPOCH, _whole(state.epoch))

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A checkpoint is complete."""
        self._training.saved(Path(args.output_dir))

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """See to it that all is on disk; the run goes on, for there may be evaluations, or another training."""
        if self.run is not None:
            best = {"best_metric": state.best_metric, "best_model_checkpoint": state.best_model_checkpoint}
            self.run.summary.update({name: value for name, value in best.items() if value is not None})
        self._training.end()

    # ── what is logged ───────────────────────────────────────────────────────────────────────────────────────────

    def on_prediction_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """An evaluation, or a prediction, is under way."""
        self._predicting = True

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """An evaluation was logged."""
        self._predicting = False

    def on_predict(self, args: Any, state: Any, control: Any, metrics: Mapping[str, Any], **_: Any) -> None:
        """The Trainer does not log what it predicted: its metrics are results."""
        self._predicting = False
        if self.run is not None:
            self.run.summary.update(_evaluation_tags(metrics))

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
        """Report what the Trainer logs, on the counter that it is about."""
        if not logs or not state.is_world_process_zero:
            return
        run = self._training.begin(_default_name(args, state), stable=True)
        if self._predicting or any(name.startswith(("eval_", "test_")) for name in logs):
            tags = _evaluation_tags(logs)
            run.summary.update({tag: value for tag, value in tags.items() if tag != "eval/epoch"})
            self._log_evaluation(_numbers(tags), state.global_step)
            return
        tags = {f"train/{name}": value for name, value in logs.items()}
        if "train_runtime" in logs:
            run.summary.update(tags)
        elif self._epoch_over and args.logging_strategy == "epoch":
            self._training.log(_numbers(tags), EPOCH, _whole(state.epoch, cut=True))
            return
        self._training.log(_numbers(tags), GLOBAL_STEP, state.global_step)

    def _log_evaluation(self, tags: Mapping[str, Any], step: int) -> None:
        """Several datasets of one evaluation come one after the other, with other tags."""
        at, seen = self._evaluated
        own = tags.keys() - {"eval/epoch"}
        another = at != step or bool(own & seen)
        self._evaluated = step, own if another else seen | own
        self._training.log_evaluation(tags, another=another)


def _default_name(args: Any, state: Any) -> str:
    """What the training is called by its arguments; a trial of a hyperparameter search is a run below that."""
    parts = [script_project(sys.argv[0] if sys.argv else ""), PurePath(args.run_name or args.output_dir).name]
    return run_name("/".join([*parts, str(state.trial_name or "")]), "")


def _config(args: Any, state: Any, model: Any) -> dict[str, Any]:
    """The training's arguments by their names, and the model's below `model`."""
    config: dict[str, Any] = args.to_dict()
    model_config = getattr(model, "config", None)
    if model_config is not None:
        config["model"] = model_config if isinstance(model_config, dict) else model_config.to_dict()
    return config | dict(state.trial_params or {})


def _evaluation_tags(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """`eval_loss` → `eval/loss`, `test_loss` → `test/loss`; all else, the epoch too, below `eval`."""
    tags = {}
    for name, value in metrics.items():
        prefix, _, rest = name.partition("_")
        tags[f"{prefix}/{rest}" if prefix in ("eval", "test") and rest else f"eval/{name}"] = value
    return tags


def _numbers(tags: Mapping[str, Any]) -> dict[str, Any]:
    return {tag: value for tag, value in tags.items() if isinstance(value, int | float) or hasattr(value, "item")}


def _attributes(own: Any) -> Mapping[str, Any]:
    """Of our state in a checkpoint; the Trainer makes a list of it if there are several callbacks."""
    newest = own[-1] if isinstance(own, list) and own else own
    attributes = newest.get("attributes") if isinstance(newest, dict) else None
    return attributes if isinstance(attributes, dict) else {}


def _whole(epoch: float | None, *, cut: bool = False) -> int:
    """Epochs that are over; `cut`: with one that `max_steps` cut short."""
    return int((epoch or 0.0) + (1.0 - _WHOLE if cut else _WHOLE))
