"""Keeps the trouble of one run from harming the others: logged once per change, counted, retried ever more rarely."""

import errno
import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

logger = logging.getLogger(__name__)

SYSTEMIC: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.EIO, errno.ENOMEM}
)
"""Errors that are not one run's own: the disk is full, read-only or failing, or descriptors have run out."""
_RETRY_FIRST_S: Final = 0.5
_RETRY_MAX_S: Final = 60.0
_RETRY_SYSTEMIC_MAX_S: Final = 10.0
"""A disk with room again is made use of soon: reports have gone on meanwhile."""


@dataclass(slots=True)
class _Trouble:
    run: str
    failures: int
    retry_at: float
    message: str
    errno: int | None


@dataclass(slots=True)
class Try:
    """Something done for one run, and whether it failed."""

    failed: bool = False


class Troubles:
    """What is wrong with which run, and when to try again (monotonic clock)."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._by_run: dict[int, _Trouble] = {}
        self.errors_total = 0

    def __len__(self) -> int:
        return len(self._by_run)

    def __contains__(self, run_id: int) -> bool:
        return run_id in self._by_run

    @contextmanager
    def kept_to(self, run_id: int, name: str) -> Iterator[Try]:
        """Do something for one run; whatever goes wrong with it is noted, and the others go on."""
        done = Try()
        try:
            yield done
        except Exception as error:  # noqa: BLE001 - a fault in one run's files must not stop the other runs'
            done.failed = True
            self.note(run_id, name, error)

    def note(self, run_id: int, name: str, error: BaseException) -> None:
        """Remember that a run's files could not be written."""
        self.errors_total += 1
        message = f"{type(error).__name__}: {error}"
        known = self._by_run.get(run_id)
        failures = known.failures + 1 if known is not None else 1
        number = error.errno if isinstance(error, OSError) else None
        retry_max_s = _RETRY_SYSTEMIC_MAX_S if number in SYSTEMIC else _RETRY_MAX_S
        delay_s = min(retry_max_s, _RETRY_FIRST_S * 2 ** min(failures - 1, 16))
        self._by_run[run_id] = _Trouble(name, failures, self._clock() + delay_s, message, number)
        if known is None or known.message != message:
            unforeseen = not isinstance(error, OSError)
            logger.warning("event files of %s: %s", name, message, exc_info=error if unforeseen else None)

    def told(self, *, systemic: bool) -> list[str]:
        """Each run whose files can't be written, with the error; those that are one run's own, or the others."""
        return [f"{t.run}: {t.message}" for t in list(self._by_run.values()) if (t.errno in SYSTEMIC) == systemic]

    def is_own(self, run_id: int) -> bool:
        """Whether a run is in trouble for a reason that is its own, so that the others are not."""
        trouble = self._by_run.get(run_id)
        return trouble is not None and trouble.errno not in SYSTEMIC

    def any_of(self, errnos: Collection[int]) -> bool:
        """Whether some run is in trouble for such a reason."""
        return any(trouble.errno in errnos for trouble in self._by_run.values())

    def over(self, run_id: int, name: str) -> None:
        """A run's files were written again."""
        if self._by_run.pop(run_id, None) is not None:
            logger.info("event files of %s: all right again", name)

    def forget(self, run_id: int) -> None:
        """The run is gone."""
        self._by_run.pop(run_id, None)

    def retry_at(self, run_id: int) -> float:
        """When to try a run again; 0.0 if nothing is wrong with it."""
        trouble = self._by_run.get(run_id)
        return trouble.retry_at if trouble is not None else 0.0


def raised_by(call: Callable[[], None]) -> Exception | None:
    """Call it; what it raised, to be noted for the run in question."""
    try:
        call()
    except Exception as error:  # noqa: BLE001 - see Troubles.kept_to
        return error
    return None
