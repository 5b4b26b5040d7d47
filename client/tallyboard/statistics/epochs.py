"""Means over an epoch, reported on its counter, and the step that an iteration of an epoch is."""

from collections.abc import Mapping
from typing import Any

from tallyboard.collect.reports import as_scalars
from tallyboard.counter import Counter
from tallyboard.errors import ConfigurationError, InvalidReportError
from tallyboard.parameters import at_least, whole
from tallyboard.statistics.arrays import saved, saved_count


def epoch_step(epoch: int, iterations: int, i: int) -> int:
    """The global step of an epoch's iteration: epoch · iterations + i.

    epoch: 0 for the first. iterations: of each epoch. i: 0 to iterations; the iterations done, so that 1 is the first
    update's. Raises ConfigurationError (a ValueError) for others.
    """
    per_epoch = whole(1, "iterations", iterations)
    done = whole(0, "i", i)
    if done > per_epoch:
        raise ConfigurationError(f"i={done}: an epoch has {per_epoch} iterations; is `iterations` too small?")
    return whole(0, "epoch", epoch) * per_epoch + done


class EpochTotals:
    """Weighted means of an epoch's losses and other scalars, with the global step that comes with each iteration.

        totals = EpochTotals(len(batches), run.counter("epoch"))
        for batch in batches:
            global_step.set(totals.add({"epoch/loss": train_on(batch)}, weight=len(batch)))
        totals.end()  # epoch.increment(), and the means reported on it

    The epoch counts from its counter: the value is the number of epochs that are over. A tag belongs to one counter, so
    those of an epoch are others than those of a step. A NaN or an infinity makes the mean of its epoch one that is not
    finite. Not thread-safe.
    """

    def __init__(self, iterations: int, epoch: Counter) -> None:
        """Raises ConfigurationError (a ValueError) unless iterations is at least 1."""
        self._iterations = whole(1, "iterations", iterations)
        self._epoch = epoch
        self._done = 0
        self._means: dict[str, float] = {}
        self._weights: dict[str, float] = {}

    @property
    def step(self) -> int:
        """The global step: epochs over · iterations, and the iterations since."""
        return epoch_step(self._epoch.value, self._iterations, self._done)

    @property
    def means(self) -> dict[str, float]:
        """Of each tag, sum of weight · value / sum of weights in this epoch; tags without weight are left out."""
        return dict(self._means)

    def add(self, scalars: Mapping[str, Any], weight: float = 1.0) -> int:
        """Take in an iteration's scalars, by tag, and return its global step.

        weight: 0 or more, such as the size of the batch. Raises ConfigurationError (a ValueError), before anything is
        changed, for what is no number, and for more iterations than an epoch has.
        """
        share = at_least(0.0, "weight", weight)
        try:
            values, complaints = as_scalars(scalars)
        except InvalidReportError as error:
            raise ConfigurationError(str(error)) from error
        if complaints:
            raise ConfigurationError("; ".join(complaints))
        step = epoch_step(self._epoch.value, self._iterations, self._done + 1)
        self._done += 1
        if share > 0.0:
            for tag, value in values.items():
                self._add(tag, value, share)
        return step

    def end(self) -> dict[str, float]:
        """End the epoch: move its counter on by one, report the means there, and begin the next. Returns the means."""
        means = self._means
        self.reset()
        self._epoch.increment()
        if means:
            self._epoch.log(means)
        return means

    def reset(self) -> None:
        """Begin the epoch again."""
        self._done, self._means, self._weights = 0, {}, {}

    def state_dict(self) -> dict[str, Any]:
        """What it has taken in of this epoch, for the checkpoint: plain JSON. The run's own state holds the counter."""
        return {"done": self._done, "means": dict(self._means), "weights": dict(self._weights)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from such a state. Raises ConfigurationError, before anything is changed, if it is none."""
        done, means, weights = saved(state, "done", "means", "weights")
        try:
            (values, wrong), (shares, wrong_too) = as_scalars(means), as_scalars(weights)
        except InvalidReportError as error:
            raise ConfigurationError(f"not such a state: {error}") from error
        if wrong or wrong_too or set(values) != set(shares) or saved_count(done) > self._iterations:
            raise ConfigurationError(f"not the state of an epoch of {self._iterations} iterations: {state!r:.200}")
        sums = {tag: at_least(0.0, f"weight of {tag!r}", share) for tag, share in shares.items()}
        self._done, self._means, self._weights = int(done), values, sums

    def _add(self, tag: str, value: float, weight: float) -> None:
        total = self._weights.get(tag, 0.0) + weight
        mean = self._means.get(tag, 0.0)
        self._weights[tag] = total
        self._means[tag] = mean + (value - mean) * (weight / total)
