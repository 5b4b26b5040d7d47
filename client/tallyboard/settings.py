"""What a run is told from outside: arguments of `init` and the environment, read once into one frozen object."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, cast, get_args
from urllib.parse import urlsplit

from tallyboard.errors import ConfigurationError

Mode = Literal["online", "disabled"]
Ranks = Literal["zero", "all"]

DEFAULT_URL: Final = "http://127.0.0.1:6007"
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")


@dataclass(slots=True, frozen=True)
class Settings:
    """url: the service, without a trailing slash. run: name from TALLYBOARD_RUN. rank: of a distributed job."""

    url: str
    token: str | None
    run: str | None
    strict: bool
    mode: Mode
    rank: int | None


def read_settings(
    environ: Mapping[str, str],
    *,
    url: str | None = None,
    token: str | None = None,
    strict: bool = False,
    mode: str | None = None,
) -> Settings:
    """Join arguments and environment; arguments win, but TALLYBOARD_STRICT=1 makes any run strict.

    Raises ConfigurationError, saying which setting is wrong.
    """
    return Settings(
        url=_url(url or environ.get("TALLYBOARD_URL") or DEFAULT_URL),
        token=_token(token or environ.get("TALLYBOARD_TOKEN") or None),
        run=environ.get("TALLYBOARD_RUN") or None,
        strict=strict or environ.get("TALLYBOARD_STRICT", "").lower() in _TRUE,
        mode=_mode(mode or environ.get("TALLYBOARD_MODE") or "online"),
        rank=_rank(environ.get("RANK", "")),
    )


def _url(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError(f"url {url!r} is none; use for example {DEFAULT_URL} (TALLYBOARD_URL)")
    return url.rstrip("/")


def _token(token: str | None) -> str | None:
    if token is not None and not _TOKEN.fullmatch(token):
        raise ConfigurationError("the token holds spaces or characters that no HTTP header can carry")
    return token


def _mode(mode: str) -> Mode:
    if mode == "offline":
        raise ConfigurationError(
            "mode 'offline' needs a spool on disk, which this version does not have; use 'online' (an absent"
            " server does no harm: reports wait in memory) or 'disabled'"
        )
    if mode not in get_args(Mode):
        raise ConfigurationError(f"mode {mode!r} is none; use 'online' or 'disabled' (TALLYBOARD_MODE)")
    return cast("Mode", mode)


def _rank(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None
