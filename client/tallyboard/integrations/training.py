"""What all integrations share: a framework's training as one run, that follows it through checkpoints and restarts."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tallyboard import lifecycle
from tallyboard.errors import ConfigurationError
from tallyboard.integrations.checkpoints import Saved, note, noted
from tallyboard.outbox.stream import new_id
from tallyboard.run import Run
from tallyboard.start import init_beside
from tallyboard.wire import DEFAULT_COUNTER, Resume, names

GLOBAL_STEP: Final = DEFAULT_COUNTER
EPOCH: Final = "epoch"
EVALUATION: Final = "evaluation"
_OWN: Final = "tag"
"""In `homes`: the tag has a counter to itself."""
_BEGUN_ANEW: Final = frozenset({GLOBAL_STEP, EPOCH, EVALUATION, names.ALL_IMPLICIT})
_AT_THE_START: Final[dict[str, int | bool]] = {"value": 0, "next_step": 0, "moved": False}
_CHECKPOINTS_MAX: Final = 16
"""Checkpoints at one step that are remembered: the best, the last, one in an epoch's end, …"""
_EXIT_TIMEOUT_S: Final = 10.0
_KEEP_TIMEOUT_S: Final = 5.0
"""How long a checkpoint may wait, at worst: a disk takes what was reported in milliseconds."""


