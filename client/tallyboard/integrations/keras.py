"""Keras 3: a callback that reports what `fit` and `evaluate` do, and keeps the counters beside Keras' checkpoints.

Batches count on `global_step` and epochs on `epoch`; `evaluate`, which may be called as often as one likes at one step,
counts on `evaluation`. Keras' files have no place for what a callback has to remember, so the counters go into a file
beside each: `<checkpoint>.tallyboard.json`.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from tallyboard.errors import ConfigurationError
from tallyboard.integrations.extras import missing
from tallyboard.run import Run

try:
    import keras
except ImportError as error:
    raise missing("keras", "keras", error) from error

SUFFIX: Final = ".tallyboard.json"
SAVES_MAX: Final = 16
"""Saves that a file remembers: the weights may be older than the newest by one kill or several (Keras' double)."""
_STARTS: Final = {name: {"value": 0, "next_step": 1, "moved": True} for name in ("global_step", "epoch", "evaluation")}


class TallyboardCallback(keras.callbacks.Callback):  # type: ignore[misc]
    """Reports to a run. What is logged as what: batches as `train/…`, epochs as `epoch/…`, validation as `val/…`.

    log_every: report every so many batches, the first among them. Keras' figures of a batch are means since the
    epoch began. `learning_rate` is the one that the batch was trained with.
    checkpoints: callbacks that save and load through the model, such as `keras.callbacks.BackupAndRestore`, given to
    this one in place of `fit`: what is reported before a save is on disk before it, the counters are saved beside it,
    and weights that they load take the run back to where it was when they were saved. If they load none, into a model
    that was never trained, the run begins anew, too.

    Raises ConfigurationError (a ValueError) for a `log_every` below 1.
    """

    def __init__(self, run: Run, *, log_every: int = 1, checkpoints: Iterable[Any] = ()) -> None:
        super().__init__()
        if log_every < 1:
            raise ConfigurationError(f"log_every={log_every}: it counts batches, at least 1")
        self._run = run
        self._log_every = log_every
        self._checkpoints = tuple(checkpoints)
        self._global_step, self._epoch = run.counter("global_step"), run.counter("epoch")
        self._evaluation = run.counter("evaluation")
        self._saver: _Saver | None = None
        self._fitting = self._totals_known = self._due = False
        self._first_batch = 0
        self._learning_rate: Any = None

    def set_params(self, params: dict[str, Any]) -> None:
        """Called by Keras as `fit`, `evaluate` or `predict` begins."""
        super().set_params(params)
        for checkpoint in self._checkpoints:
            checkpoint.set_params(params)

    def set_model(self, model: Any) -> None:
        """Called by Keras as `fit`, `evaluate` or `predict` begins."""
        super().set_model(model)
        self._fitting = False
        self._saver = _Saver(self._run, self.model)
        for checkpoint in self._checkpoints:
            checkpoint.set_model(model)

    # ── fit ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Report the config; go back to where the checkpoint is that was loaded, if one was."""
        self._fitting, self._totals_known = True, False
        self._run.config.update({"keras": _config(self.model, self.params)})
        self._forward("on_train_begin", logs)
        if self._checkpoints and self._saver is not None and not self._saver.loaded:
            self._begin_anew()

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Nothing is left to report."""
        self._fitting = False
        self._forward("on_train_end", logs)

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Say, in the first epoch, which steps are expected: where Keras goes on is known by now."""
        self._fitting = True
        if not self._totals_known:
            self._totals_known = True
            epochs, batches = (self.params or {}).get("epochs"), (self.params or {}).get("steps")
            if epochs is not None:
                self._run.counter("epoch", total=self._epoch.value + epochs - epoch)
                if batches is not None:
                    self._run.counter("global_step", total=self._global_step.value + (epochs - epoch) * batches)
        self._forward("on_epoch_begin", epoch, logs)

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Read the learning rate before the batch: after it, a schedule tells the next one's."""
        self._first_batch = batch
        done, every = self._global_step.value, self._log_every
        several = 1 if self._saver is None else self._saver.steps_per_execution
        self._due = (done + several - 1) // every > (done - 1) // every  # one of 1, n + 1, 2n + 1, … is among them
        if self._due:
            self._learning_rate = _learning_rate(self.model)
        self._forward("on_train_batch_begin", batch, logs)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Count the batch, or several (Keras' `steps_per_execution`, which tells a last one past the end); report."""
        batches = (self.params or {}).get("steps") or batch + 1
        self._global_step.increment(min(batch, batches - 1) - self._first_batch + 1)
        if self._due:
            figures = {f"train/{name}": value for name, value in (logs or {}).items()}
            if self._learning_rate is not None:
                figures["learning_rate"] = self._learning_rate
            self._global_step.log(figures)
        self._forward("on_train_batch_end", batch, logs)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Count the epoch and report it, validation included."""
        self._epoch.increment()
        self._epoch.log({_epoch_tag(name): value for name, value in (logs or {}).items()})
        self._forward("on_epoch_end", epoch, logs)

    # ── evaluate ─────────────────────────────────────────────────────────────────────────────────────────────────

    def on_test_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Report an `evaluate`; the validation inside `fit` comes with its epoch."""
        if not self._fitting and logs:
            self._evaluation.increment()
            self._evaluation.log({f"evaluation/{name}": value for name, value in logs.items()})

    # ── checkpoints ──────────────────────────────────────────────────────────────────────────────────────────────

    def _forward(self, hook: str, *arguments: Any) -> None:
        if not self._checkpoints or self._saver is None:
            return
        with self._saver.watching():
            for checkpoint in self._checkpoints:
                getattr(checkpoint, hook)(*arguments)

    def _begin_anew(self) -> None:
        """A job that was killed before its first checkpoint begins again, and so does its run."""
        state = self._run.state_dict()
        moved = {name for name in _STARTS if state.get(name, {}).get("moved")}  # by this process: an `evaluate` before
        if not moved & {"global_step", "epoch"} and not _iterations(self.model):
            starts = {name: 1 for name in _STARTS if name not in moved}
            self._run.rewind(starts, "no checkpoint to go on from")


def resume(run: Run, model: Any, checkpoint: str | os.PathLike[str]) -> bool:
    """Take a run back to where it was when a checkpoint was saved, which you have just loaded into `model`.

    For checkpoints loaded by hand (`load_model`, `load_weights`). Which of the saves it is, the model tells by its
    optimizer's `iterations`: a job may have been killed between the counters and the weights. Returns whether the
    counters of this save were found; if not, warns, and the run is left as it is.
    """
    path = _side_file(checkpoint)
    iterations = _iterations(model)
    for save in reversed(_saves(path)):
        if save.get("iterations") == iterations:
            with suppress(ConfigurationError):  # no counters: a file of somebody else's
                run.load_state_dict(save["counters"])
                return True
    run.tell_once(
        f"keras {path}",
        f"{path} knows nothing of a save after {iterations} iterations: the counters stay where they are."
        " If the training goes back, say to which step: run.rewind",
    )
    return False


class _Saver:
    """Watches a model's own `save` and `load` methods while its checkpoint callbacks are at work.

    That takes no more than public names of Keras, and so holds for whatever saves through the model.
    """

    def __init__(self, run: Run, model: Any) -> None:
        self.loaded = False
        self.steps_per_execution = int(getattr(model, "steps_per_execution", 1) or 1)
        self._run = run
        self._attributes = vars(model)
        self._watched: dict[str, Callable[..., Any]] = {
            "save": self._saving(model, model.save),
            "save_weights": self._saving(model, model.save_weights),
            "load_weights": self._loading(model, model.load_weights),
        }

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Until the block ends, saves and loads of the model are noticed."""
        before = {name: self._attributes[name] for name in self._watched if name in self._attributes}
        self._attributes.update(self._watched)
        try:
            yield
        finally:
            for name in self._watched:
                self._attributes.pop(name, None)
            self._attributes.update(before)

    def _saving(self, model: Any, save: Callable[..., Any]) -> Callable[..., Any]:
        def watched(filepath: Any, *arguments: Any, **options: Any) -> Any:
            self._run.flush(kept=True)
            if isinstance(filepath, str | os.PathLike):
                self._remember(model, filepath)
            return save(filepath, *arguments, **options)

        return watched

    def _loading(self, model: Any, load: Callable[..., Any]) -> Callable[..., Any]:
        def watched(filepath: Any, *arguments: Any, **options: Any) -> Any:
            loaded = load(filepath, *arguments, **options)
            self.loaded = True
            if isinstance(filepath, str | os.PathLike):
                resume(self._run, model, filepath)
            return loaded

        return watched

    def _remember(self, model: Any, filepath: str | os.PathLike[str]) -> None:
        """Before the weights are written: killed in between, the file knows both this save and the one before."""
        path, iterations = _side_file(filepath), _iterations(model)
        saves = [save for save in _saves(path) if save.get("iterations") != iterations]
        saves.append({"iterations": iterations, "counters": _STARTS | self._run.state_dict()})
        new = path.with_name(f"{path.name}.{os.getpid()}.new")
        try:
            new.write_text(json.dumps({"saves": saves[-SAVES_MAX:]}), encoding="utf-8")
            new.replace(path)
        except OSError as error:
            self._run.tell_once(f"keras {path}", f"the counters could not be saved beside the checkpoint: {error}")


def _side_file(checkpoint: str | os.PathLike[str]) -> Path:
    return Path(f"{os.fspath(checkpoint)}{SUFFIX}")


def _saves(path: Path) -> list[dict[str, Any]]:
    """What a file remembers, oldest first; nothing if there is no such file, or it is none of ours."""
    try:
        saves = json.loads(path.read_text(encoding="utf-8"))["saves"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [save for save in saves if isinstance(save, dict) and "counters" in save] if isinstance(saves, list) else []


def _iterations(model: Any) -> int | None:
    """The updates that the model's optimizer has made, which Keras saves with the weights; None without optimizer."""
    iterations = getattr(getattr(model, "optimizer", None), "iterations", None)
    return None if iterations is None else int(keras.ops.convert_to_numpy(iterations))


def _learning_rate(model: Any) -> float | None:
    optimizer = getattr(model, "optimizer", None)
    try:
        return None if optimizer is None else float(keras.ops.convert_to_numpy(optimizer.learning_rate))
    except Exception:  # noqa: BLE001 - an optimizer of somebody else's, or a learning rate for each group
        return None


def _epoch_tag(name: str) -> str:
    return f"val/{name.removeprefix('val_')}" if name.startswith("val_") else f"epoch/{name}"


def _config(model: Any, params: Mapping[str, Any] | None) -> dict[str, Any]:
    """Hyperparameters as far as Keras tells them: of the optimizer, the model and `fit`."""
    config: dict[str, Any] = {name: value for name, value in (params or {}).items() if name in ("epochs", "steps")}
    try:
        config["model"] = {"name": model.name, "parameters": model.count_params()}
        config["loss"] = getattr(model.loss, "name", None) or getattr(model.loss, "__name__", None) or str(model.loss)
        config["optimizer"] = model.optimizer.get_config()
    except Exception:  # noqa: BLE001 - training is never harmed by a model that can't describe itself
        return config
    return config
