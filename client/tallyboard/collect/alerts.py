"""What a training has to say to people: checked, cut to size, and told on the spot, a bounded number of times."""

import re
from typing import Any, Final, get_args

from tallyboard.errors import InvalidReportError
from tallyboard.notices import Notices
from tallyboard.wire import Alert, Level, limits

TOLD_MAX: Final = 100
"""Alerts that a run repeats on its own terminal; more would bury what else is said there."""
LEVELS: Final[tuple[Level, ...]] = get_args(Level)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def as_alert(title: object, text: object, level: Any, *, wall_time: float, at: dict[str, int | float]) -> Alert:
    """An alert that the service takes; what is too long ends in an ellipsis. Raises InvalidReportError."""
    if level not in LEVELS:
        raise InvalidReportError(f"an alert's level is one of {', '.join(LEVELS)}, not {level!r:.60}")
    if not isinstance(title, str) or not isinstance(text, str):
        wrong = title if not isinstance(title, str) else text
        raise InvalidReportError(f"an alert's title and text are strings, not {type(wrong).__name__}")
    line = _CONTROL.sub(" ", title).strip()
    if not line:
        raise InvalidReportError("an alert needs a title")
    return Alert(
        title=_cut(line, limits.ALERT_TITLE_BYTES_MAX),
        text=_cut(text, limits.ALERT_TEXT_BYTES_MAX),
        level=level,
        wall_time=wall_time,
        at=at,
    )


def _cut(text: str, bytes_max: int) -> str:
    """The text, or as much of its beginning as fits with an ellipsis; without lone surrogates."""
    whole = text.encode(errors="replace")
    if len(whole) <= bytes_max:
        return whole.decode()
    return f"{whole[: bytes_max - 3].decode(errors='ignore')}…"


class Teller:
    """Tells alerts to who sits at the terminal. Guarded by the recorder's lock."""

    def __init__(self, notices: Notices) -> None:
        self._notices = notices
        self._told = 0

    def tell(self, alert: Alert) -> None:
        """Tell an alert, unless this many were told."""
        self._told += 1
        if self._told > TOLD_MAX:
            self._notices.warn_once(("alerts",), f"the run has raised {TOLD_MAX} alerts; more are sent, not told here")
            return
        say = self._notices.say if alert.level == "info" else self._notices.warn
        say(f"alert ({alert.level}): {alert.title}" + (f" · {alert.text}" if alert.text else ""))
