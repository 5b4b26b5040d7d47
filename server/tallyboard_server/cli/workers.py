"""`serve --workers N`: a small process that holds the socket, and N forks of it that serve on it.

Each is a service of its own on the database, as one on another machine would be. Everything is imported before the
first fork, so that the others cost neither its time nor its memory again; no thread runs here that a fork would miss.
"""

import asyncio
import gc
import json
import logging
import multiprocessing
import os
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from types import FrameType
from typing import Final

from tallyboard_server.access import Access, new_own_token
from tallyboard_server.cli.output import Exit, stdout
from tallyboard_server.cli.server import SHUTDOWN_TIMEOUT_S, run
from tallyboard_server.cli.systemd import Systemd
from tallyboard_server.logs import configure
from tallyboard_server.settings import Settings

BEAT_EVERY_S: Final = 1.0
"""How often a worker says that its event loop turns."""
SILENT_S: Final = 3 * BEAT_EVERY_S
"""From then on its event loop may be taken to stand."""
PAUSE_MIN_S: Final = 0.1
PAUSE_MAX_S: Final = 30.0
"""Between a worker's end and its next start: from the shortest on twice as long each time it ended soon."""
SETTLED_AFTER_S: Final = 10.0
"""Who served for so long did not end because it was started."""
KILL_AFTER_S: Final = SHUTDOWN_TIMEOUT_S + 45.0
"""What a worker gets to end in order: requests under way, then its threads, one after the other."""

_MESSAGE_BYTES_MAX: Final = 64 * 1024
_forks = multiprocessing.get_context("fork")
log = logging.getLogger(__name__)


class Supervised:
    """The Overseer of a worker: the process that forked it, at the other end of a pipe."""

    def __init__(self, supervisor: Connection) -> None:
        self._supervisor = supervisor

    def up(self, announcement: str) -> None:
        """See Overseer.up."""
        self._tell({"up": announcement})

    def stopping(self) -> None:
        """See Overseer.stopping."""

    async def watch(self, stop: Callable[[], None]) -> None:
        """See Overseer.watch. When the supervisor is gone, so is whoever would have told us to stop."""
        asyncio.get_running_loop().add_reader(self._supervisor.fileno(), stop)  # it sends nothing: this is its end
        while True:
            self._tell({})
            await asyncio.sleep(BEAT_EVERY_S)

    def heeds(self, sig: int) -> bool:
        """See Overseer.heeds: a terminal's Ctrl-C goes to all its processes, and the supervisor passes it on."""
        return sig != signal.SIGINT

    def _tell(self, message: dict[str, str]) -> None:
        with suppress(OSError):  # it is gone: see watch
            self._supervisor.send_bytes(json.dumps(message).encode())


@dataclass(slots=True, eq=False)
class Worker:
    """One of the places for a worker. Times are of the monotonic clock; without a process one is begun at start_at.

    up: whether it took requests since it was begun. heard_at: when it last gave a sign of life.
    """

    number: int
    process: ForkProcess | None = None
    pipe: Connection | None = None
    begun_at: float = 0.0
    heard_at: float = 0.0
    start_at: float = 0.0
    pause_s: float = PAUSE_MIN_S
    up: bool = False


