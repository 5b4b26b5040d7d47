"""What is wrong with a report: said once for each line that makes it, or raised there if the run is strict."""

from typing import Final

from tallyboard.collect.counters import Demand
from tallyboard.collect.stats import Tally
from tallyboard.collect.tracking import CounterState, Violation
from tallyboard.errors import ContractError, InvalidReportError, contract_error
from tallyboard.notices import Notices, caller_line
from tallyboard.remedies import ahead, exists, missing, stands, unlogged, unplaced
from tallyboard.wire import limits, names

COMPLAINTS_MAX: Final = 3
"""Values that one warning names."""


class Complaints:
    """Guarded by the recorder's lock."""

    def __init__(self, notices: Notices, tally: Tally, *, strict: bool) -> None:
        self._notices = notices
        self._tally = tally
        self._strict = strict
        self._pending: ContractError | None = None

    def violated(self, counter: str, violation: Violation) -> None:
        """A report breaks a rule of the contract. Raises ContractError if the run is strict."""
        if self._strict:
            raise contract_error(violation.reason, violation.detail)
        where = caller_line()
        self._tally.violation(counter, violation.reason)
        self._notices.warn_once((names.gathered(counter), violation.reason, where), f"{violation.detail} ({where})")

    def values(self, complaints: list[str]) -> None:
        """Values of a report are left out. Raises InvalidReportError if the run is strict."""
        self._tally.drop_scalars(len(complaints))
        self._invalid("scalars", "; ".join(complaints[:COMPLAINTS_MAX]))

    def dropped(self, error: Exception) -> None:
        """A report makes no sense as a whole. Raises InvalidReportError if the run is strict."""
        self._invalid("report", f"a report was dropped: {error}", error)
        self._tally.drop_reports(1)

    def unmoved(self, counter: str, error: Exception) -> None:
        """A counter was given a step that is none. Raises InvalidReportError if the run is strict."""
        self._invalid("move", f"{counter} was not moved: {error}", error)

    def ahead(self, state: CounterState, number: int) -> None:
        """The service has steps beyond where a counter stands. Raises ContractError if the run is strict."""
        text = ahead(state.name, number, state.server_last)
        if self._strict:
            raise contract_error("step_decreased", text)
        where = caller_line()
        self._notices.warn_once(("ahead", state.name, where), f"{text} ({where})")

    def unplaced(self, counter: str) -> None:
        """A counter counts before it is known where it stands."""
        self._notices.warn_once(("unplaced", names.gathered(counter)), unplaced(counter))

    def unlogged(self, counter: str, tag: str) -> None:
        """A schedule is to be reported on a counter that nobody has moved."""
        self._notices.warn_once(("stands", counter), f"{unlogged(counter, tag)} ({caller_line()})")

    def stands(self, state: CounterState, times: str) -> None:
        """A counter never moved, through so many reports or readings; nothing is raised: each of them was right."""
        where = caller_line()
        self._notices.warn_once(("stands", state.name), f"{stands(state.name, state.value, times)} ({where})")

    def unmet(self, demand: Demand) -> None:
        """A counter that was to be new is there already, or one that was to be there is not."""
        said = exists(demand.counter) if demand.create == "new" else missing(demand.counter)
        self._notices.warn_once(("unmet", demand.counter), f"{said} ({demand.where})")

    def full(self, bytes_max: int) -> None:
        """There is no room for a report."""
        self._tally.drop_reports(1)
        self._notices.warn_once(
            ("full",),
            f"more than {bytes_max / limits.MIB:.0f} MiB wait to be sent; the newest reports are dropped until there is"
            " room again",
        )

    def alert_dropped(self, why: str) -> None:
        """There is no room for an alert, or nothing is sent any more."""
        self._tally.drop_alert()
        self._notices.warn_once(("alert dropped", why), f"an alert was dropped: {why}")

    def alert_invalid(self, error: Exception) -> None:
        """An alert makes no sense. Raises InvalidReportError if the run is strict."""
        self._tally.drop_alert()
        self._invalid("alert", f"an alert was dropped: {error}", error)

    def alert_bug(self) -> None:
        """An alert is lost by an error of the client's own, which is being handled."""
        self._notices.bug("alert")
        self._tally.drop_alert()

    def closed(self, why: str) -> None:
        """A report comes after the end."""
        self._tally.drop_reports(1)
        self._notices.warn_once(("closed",), f"{why}; later reports are not sent")

    def bug(self) -> None:
        """A report is lost by an error of the client's own, which is being handled."""
        self._notices.bug("log")
        self._tally.drop_reports(1)

    def unencodable(self) -> None:
        """A recorded report can't be encoded for the way, by an error that is being handled."""
        self._notices.bug("encoding")
        self._tally.rejected(1)

    def fail(self, error: ContractError) -> bool:
        """Have the next call of a strict run raise what only the server could tell. Returns whether it will."""
        if not self._strict or self._pending is not None:
            return False
        self._pending = error
        return True

    def raise_pending(self) -> None:
        """Raise what `fail` left, once."""
        error, self._pending = self._pending, None
        if error is not None:
            raise error

    def after_fork(self) -> None:
        """In a forked child, where locks may be held by a thread that is not there."""
        self._notices.after_fork()
        self._tally.after_fork()

    def _invalid(self, what: str, complaint: str, cause: Exception | None = None) -> None:
        if self._strict:
            raise InvalidReportError(complaint) from cause
        where = caller_line()
        self._notices.warn_once((what, where), f"{complaint} ({where})")
