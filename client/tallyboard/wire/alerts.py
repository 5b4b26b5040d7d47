"""Alerts as they come with a request: checked, and with the time that the server puts where none was told."""

import math
from collections.abc import Sequence

import msgspec

from tallyboard.wire import limits, names
from tallyboard.wire.checks import NO_WALL_TIME, InvalidBatchError, check_text, named, whole_step
from tallyboard.wire.messages import Alert


def checked_alerts(alerts: Sequence[Alert], now: float) -> tuple[Alert, ...]:
    """The alerts of a batch as they are kept. Raises InvalidBatchError. `now`: seconds since the epoch."""
    if len(alerts) > limits.ALERTS_PER_BATCH_MAX:
        raise InvalidBatchError("$.alerts", f"{len(alerts)} alerts; at most {limits.ALERTS_PER_BATCH_MAX} a batch")
    return tuple(checked_alert(alert, f"$.alerts[{index}]", now) for index, alert in enumerate(alerts))


def checked_alert(alert: Alert, path: str, now: float) -> Alert:
    """One alert as it is kept: with a wall time, and with steps as whole numbers. Raises InvalidBatchError."""
    named(f"{path}.title", names.check_title, alert.title)
    check_text(alert.text, f"{path}.text", limits.ALERT_TEXT_BYTES_MAX)
    wall_time = now if alert.wall_time is None else alert.wall_time
    if not math.isfinite(wall_time):
        raise InvalidBatchError(f"{path}.wall_time", NO_WALL_TIME)
    if len(alert.at) > limits.ALERT_COUNTERS_MAX:
        raise InvalidBatchError(f"{path}.at", f"{len(alert.at)} counters; at most {limits.ALERT_COUNTERS_MAX}")
    for name in alert.at:
        named(f"{path}.at", names.check_counter, name)
    at: dict[str, int | float] = {name: whole_step(step, f"{path}.at.{name}") for name, step in alert.at.items()}
    return msgspec.structs.replace(alert, wall_time=wall_time, at=at)
