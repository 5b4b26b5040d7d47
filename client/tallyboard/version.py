"""The version of the distribution, which pyproject.toml repeats (a test holds them together)."""

from typing import Final

__version__: Final = "0.1.0"
