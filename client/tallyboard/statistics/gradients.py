"""Norms of gradients: of each variable's, of all together, and of the running mean of each."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

from tallyboard.errors import ConfigurationError
from tallyboard.statistics.arrays import Floats, as_floats, check_shape, norm
from tallyboard.statistics.averages import RunningMean

PREFIX: Final = "gradients"


class Log(Protocol):
    """A run (each tag goes where `init(counters=…)` says) or a counter."""

    def log(self, scalars: Mapping[str, Any]) -> None:
        """Report scalars."""
        ...


class GradientNorms:
    """Reports, for each variable, the Euclidean norm of its gradient and that of its gradients' running mean.

    `<prefix>/<name>/norm` is of the step's gradient, `<prefix>/<name>/mean_norm` of the mean of all since the last
    `reset` (far below `norm` where gradients point everywhere, close to it where they agree), `<prefix>/global_norm`
    of all the step's gradients as one vector.

    A gradient that holds a NaN or an infinity has a norm that is not finite, which is reported, and is left out of the
    mean: steps that a loss scaler skips do not spoil it. means=False keeps no means, which take 8 bytes a parameter.
    Not thread-safe.
    """

    def __init__(self, where: Log, prefix: str = PREFIX, *, means: bool = True) -> None:
        self._where = where
        self._prefix = prefix
        self._keeps_means = means
        self._means: dict[str, RunningMean] = {}

    def update(self, gradients: Mapping[str, Any] | Iterable[tuple[str, Any]], *, log: bool = True) -> dict[str, float]:
        """Take in a step's gradients by variable, report and return their norms by tag; log=False: return alone.

        A gradient is an array, or a tensor of any device; None is left out. Of PyTorch:
        `norms.update(((name, p.grad) for name, p in model.named_parameters()), log=global_step.every(10))`.

        Raises ConfigurationError (a ValueError), before anything is changed, for what is no numbers, or has another
        shape than before.
        """
        pairs = gradients.items() if isinstance(gradients, Mapping) else gradients
        arrays = {name: as_floats(g, f"the gradient of {name!r}") for name, g in pairs if g is not None}
        for name, array in arrays.items():
            shape = self._means[name].shape if name in self._means else None
            check_shape(array, array.shape if shape is None else shape, f"the gradient of {name!r}")
        scalars: dict[str, float] = {}
        norms = [self._take(name, array, scalars) for name, array in arrays.items()]
        if norms:
            scalars[f"{self._prefix}/global_norm"] = math.hypot(*norms)
        if log and scalars:
            self._where.log(scalars)
        return scalars

    def mean(self, name: str) -> "float | Floats | None":
        """The mean gradient of a variable; None if there is none yet, or means are not kept."""
        return self._means[name].mean if name in self._means else None

    def reset(self) -> None:
        """Begin new means, as at the beginning of an epoch."""
        self._means.clear()

    def state_dict(self) -> dict[str, Any]:
        """The means, for the checkpoint: a state of RunningMean by variable."""
        return {name: mean.state_dict() for name, mean in self._means.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from such a state. Raises ConfigurationError, before anything is changed, if it is none."""
        if not isinstance(state, Mapping):
            raise ConfigurationError(f"not such a state: {type(state).__name__} is no dictionary of means")
        means = {name: RunningMean() for name in state}
        for name, mean in means.items():
            mean.load_state_dict(state[name])
        self._means = means if self._keeps_means else {}

    def _take(self, name: str, array: Floats, scalars: dict[str, float]) -> float:
        """Take in one gradient: adds its scalars, and returns its norm."""
        length = scalars[f"{self._prefix}/{name}/norm"] = norm(array)
        if self._keeps_means:
            mean = self._means.setdefault(name, RunningMean())
            if math.isfinite(length):
                mean.update(array)
            if mean.count:
                scalars[f"{self._prefix}/{name}/mean_norm"] = mean.norm()
        return length
