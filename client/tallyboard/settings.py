"""What a run is told from outside: arguments of `init` and the environment, read once into one frozen object."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, cast, get_args
from urllib.parse import urlsplit

from tallyboard.errors import ConfigurationError
from tallyboard.outbox.spool import DISK_BYTES_MAX, Policy
from tallyboard.parameters import choice

Mode = Literal["online", "offline", "disabled"]
Ranks = Literal["zero", "all"]

DEFAULT_URL: Final = "http://127.0.0.1:6007"
SYSTEM_EVERY_S: Final = 15.0
"""How often the machine's load is sampled, unless somebody says how often, or that it is not."""
SYSTEM_EVERY_S_MIN: Final = 1.0
SYSTEM_EVERY_S_MAX: Final = 24 * 3600.0
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")


@dataclass(slots=True, frozen=True)
class Settings:
    """url: the service, without a trailing slash; url_given: somebody chose it. run: name from TALLYBOARD_RUN.

    ca_file: authorities that vouch for its certificate (None: the system's).

    rank: of a distributed job. spool_dir: where unsent batches are kept (None: there is no place); spool: when.
    system_every_s: how often the machine's load is sampled (None: never).
    """

    url: str
    url_given: bool
    token: str | None
    ca_file: str | None
    run: str | None
    strict: bool
    mode: Mode
    rank: int | None
    spool_dir: Path | None
    spool: Policy
    spool_bytes_max: int
    system_every_s: float | None

    @property
    def leads(self) -> bool:
        """Whether this process speaks for its job: alone, or as rank 0."""
        return self.rank in (None, 0)


def read_settings(
    environ: Mapping[str, str],
    *,
    url: str | None = None,
    token: str | None = None,
    ca_file: str | os.PathLike[str] | None = None,
    strict: bool = False,
    mode: str | None = None,
    spool_dir: str | os.PathLike[str] | None = None,
    system_metrics: bool | float | None = None,
) -> Settings:
    """Join arguments and environment; arguments win, but TALLYBOARD_STRICT=1 makes any run strict.

    Raises ConfigurationError, saying which setting is wrong.
    """
    chosen = url or environ.get("TALLYBOARD_URL")
    return Settings(
        url=service_url(chosen or DEFAULT_URL),
        url_given=bool(chosen),
        token=service_token(token or environ.get("TALLYBOARD_TOKEN") or None),
        ca_file=service_ca_file(ca_file, environ),
        run=environ.get("TALLYBOARD_RUN") or None,
        strict=strict or environ.get("TALLYBOARD_STRICT", "").lower() in _TRUE,
        mode=_mode(mode or environ.get("TALLYBOARD_MODE") or "online"),
        rank=_rank(environ.get("RANK", "")),
        spool_dir=Path(spool_dir) if spool_dir is not None else default_spool_dir(environ),
        spool=_policy(environ.get("TALLYBOARD_SPOOL") or "spill"),
        spool_bytes_max=_bytes(environ.get("TALLYBOARD_SPOOL_BYTES_MAX") or str(DISK_BYTES_MAX)),
        system_every_s=_system(environ.get("TALLYBOARD_SYSTEM_METRICS") if system_metrics is None else system_metrics),
    )


def default_spool_dir(environ: Mapping[str, str]) -> Path | None:
    """TALLYBOARD_SPOOL_DIR, else where this user keeps the state of programs; None if the user has no such place."""
    if chosen := environ.get("TALLYBOARD_SPOOL_DIR"):
        return Path(chosen)
    if state := environ.get("XDG_STATE_HOME"):
        return Path(state, "tallyboard", "spool")
    home = environ.get("HOME") or os.path.expanduser("~")  # noqa: PTH111 - Path.home raises where there is none
    return Path(home, ".local", "state", "tallyboard", "spool") if Path(home).is_absolute() else None


def service_url(url: str) -> str:
    """The address of a service, without a trailing slash. Raises ConfigurationError if it is none."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError(f"url {url!r} is not one of a service; use for example {DEFAULT_URL} (TALLYBOARD_URL)")
    return url.rstrip("/")


def service_token(token: str | None) -> str | None:
    """The token, if a header can carry it. Raises ConfigurationError."""
    if token is not None and not _TOKEN.fullmatch(token):
        raise ConfigurationError("the token holds spaces or characters that no HTTP header can carry")
    return token


def service_ca_file(ca_file: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> str | None:
    """The file of authorities that was given, else TALLYBOARD_CA_FILE's. Raises ConfigurationError if it is none."""
    chosen = os.fspath(ca_file) if ca_file is not None else environ.get("TALLYBOARD_CA_FILE") or None
    if chosen is not None:
        from tallyboard.wire.trust import ca_file_fault  # here: few give one, and it loads OpenSSL

        if (fault := ca_file_fault(chosen)) is not None:
            raise ConfigurationError(fault)
    return chosen


def _mode(mode: str) -> Mode:
    choice("mode", mode, get_args(Mode), "TALLYBOARD_MODE")
    return cast("Mode", mode)


def _policy(policy: str) -> Policy:
    choice("spool policy", policy, get_args(Policy), "TALLYBOARD_SPOOL")
    return cast("Policy", policy)


def _bytes(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ConfigurationError(f"TALLYBOARD_SPOOL_BYTES_MAX={text} is no number of bytes")
    return int(text)


def _system(chosen: object) -> float | None:
    """Seconds between two samples; None for never. A True, and nothing said, means the usual ones."""
    if isinstance(chosen, str):
        chosen = chosen.lower() in _TRUE if chosen.lower() in _TRUE | _FALSE else _seconds(chosen)
    if chosen is None or isinstance(chosen, bool):
        return None if chosen is False else SYSTEM_EVERY_S
    if not isinstance(chosen, int | float) or not SYSTEM_EVERY_S_MIN <= chosen <= SYSTEM_EVERY_S_MAX:
        raise ConfigurationError(
            f"system_metrics {chosen!r} is neither on nor off: use True, False or the seconds between two samples,"
            f" {SYSTEM_EVERY_S_MIN:g} to {SYSTEM_EVERY_S_MAX:,.0f} (TALLYBOARD_SYSTEM_METRICS: 1, 0, or seconds)"
        )
    return float(chosen)


def _seconds(text: str) -> float | str | None:
    try:
        return float(text) if text else None
    except ValueError:
        return text


def _rank(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None
