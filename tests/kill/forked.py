"""Servers that start at once: forks of one process that has imported everything and waits.

A fresh interpreter takes a second of the processor before it serves, which the tests that kill servers a hundred times
would spend on imports. What a fork runs, and what a kill ends, is the same.
"""

import multiprocessing
import os
import resource
import runpy
import sys
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final

PRELOADED: Final = ("tallyboard_server.app", "tallyboard_server.cli.commands", "uvicorn", "uvloop", "httptools")

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(list(PRELOADED))


def start(arguments: list[str], log: Path, variables: Mapping[str, str], files_max: int | None = None) -> BaseProcess:
    """`python -m …` with these arguments and variables, in a session of its own; its output is appended to `log`.

    files_max: how many descriptors it may have; None: as many as we.
    """
    process = _forks.Process(target=_run, args=(arguments, str(log), dict(variables), files_max))
    process.start()
    return process


def _run(arguments: list[str], log: str, variables: dict[str, str], files_max: int | None) -> None:
    os.setsid()
    if files_max is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files_max, files_max))
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for standard in (1, 2):
        os.dup2(output, standard)
    os.close(output)
    os.environ.clear()
    os.environ.update(variables)
    sys.argv = list(arguments)
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
