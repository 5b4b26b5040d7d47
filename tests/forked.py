"""Processes that start at once: forks of one that has imported everything and waits.

A fresh interpreter spends a second of the processor on the service's imports, and several on a framework's, which tests
that kill and start again a hundred times would pay each time. What a fork runs, and what a kill ends, is the same.
"""

import atexit
import multiprocessing
import os
import resource
import runpy
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final

SERVICE: Final = ("tallyboard_server.app", "tallyboard_server.cli.commands", "uvicorn", "uvloop", "httptools")

_forks = multiprocessing.get_context("forkserver")


def preload(modules: Sequence[str]) -> None:
    """What the process that is forked imports; heeded until the first start."""
    _forks.set_forkserver_preload(list(modules))


preload(SERVICE)


def start(
    arguments: Sequence[str],
    out: Path,
    variables: Mapping[str, str],
    *,
    err: Path | None = None,
    cwd: Path | None = None,
    files_max: int | None = None,
) -> BaseProcess:
    """`python -m …` with these arguments and variables, in a session of its own; its output is appended to `out`.

    err: where errors go instead. cwd: where it works. files_max: how many descriptors it may have; None: as many as we.
    """
    place = str(out), str(err or out), str(cwd or Path.cwd())
    process = _forks.Process(target=_run, args=(list(arguments), *place, dict(variables), files_max))
    process.start()
    return process


def _run(arguments: list[str], out: str, err: str, cwd: str, variables: dict[str, str], files_max: int | None) -> None:
    os.setsid()
    for standard, path in ((1, out), (2, err)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(opened, standard)
        os.close(opened)
    if files_max is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files_max, files_max))
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(cwd)
    sys.argv = list(arguments)
    try:
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    except Exception:  # noqa: BLE001 - as an interpreter ends, of which multiprocessing's forks leave out two parts
        sys.excepthook(*sys.exc_info())
        sys.exit(1)
    finally:
        atexit._run_exitfuncs()
