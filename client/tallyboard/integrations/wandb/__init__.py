"""`from tallyboard.integrations import wandb`: code written for wandb runs with this import, and reports to Tallyboard.

`docs/wandb.md` says what becomes of each call. Scalars, images, histograms, config, summary and alerts are kept; what
else wandb has can be called, is told once, and does nothing. What a script can't go on without (artifacts to be used,
sweeps) raises `Error`.
"""

import os
import random
import string
import sys
import time
from collections.abc import Callable, Mapping
from enum import Enum
from types import SimpleNamespace
from typing import Any, Final, NoReturn

import tallyboard
from tallyboard.integrations.wandb.documents import Config
from tallyboard.integrations.wandb.media import Histogram, Image, Table
from tallyboard.integrations.wandb.metrics import Metric
from tallyboard.integrations.wandb.opening import keywords, with_environment
from tallyboard.integrations.wandb.running import Run
from tallyboard.integrations.wandb.telling import Absent, Error, tell

__all__ = [
    "AlertLevel", "Config", "Error", "Histogram", "Image", "Run", "Table", "alert", "config", "define_metric", "finish",
    "init", "log", "login", "run", "summary", "unwatch", "watch",
]  # fmt: skip


class AlertLevel(Enum):
    """How urgent an alert is."""

    INFO = "INFO"
    WARN = "WARN"
    ERROR = "ERROR"


class _Before:
    """`wandb.config` and `wandb.summary` while there is no run. Any use raises Error, as in wandb."""

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "_name", name)

    def _refuse(self, *_: Any) -> NoReturn:
        raise Error(f"You must call wandb.init() before wandb.{self._name}")

    __getitem__ = __setitem__ = __setattr__ = _refuse

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self._refuse()


run: Run | None = None
config: Any = _Before("config")
summary: Any = _Before("summary")

util: Final = SimpleNamespace(
    generate_id=lambda length=8: "".join(random.choices(string.ascii_lowercase + string.digits, k=length))
)
errors: Final = SimpleNamespace(Error=Error, CommError=Error, UsageError=Error)


def init(
    entity: str | None = None,
    project: str | None = None,
    dir: str | os.PathLike[str] | None = None,  # noqa: A002 - wandb's names
    id: str | None = None,  # noqa: A002
    name: str | None = None,
    notes: str | None = None,
    tags: Any = None,
    config: Any = None,
    config_exclude_keys: Any = None,
    config_include_keys: Any = None,
    allow_val_change: bool | None = None,
    group: str | None = None,
    job_type: str | None = None,
    mode: str | None = None,
    force: bool | None = None,
    reinit: bool | str | None = None,
    resume: bool | str | None = None,
    **other: Any,
) -> Run:
    """Start the run `project/id`, or `project/name`; it is `wandb.run` from then on.

    While a run is under way, it is returned again, unless `reinit` is true: then it is finished first. Raises what
    `tallyboard.init` raises, which says what the rest means.
    """
    current = run
    if (
        current is not None
        and not current.tallyboard.finished
        and reinit in (None, False, "default", "return_previous")
    ):
        tell("wandb.init: a run is under way and goes on; say reinit=True, or wandb.finish() first, for another")
        return current
    if unused := sorted(what for what, value in {**other, "force": force}.items() if value is not None):
        tell(f"wandb.init: not used here: {', '.join(unused)}")
    asked = with_environment(
        {
            "entity": entity, "project": project, "dir": dir, "id": id, "name": name, "notes": notes, "tags": tags,
            "config": config, "config_exclude_keys": config_exclude_keys, "config_include_keys": config_include_keys,
            "group": group, "job_type": job_type, "mode": mode, "resume": resume,
        },
        os.environ,
    )  # fmt: skip
    begun = Run(tallyboard.init(**keywords(asked)), asked=asked, clock=time.monotonic)
    _put(begun)
    return begun


def finish(exit_code: int | None = None, quiet: bool | None = None) -> None:
    """End the run, if there is one."""
    if run is not None:
        run.finish(exit_code)
        _put(None)


def log(data: Mapping[str, Any], step: int | None = None, commit: bool | None = None, **other: Any) -> None:
    """`Run.log` of the run under way."""
    _run("log").log(data, step, commit, **other)


def define_metric(name: str, *about: Any, **more: Any) -> Metric:
    """`Run.define_metric` of the run under way."""
    return _run("define_metric").define_metric(name, *about, **more)


def alert(title: str, text: str = "", level: Any = None, wait_duration: Any = None) -> None:
    """`Run.alert` of the run under way."""
    _run("alert").alert(title, text, level, wait_duration)


def watch(*_: Any, **__: Any) -> None:
    """Does nothing: gradients are not followed."""
    tell("wandb.watch does nothing here; log what you want to see of gradients, as numbers or wandb.Histogram")


def unwatch(*_: Any, **__: Any) -> None:
    """Does nothing."""


def login(*_: Any, **__: Any) -> bool:
    """Does nothing: where the service is, TALLYBOARD_URL and TALLYBOARD_TOKEN say."""
    return True


def _put(now: Run | None) -> None:
    module = sys.modules[__name__].__dict__
    module["run"] = now
    module["config"] = _Before("config") if now is None else now.config
    module["summary"] = _Before("summary") if now is None else now.summary


def _run(asked: str) -> Run:
    if run is None:
        raise Error(f"You must call wandb.init() before wandb.{asked}()")
    return run


def _not_here(name: str, instead: str) -> Callable[..., NoReturn]:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise Error(f"wandb.{name}: {instead}")

    return refuse


_REFUSED: Final = {
    "agent": "Tallyboard runs no sweeps; call the training yourself",
    "sweep": "Tallyboard runs no sweeps; call the training yourself",
    "controller": "Tallyboard runs no sweeps; call the training yourself",
    "use_artifact": "Tallyboard keeps no artifacts",
    "use_model": "Tallyboard keeps no artifacts",
    "restore": "Tallyboard keeps no files",
    "Api": "read what was reported with tallyboard.read",
}


def __getattr__(name: str) -> Any:
    """What else wandb has."""
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _not_here(name, _REFUSED[name]) if name in _REFUSED else Absent(name)
