"""From a logdir to the name of a run, by one rule, and from nothing to a logdir, as tensorboardX has it.

The rule: the parts of the path are the parts of the name. An absolute path counts from the working directory if it lies
below it. What comes up to and with the last folder that only says "logs are here" (`runs`, `logs`, …) is left out, as
`tensorboard --logdir runs` leaves it out; of an absolute path without such a folder, all but the last two parts.
"""

import os
import re
import socket
import time
from pathlib import PurePath
from typing import Final

from tallyboard.naming import script_project
from tallyboard.wire import InvalidNameError, check_run, limits

ROOTS: Final = frozenset({"runs", "logs", "log", "logdir", "log_dir", "tb", "tb_logs", "tensorboard", "outputs"})
"""Folders that hold runs and name none."""
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SCHEME: Final = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*:/*")
_ABSOLUTE_PARTS: Final = 2


def default_logdir(comment: str) -> str:
    """`runs/Nov20_14-36-00_host` and the comment."""
    return os.path.join("runs", f"{time.strftime('%b%d_%H-%M-%S')}_{socket.gethostname()}{comment}")  # noqa: PTH118 - text


def run_name(logdir: str, working_dir: str) -> str:
    """The name of the run for a logdir; `run` if the path has no part that could name one.

    What no name may hold is replaced by `_`, and what is too long is cut at the front.
    """
    path = logdir.replace("\\", "/")
    absolute = path.startswith("/")
    below = working_dir.replace("\\", "/").rstrip("/") + "/"
    if absolute and working_dir and os.path.normpath(path).startswith(below):
        path, absolute = os.path.normpath(path)[len(below) :], False
    scheme = _SCHEME.match(path)
    parts = [clean_part(part) for part in path[scheme.end() if scheme else 0 :].split("/")]
    parts = [part for part in parts if part]
    roots = [i for i, part in enumerate(parts[:-1]) if part.lower() in ROOTS]
    if roots:
        parts = parts[roots[-1] + 1 :]
    elif absolute or scheme:
        parts = parts[-_ABSOLUTE_PARTS:]
    parts = parts[-limits.RUN_DEPTH_MAX :] or ["run"]
    while len("/".join(parts).encode()) > limits.RUN_NAME_BYTES_MAX:
        del parts[0]
    return "/".join(parts)


def script_run_name(logdir: str, script: str) -> str:
    """The name of the run of a script that chose no logdir: `train/Nov20_14-36-00_host`."""
    return f"{script_project(script)}/{clean_part(PurePath(logdir).name)}"


def clean(tag: object) -> str:
    """A tag as it can be sent: as it is, but for characters that none may hold, which become `_`."""
    return _CONTROL.sub("_", str(tag).encode("utf-8", "replace").decode())


def clean_part(part: str) -> str:
    """One part of a name; empty if it says nothing."""
    cleaned = _CONTROL.sub("_", part.encode("utf-8", "replace").decode()).strip().lstrip(".").strip()
    cleaned = cleaned.replace("tfevents", "tf_events")
    while len(cleaned.encode()) > limits.RUN_SEGMENT_BYTES_MAX:
        cleaned = cleaned[1:].lstrip(" .")
    try:
        return check_run(cleaned) if cleaned else ""
    except InvalidNameError:
        return ""
