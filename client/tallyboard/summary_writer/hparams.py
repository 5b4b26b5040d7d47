"""Hyperparameters: those of the writer's run, and trials that are runs of their own."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from tallyboard import lifecycle
from tallyboard.run import Run
from tallyboard.summary_writer.logdirs import run_name

TRIALS_MAX: Final = 10_000
"""Trials of one writer."""
_OPEN_TIMEOUT_S: Final = 1.0
_EXIT_TIMEOUT_S: Final = 2.0


class Trials:
    """What one writer's calls of `add_hparams` are about."""

    def __init__(self) -> None:
        self._first: dict[str, Any] | None = None
        self._count = 1

    def checked(self, hparams: object, metrics: object) -> tuple[dict[str, Any], dict[str, float]]:
        """Both as they are kept, without what is None. Raises ValueError."""
        if not isinstance(hparams, Mapping) or not isinstance(metrics, Mapping):
            raise ValueError("hparam_dict and metric_dict are dictionaries")
        kept = {str(name): _plain(value) for name, value in hparams.items() if value is not None}
        return kept, {str(name): float(value) for name, value in metrics.items()}

    def is_new(self, hparams: dict[str, Any]) -> bool:
        """Whether these are another trial's than the first."""
        if self._first is None:
            self._first = hparams
        return hparams != self._first

    def report(
        self,
        run: str,
        name: str | None,
        hparams: dict[str, Any],
        metrics: dict[str, float],
        begin: Callable[..., Run],
    ) -> None:
        """Make a run of a trial: `run/name`. Raises ValueError if there were far too many."""
        self._count += 1
        if self._count > TRIALS_MAX:
            raise ValueError(f"more than {TRIALS_MAX:,} trials in one writer")
        child = begin(
            name=f"{run}/{run_name(name or f'hparams-{self._count}', '/')}",
            config=hparams,
            resume="new",
            next_steps={},
            own_next_steps={},
            open_timeout_s=_OPEN_TIMEOUT_S,
        )
        lifecycle.dismiss(child)
        child.summary.update(metrics)
        child.finish(timeout_s=_EXIT_TIMEOUT_S)


def _plain(value: Any) -> Any:
    return getattr(value, "__name__", str(value)) if callable(value) else value
