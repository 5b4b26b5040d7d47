"""What parts of the training kit may be given: parameters become plain numbers, or are refused with what would do."""

import math
from typing import Any, Final

from tallyboard.collect.reports import as_step
from tallyboard.errors import ConfigurationError, InvalidReportError

LARGEST: Final = 1e100
"""Of parameters: far from where the product of two of them and a step (2^63 < 1e19) ends being finite."""


def finite(name: str, value: Any) -> float:
    """Any finite number (up to 1e100). Raises ConfigurationError."""
    try:
        number = math.nan if isinstance(value, str | bytes) else float(value)
    except Exception as error:  # a foreign __float__ may raise anything
        raise ConfigurationError(f"{name}={value!r:.60}: give a finite number") from error
    if not abs(number) <= LARGEST:
        raise ConfigurationError(f"{name}={value!r:.60}: give a finite number, at most {LARGEST:g}")
    return number


def at_least(least: float, name: str, value: Any) -> float:
    """A finite number, `least` or more. Raises ConfigurationError."""
    number = finite(name, value)
    if number < least:
        raise ConfigurationError(f"{name}={number:g}: give a finite number that is {least:g} or more")
    return number


def whole(least: int, name: str, value: Any) -> int:
    """A whole number of any type, `least` or more. Raises ConfigurationError."""
    try:
        number = as_step(value)
    except InvalidReportError as error:
        raise ConfigurationError(f"{name}={value!r:.60}: give a whole number, {least} or more") from error
    if number < least:
        raise ConfigurationError(f"{name}={number}: give a whole number, {least} or more")
    return number
