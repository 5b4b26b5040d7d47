"""Every exception that the client raises on purpose.

TallyboardError
├── ConfigurationError          init, a schedule, … was asked for what can't be had (also a ValueError)
├── RunNotFoundError            resume="must" or `read`, and there is no such run
├── ReadError                   `read` got no answer, a refusal, or not all
└── ContractError               strict only: a report that the step contract does not take
    ├── InvalidReportError      a name, step or value that is none
    ├── StepDecreasedError
    ├── TagRepeatedError
    ├── TagOfOtherCounterError
    ├── TagOfOtherKindError     the tag holds images, say, and no scalars
    ├── CounterTakenError       another writer reports on the counter (told by the server)
    └── RunLimitError           the run has too many tags or counters (told by the server)
"""

from typing import ClassVar

from tallyboard.wire import Reason


class TallyboardError(Exception):
    """Base of all of them."""


class ConfigurationError(TallyboardError, ValueError):
    """`tallyboard.init`, the environment, or a part's parameter asks for what can't be had; says what would do."""


class RunNotFoundError(TallyboardError):
    """The run to go on with does not exist, and `resume="must"` said that it has to; or the run to be read."""


class ReadError(TallyboardError):
    """`tallyboard.read` could not read: no service answers, it refuses, the answer broke off, or it is too much."""


class ContractError(TallyboardError):
    """A report that the step contract refuses; raised only with `strict=True` or `TALLYBOARD_STRICT=1`.

    `reason` is the stable name that refusals have on the wire (`invalid` for a report that can't be sent at all).
    """

    reason: ClassVar[str] = "contract"


class InvalidReportError(ContractError):
    """A tag, counter, step, wall time or value that is none, so that it could not even be sent."""

    reason = "invalid"


class StepDecreasedError(ContractError):
    """The step is smaller than the counter's last one."""

    reason = "step_decreased"


class TagRepeatedError(ContractError):
    """The tag was reported at this step already, with another value."""

    reason = "tag_repeated"


class TagOfOtherCounterError(ContractError):
    """The tag is reported against another counter of the run."""

    reason = "tag_of_other_counter"


class TagOfOtherKindError(ContractError):
    """The tag is of another kind in this run: scalars, images, text, …"""

    reason = "tag_of_other_kind"


class CounterTakenError(ContractError):
    """Another writer reports on this counter."""

    reason = "counter_taken"


class RunLimitError(ContractError):
    """The run has as many tags or counters as a run can have."""

    reason = "run_limit"


_BY_REASON: dict[Reason, type[ContractError]] = {
    "step_decreased": StepDecreasedError,
    "tag_repeated": TagRepeatedError,
    "tag_of_other_counter": TagOfOtherCounterError,
    "tag_of_other_kind": TagOfOtherKindError,
    "counter_taken": CounterTakenError,
    "too_many_tags": RunLimitError,
    "too_many_counters": RunLimitError,
}


def contract_error(reason: Reason, detail: str) -> ContractError:
    """The exception for a refusal's reason."""
    return _BY_REASON[reason](detail)
