"""Where event files go when that is no directory of this machine: the URL of a prefix in an object storage."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_CONTROL: Final = re.compile(r"[\x00-\x20\x7f]")
_BUCKETLESS: Final = frozenset({"file", "local", "memory"})


@dataclass(slots=True, frozen=True)
class ObjectUrl:
    """scheme://bucket/prefix, as fsspec takes it, without a slash at its end. It never holds credentials."""

    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def scheme(self) -> str:
        """s3, gs, abfs, file, …"""
        return self.text.partition("://")[0].lower()


def parse_logdir(text: str) -> Path | ObjectUrl:
    """A directory, or with a scheme the URL of a prefix; ValueError (which does not repeat the text) if it can't be."""
    if not _SCHEME.match(text):
        if "://" in text:
            raise ValueError("a URL begins with its scheme: s3://bucket/prefix")
        return Path(text)
    if _CONTROL.search(text):
        raise ValueError("a URL of a logdir has no spaces and no control characters")
    if "::" in text:
        raise ValueError("chained URLs (…::…) are not supported: name the prefix itself, s3://bucket/prefix")
    if any(sign in text for sign in "?#*[]"):
        raise ValueError("a URL of a logdir is scheme://bucket/prefix, without any of ? # * [ ]")
    parts = urlsplit(text)
    if ":" in parts.netloc.rpartition("@")[0]:
        raise ValueError(
            "credentials do not belong into the logdir's URL, which is shown to people: "
            "give them by the environment (AWS_ACCESS_KEY_ID, …) or a role"
        )
    if not parts.netloc and parts.scheme.lower() not in _BUCKETLESS:
        raise ValueError("no bucket: a URL of a logdir is scheme://bucket/prefix")
    if parts.scheme.lower() in {"file", "local"} and (parts.netloc or not parts.path.strip("/")):
        raise ValueError("file:/// is followed by an absolute path: file:///data/logdir")
    if any(part in {".", ".."} for part in parts.path.split("/")):
        raise ValueError("no part of a logdir's URL may be . or ..")
    return ObjectUrl(text.rstrip("/"))


def without_credentials(text: object) -> object:
    """What was given as a logdir, fit to be shown."""
    return re.sub(r"://[^/@]*@", "://…@", text) if isinstance(text, str) else text