class Supervisor:
    """Starts the workers, the first before the others; starts those anew that end; passes on the signal to stop."""

    def __init__(self, workers: int, listener: socket.socket, serve: Callable[[int, Supervised], None]) -> None:
        """serve: serves the listener as the worker of a number (from 0) until it is told to stop."""
        self._listener = listener
        self._workers = [Worker(number) for number in range(workers)]
        self._serve = serve
        self._systemd = Systemd()
        self._announced = False
        self._ready = False
        self._stop_signals = 0
        self._beaten_at = 0.0
        self._pace_s = min(BEAT_EVERY_S, (self._systemd.watchdog_s or 2 * BEAT_EVERY_S) / 2)

    def run(self) -> int:
        """Until all have ended after a signal, or the first could not start; returns the exit code."""
        with self._signals() as woken:
            first = self._workers[0]
            self._start(first)
            while not (first.up or self._stop_signals):
                self._look(woken)
                if first.process is None:  # it said why
                    return Exit.FAILED
            while not self._stop_signals:
                self._start_due()
                self._look(woken)
            self._systemd.tell("STOPPING=1")
            return self._stop(woken)

    @contextmanager
    def _signals(self) -> Iterator[socket.socket]:
        """Have signals counted; what is given becomes readable by them."""
        woken, waker = socket.socketpair()
        woken.setblocking(False)
        waker.setblocking(False)
        before = [(sig, signal.signal(sig, self._on_signal)) for sig in (signal.SIGTERM, signal.SIGINT)]
        fd = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        try:
            yield woken
        finally:
            signal.set_wakeup_fd(fd)
            for sig, handler in before:
                signal.signal(sig, handler)
            woken.close()
            waker.close()

    def _on_signal(self, _sig: int, _frame: FrameType | None) -> None:
        self._stop_signals += 1

    def _start_due(self) -> None:
        now = time.monotonic()
        for worker in self._workers:
            if worker.process is None and now >= worker.start_at:
                self._start(worker)

    def _start(self, worker: Worker) -> None:
        worker.pipe, its = _forks.Pipe()  # before the fork, which closes all these ends
        process = _forks.Process(target=self._in_worker, args=(worker.number, its), name=f"worker {worker.number}")
        process.start()
        its.close()
        worker.process, worker.up = process, False
        worker.begun_at = worker.heard_at = time.monotonic()

    def _in_worker(self, number: int, supervisor: Connection) -> None:
        """What a fork does: serve, holding nothing of the supervisor's but its end of the pipe."""
        signal.set_wakeup_fd(-1)
        for sig in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sig, signal.SIG_DFL if sig == signal.SIGTERM else signal.SIG_IGN)
        for worker in self._workers:
            if worker.pipe is not None:
                worker.pipe.close()
        self._serve(number, Supervised(supervisor))

    def _look(self, woken: socket.socket) -> None:
        """Wait for news, for a second at most, and heed them."""
        now = time.monotonic()
        due = min((w.start_at - now for w in self._workers if w.process is None), default=self._pace_s)
        watched: list[Connection | socket.socket | int] = [woken]
        for worker in self._workers:
            watched += [] if worker.pipe is None else [worker.pipe]
            watched += [] if worker.process is None else [worker.process.sentinel]
        wait(watched, timeout=min(self._pace_s, max(0.0, due)))
        with suppress(BlockingIOError):
            woken.recv(1024)
        for worker in self._workers:
            self._hear(worker)
            if worker.process is not None and not worker.process.is_alive():
                self._ended(worker)
        self._tell_systemd()

    def _hear(self, worker: Worker) -> None:
        try:
            while worker.pipe is not None and worker.pipe.poll():
                message = json.loads(worker.pipe.recv_bytes(_MESSAGE_BYTES_MAX))
                worker.heard_at = time.monotonic()
                if "up" in message and not worker.up:
                    worker.up = True
                    self._announce(message["up"])
        except (EOFError, OSError):  # it ends
            self._hang_up(worker)

    def _announce(self, text: str) -> None:
        """The first one's is for all: it came up before the others began, and a first token is in it, if there is."""
        if not self._announced:
            self._announced = True
            stdout.print(text, markup=False)
        if not self._ready and all(worker.up for worker in self._workers):
            self._ready = True
            self._systemd.tell("READY=1")

    def _tell_systemd(self) -> None:
        """That all event loops turn, as long as they do: a worker without a sign of life leaves it to act."""
        now, interval = time.monotonic(), self._systemd.watchdog_s
        if interval is None or now - self._beaten_at < self._pace_s:
            return
        silent_s = max(interval, SILENT_S)
        if all(now - worker.heard_at < silent_s for worker in self._workers if worker.process is not None):
            self._beaten_at = now
            self._systemd.tell("WATCHDOG=1")

    def _ended(self, worker: Worker) -> None:
        """Note a worker's end, and when it is to begin again."""
        process = worker.process
        if process is None:
            return
        self._hang_up(worker)
        worker.process = None
        lived_s = time.monotonic() - worker.begun_at
        worker.pause_s = PAUSE_MIN_S if lived_s >= SETTLED_AFTER_S else min(PAUSE_MAX_S, 2 * worker.pause_s)
        worker.start_at = time.monotonic() + worker.pause_s
        if not self._stop_signals and (worker.up or worker.number):
            log.warning(
                "worker %d (process %d) ended with exit code %s after %.1f s; it is started again in %.1f s",
                worker.number, process.pid, process.exitcode, lived_s, worker.pause_s,
            )  # fmt: skip
        process.close()

    def _hang_up(self, worker: Worker) -> None:
        if worker.pipe is not None:
            worker.pipe.close()
            worker.pipe = None

    def _stop(self, woken: socket.socket) -> int:
        """Have all end in order, at once after a second signal or if it takes too long."""
        self._listener.close()  # else who comes now would wait for an answer until all have ended
        for worker in self._workers:
            if worker.process is not None:
                worker.process.terminate()
        until, code = time.monotonic() + KILL_AFTER_S, 0
        while left := [worker for worker in self._workers if worker.process is not None]:
            if self._stop_signals > 1 or time.monotonic() >= until:
                code = Exit.FAILED
                for worker in left:
                    log.warning("worker %d did not end in time; it is killed", worker.number)
                    if worker.process is not None:
                        worker.process.kill()
                        worker.process.join()
            self._look(woken)
        return code


def supervise(
    settings: Settings,
    listener: socket.socket,
    announcement: Callable[[Access], str],
    tls: ssl.SSLContext | None = None,
) -> None:
    """Serve on a bound socket with several processes until a signal to stop; ends the command with its exit code."""
    configure(settings.log_format, settings.log_level)
    with suppress(ImportError):  # the first worker says that it is missing
        import tallyboard_server.store.postgres  # noqa: F401 - for all workers, see above
    own_token = new_own_token()

    def serve(number: int, overseer: Supervised) -> None:
        os.environ.pop("NOTIFY_SOCKET", None)
        first = number == 0
        run(settings, listener, announcement, tls, overseer=overseer, own_token=own_token, takes_in_spools=first)

    gc.collect()
    gc.freeze()  # what is here already is never looked at again, and so its memory stays shared
    code = Supervisor(settings.workers, listener, serve).run()
    if code:
        raise SystemExit(code)