class Training:
    """Of the process that reports; the others of a distributed job never `begin` it.

    A run that is given, or is the process's own already (`tallyboard.init`), is left to whoever made it. Any other is
    made when the training begins, since only then it is known whether it goes on, and finished at exit.
    """

    def __init__(self, name: str | None, run: Run | None, resume: Resume | None) -> None:
        """resume: None goes on with the checkpoint's run when a training is resumed, and begins one otherwise."""
        if run is not None and (name is not None or resume is not None):
            raise ConfigurationError("give a run, or the name of one and how it is resumed, but not both")
        self.name: Final = name
        self.resume: Final = resume
        self._run = run
        self._made = False
        self._anew = False
        self._found: frozenset[str] = frozenset()
        self._asked: str | None = None
        self._offsets: dict[str, int] = {}
        self._floors: dict[str, int] = {}
        self._homes: dict[str, str] = {}
        self._folder: Path | None = None
        self._checkpoints: list[Saved] = []
        self._saving: Saved | None = None

    @property
    def run(self) -> Run | None:
        """None until it is begun."""
        return self._run

    def wanted(self, default: str) -> str:
        """What the run is to be called: by the caller, the environment, or else."""
        return self.name or os.environ.get("TALLYBOARD_RUN") or default

    # ── beginning, and going back ────────────────────────────────────────────────────────────────────────────────

    def begin(self, default: str, *, stable: bool, saved: Saved | None = None) -> Run:
        """The run; made if there is none yet.

        default: its name, if nobody said one; stable: a restarted job would find the same. saved: by the checkpoint
        from which the training is resumed.
        """
        if self._run is not None:
            return self._run
        wanted = self.wanted(default)
        self._asked = wanted if stable or wanted != default else None
        if self.name is None and (active := lifecycle.active()) is not None:
            self._run = active
            return active
        name = saved.run if saved is not None and saved.asked == self._asked else wanted
        resume = self.resume or ("new" if saved is None else "continue")
        run = init_beside(
            name, default, resume=resume, next_steps={}, own_next_steps={}, counters={}, mode=None, ranks="zero",
            strict=False, url=None, token=None, spool_dir=None, exit_timeout_s=_EXIT_TIMEOUT_S,
        )  # fmt: skip
        self._run, self._made, self._anew = run, True, resume != "new"
        self._found = frozenset(run.state_dict())
        return run

    def finish(self) -> None:
        """Finish the run if it was made here; the next training begins one of its own."""
        if self._run is not None and self._made:
            lifecycle.dismiss(self._run)
            self._run.finish("failed" if self._run.crashed else "finished")
            self._run, self._made = None, False
            self._offsets, self._floors, self._homes = {}, {}, {}

    def put_back(self, saved: Saved, folder: Path | None) -> None:
        """Rewind to a checkpoint: to the end of its step, if that was noted in the folder where it lies."""
        if self._run is None:
            return
        saved = noted(folder, saved)
        self._anew = False
        later = (_BEGUN_ANEW | self._run.state_dict().keys()) - saved.counters.keys()  # counters that began after it
        try:
            self._run.load_state_dict(dict.fromkeys(later, _AT_THE_START) | saved.counters)
        except ConfigurationError as error:
            self._run.tell_once("checkpoint", f"the counters stay where they are: {error}")
            return
        self._offsets, self._homes = dict(saved.offsets), dict(saved.homes)
        self._floors = {name: int(state["next_step"]) for name, state in saved.counters.items()}

    def start(self, stands: Mapping[str, int], totals: Mapping[str, int]) -> None:
        """A training starts. totals: the framework's counts when it ends, of what is known.

        stands: its counts now, if no checkpoint told where they stand: what begins at 0 once more goes on from where
        the counter is.
        """
        self.begin_anew()
        if self._run is None:
            return
        for name, value in stands.items():
            counter = self._run.counter(name)
            self._offsets[name] = max(0, counter.value - value)
            counter.set(self._offsets[name] + value)
        for name, total in totals.items():
            self._run.counter(name, total=self._offsets.get(name, 0) + total)

    def begin_anew(self) -> None:
        """A training starts from scratch in a run that is continued: what the run holds is superseded.

        But not what this process has added (an evaluation before the training).
        """
        if self._run is not None and self._anew:
            self._anew = False
            own = set(self._run.state_dict()) - self._found
            self._run.rewind(dict.fromkeys((_BEGUN_ANEW | self._found) - own, 0), "begun anew")

    # ── reports ──────────────────────────────────────────────────────────────────────────────────────────────────

    def at(self, name: str, value: int) -> None:
        """The framework counts so many."""
        if self._run is None:
            return
        counter = self._run.counter(name)
        step = self._offsets.get(name, 0) + value
        if step != counter.value:
            counter.set(step)

    def log(self, values: Mapping[str, Any], name: str, step: int | None = None, *, noted: bool = True) -> None:
        """Report on a counter, at the framework's step or where the counter stands.

        What lies before the checkpoint that was resumed from is there already. noted: it is part of the step of the
        last checkpoint, if that is not over.
        """
        if self._run is None or not values:
            return
        counter = self._run.counter(name)
        number = counter.value if step is None else self._offsets.get(name, 0) + step
        if number < self._floors.get(name, 0):
            return
        if name == GLOBAL_STEP and number > counter.value:
            self.move_on()
        self._run.log({self._tag(tag, name): value for tag, value in values.items()}, number, counter=name)
        if noted:
            self._note()

    def log_evaluation(self, values: Mapping[str, Any], *, another: bool = True) -> None:
        """Report on `evaluation`. another: it is not the one that was reported last."""
        if another:
            self.log_next(values, EVALUATION, noted=True)
        else:
            self.log(values, EVALUATION)

    def log_next(self, values: Mapping[str, Any], name: str, *, noted: bool = False) -> None:
        """Report on a counter that counts the reports themselves."""
        if self._run is not None and values:
            self._run.counter(name).increment()
            self.log(values, name, noted=noted)

    def log_apart(self, values: Mapping[str, Any], step: int | None) -> None:
        """Report each tag on a counter of its own: their step is nothing that we know."""
        if self._run is not None:
            for tag, value in values.items():
                free = self._homes.setdefault(tag, _OWN) == _OWN
                name = tag if free else f"{_OWN}/{tag}"
                self._run.log({name: value}, step, counter=names.implicit_counter(name))
            self._note()

    def _tag(self, tag: str, counter: str) -> str:
        """A tag belongs to one counter: what is logged with everything (`epoch`) is `evaluation/epoch` elsewhere."""
        return tag if self._homes.setdefault(tag, counter) == counter else f"{counter}/{tag}"

    # ── checkpoints ──────────────────────────────────────────────────────────────────────────────────────────────

    def save(self) -> Saved | None:
        """For a checkpoint, at the moment of its saving. What was reported before is on disk when this returns."""
        self._saving = self._now()
        return self._saving

    def saved(self, folder: Path | None) -> None:
        """The checkpoint is complete, in that folder if it is on a disk of this machine."""
        if self._saving is not None:
            self._folder = folder
            self._checkpoints = [*self._checkpoints, self._saving][-_CHECKPOINTS_MAX:]
            self._saving = None

    def move_on(self) -> None:
        """The step of the last checkpoint is over: a job that is resumed from there does again what follows."""
        self._checkpoints = []

    def end(self) -> None:
        """The training is over. What was reported is on disk when this returns."""
        self.move_on()
        if self._run is not None:
            self._run.flush(_KEEP_TIMEOUT_S, kept=True)

    def _now(self) -> Saved | None:
        run = self._run
        if run is None:
            return None
        run.flush(_KEEP_TIMEOUT_S, kept=True)
        return Saved(new_id(), run.name, self._asked, run.state_dict(), dict(self._offsets), dict(self._homes))

    def _note(self) -> None:
        """Something was reported at the step of a checkpoint after it was saved."""
        if self._run is None or not self._checkpoints or self._folder is None:
            return
        now = self._now()
        try:
            if now is not None and self._folder.is_dir():
                note(self._folder, self._checkpoints, now)
        except OSError as error:
            self._run.tell_once("note", f"can't note what came after the checkpoint: {error}")
