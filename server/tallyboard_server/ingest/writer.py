"""The writer: one thread that takes waiting commands, applies them in groups, and answers after the commit."""

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Final, TypeVar, get_args

from tallyboard.wire import Reason
from tallyboard.wire.limits import MIB
from tallyboard_server.contract import ContractError, RefusedError
from tallyboard_server.ingest.budget import ByteBudget
from tallyboard_server.ingest.carry_out import Bounds, Queue, carry_out, nobody
from tallyboard_server.ingest.commands import Command, Delete, Done
from tallyboard_server.ingest.errors import IngestError, OverloadedError
from tallyboard_server.ingest.heartbeats import Heartbeats
from tallyboard_server.ingest.waiting import LoopAnswer, Waiting, WaitingQueue
from tallyboard_server.store.protocol import RunHeldError, Store, StoreBusyError, StoreError, Transaction, Work

logger = logging.getLogger(__name__)

GROUP_BYTES_MAX: Final = 8 * MIB
"""Bytes of bodies in one transaction: bounds its time (about 0.1 s) and the log it leaves."""
GROUP_SHARED_MAX: Final = 1_000
"""Commands in one transaction of a store that others write to: each that opens a run takes two locks in the server's
memory, which has room for some 6,000 by default, for everybody in all its databases."""
IDLE_S: Final = 0.25
RECORD_TIMEOUT_S: Final = 60.0
BACKLOG_RETRY_S: Final = 2.0
HELD_MAX_S: Final = 10.0
"""So long a command waits for a run that other replicas change again and again; then its client is to try again."""
HELD_PAUSE_S: Final = 0.004
"""About how long another replica's transaction takes."""
PURGE_AGAIN_S: Final = 1.0
"""How long a slice of a deleted run that could not be removed is let be."""
PURGE_LOOK_S: Final = 30.0
"""How often is looked for deleted runs that another replica left half removed."""

Committed = Callable[[list[Done]], None]
RefusedWhole = Callable[[RefusedError], None]
_T = TypeVar("_T")


class Ingest:
    """Commands in, durable results out. Any thread or coroutine may submit."""

    def __init__(
        self,
        store: Store,
        *,
        budget_bytes: int = 128 * MIB,
        backlog_bytes_max: int = 512 * MIB,
        bounds: Bounds | None = None,
        clock: Callable[[], float] = time.time,
        queue: Queue = nobody,
    ) -> None:
        """budget_bytes bounds request data in memory; backlog_bytes_max what views may lag behind the journal.

        bounds: of runs and projects; None: those of the protocol. queue: where alerts go besides the store.
        """
        self.budget = ByteBudget(budget_bytes)
        self.heartbeats = Heartbeats()
        self._store = store
        self._bounds = bounds or Bounds()
        self._clock = clock
        self._queue = WaitingQueue(budget_bytes)
        self._backlog_bytes_max = backlog_bytes_max
        self._backlogs: dict[str, Callable[[], int]] = {}
        self._alerts_to = queue
        self._listeners: list[Committed] = []
        self._refusal_listeners: list[RefusedWhole] = []
        self._purging = True  # a former process may have left deleted runs half removed
        self._next_purge_look = 0.0
        self._purge_again_at = 0.0
        self._thread = threading.Thread(target=self._run, name="tallyboard-writer", daemon=True)
        self.refused_by_reason: dict[Reason, int] = dict.fromkeys(get_args(Reason), 0)
        self._figures = dict.fromkeys(
            (
                "ingest_groups_total",
                "ingest_commands_total",
                "ingest_scalars_total",
                "ingest_errors_total",
                "ingest_held_total",
            ),
            0,
        )

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def on_commit(self, listener: Committed) -> None:
        """Call `listener` on the writer's thread with what each group made durable; it must be quick."""
        self._listeners.append(listener)

    def on_refused(self, listener: RefusedWhole) -> None:
        """Call `listener` on the writer's thread for each batch that was refused whole; it must be quick."""
        self._refusal_listeners.append(listener)

    def watch_backlog(self, backlog_bytes: Callable[[], int], view: str = "event files") -> None:
        """Refuse commands while `backlog_bytes()` (bytes that a view, in the plural, lags behind) is over the limit."""
        self._backlogs[view] = backlog_bytes

    async def submit(self, command: Command) -> Done:
        """Carry a command out; returns when it is durable.

        Raises ContractError, IngestError (OverloadedError when too much waits) or StoreError.
        """
        self._check_backlog()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Done] = loop.create_future()
        self._queue.put(Waiting(command, LoopAnswer(loop, future)))
        return await future

    def submit_blocking(self, command: Command, timeout_s: float = RECORD_TIMEOUT_S) -> Done:
        """`submit` for threads."""
        self._check_backlog()
        done = self._wait_for(command, timeout_s)
        if not isinstance(done, Done):
            raise TypeError(f"a command gave {done!r}")
        return done

    def record(self, work: Work, timeout_s: float = RECORD_TIMEOUT_S) -> None:
        """Run `work` in a transaction of the writer; returns when it is durable, raises what it raised.

        With a shared store the transaction is its own, on this thread, and `work` may be run again from its beginning.
        """
        if self._store.shared:
            self._record_alone(work, timeout_s)
        else:
            self._wait_for(work, timeout_s)

    def stats(self) -> dict[str, float]:
        """Figures for /metrics."""
        return {
            **self._figures,
            "ingest_queue_bytes": self._queue.nbytes,
            "ingest_budget_used_bytes": self.budget.used,
            "ingest_overloaded_total": self.budget.refused,
        }

    def is_alive(self) -> bool:
        """Whether the writer runs."""
        return self._thread.is_alive()

    def close(self, timeout_s: float = 30.0) -> None:
        """Take nothing more, write what waits, stop."""
        self._queue.close()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _record_alone(self, work: Work, timeout_s: float) -> None:
        until = time.monotonic() + timeout_s
        while True:
            try:
                with self._store.transaction() as transaction:
                    work(transaction)
            except RunHeldError:
                if time.monotonic() >= until:
                    raise
                time.sleep(HELD_PAUSE_S * random.uniform(0.5, 2.0))
            else:
                return

    def _check_backlog(self) -> None:
        for view, backlog_bytes in self._backlogs.items():
            if (backlog := backlog_bytes()) > self._backlog_bytes_max:
                raise OverloadedError(
                    f"{view} are {backlog} bytes behind (at most {self._backlog_bytes_max}); retry",
                    BACKLOG_RETRY_S,
                )

    def _wait_for(self, work: Command | Work, timeout_s: float) -> object:
        future: Future[object] = Future()

        def answer(result: object) -> None:
            if isinstance(result, BaseException):
                future.set_exception(result)
            else:
                future.set_result(result)

        self._queue.put(Waiting(work, answer))
        return future.result(timeout_s)

    def _run(self) -> None:
        most = GROUP_SHARED_MAX if self._store.shared else None
        while (group := self._queue.take_group(GROUP_BYTES_MAX, self._idle_s, most)) is not None:
            if group:
                self._write(group)
            self._keep_house()

    @property
    def _idle_s(self) -> float:
        """How long to wait for commands before housekeeping: not at all while a deleted run goes slice by slice."""
        return 0.0 if self._may_purge else IDLE_S

    @property
    def _may_purge(self) -> bool:
        return self._purging and time.monotonic() >= self._purge_again_at

    def _keep_house(self) -> None:
        try:
            self._store.maintain()
            if self._store.shared and time.monotonic() >= self._next_purge_look:
                self._next_purge_look = time.monotonic() + PURGE_LOOK_S
                self._purging = True
            if self._may_purge:
                self._purge_again_at = time.monotonic() + PURGE_AGAIN_S
                with self._store.transaction() as transaction:
                    self._purging = transaction.purge()
                self._purge_again_at = 0.0
        except StoreError as error:
            logger.warning("housekeeping: %s", error)
        except Exception:  # a dead writer would leave every request waiting for ever
            logger.exception("housekeeping failed unexpectedly")

    def _write(self, group: list[Waiting]) -> None:
        """Write a group together; if anything unforeseen happens, each of its members by itself."""
        try:
            results = self._attempt(group)
        except StoreBusyError as error:  # nobody's fault: trying each alone would wait as long for each of them
            results = [StoreBusyError(str(error)) for _ in group]
        except Exception as error:  # noqa: BLE001 - whatever it is, it may not stop the writer or harm the others
            if len(group) == 1:
                results = [_as_store_error(error)]
            else:
                logger.warning("a group of %d failed (%r); writing each alone", len(group), error)
                for waiting in group:
                    self._write([waiting])
                return
        self._publish(*self._put_back_held(group, results))

    def _put_back_held(self, group: list[Waiting], results: list[Any]) -> tuple[list[Waiting], list[Any]]:
        """Commands whose run another replica changes at this moment wait on, unless they have for long; returns the
        others, with their results."""
        held = {
            index
            for index, result in enumerate(results)
            if isinstance(result, RunHeldError) and time.monotonic() - group[index].since < HELD_MAX_S
        }
        if not held:
            return group, results
        self._figures["ingest_held_total"] += len(held)
        self._queue.put_back([group[index] for index in sorted(held)])
        if len(held) == len(group):
            time.sleep(HELD_PAUSE_S * random.uniform(0.5, 1.5))
        rest = [index for index in range(len(group)) if index not in held]
        return [group[index] for index in rest], [results[index] for index in rest]

    def _attempt(self, group: list[Waiting]) -> list[Any]:
        now = self._clock()
        names = {waiting.work.name for waiting in group if not callable(waiting.work)}
        held: dict[str, RunHeldError] = {}
        results: list[Any] = []
        with self._store.transaction(names) as transaction:
            for waiting in group:
                # Whoever is behind a command that waits, waits as well: the order within a line is kept.
                result = held.get(waiting.turn) or self._carry_out(waiting.work, transaction, now)
                if isinstance(result, RunHeldError):
                    held[waiting.turn] = result
                results.append(result)
        self._figures["ingest_groups_total"] += 1
        return results

    def _carry_out(self, work: Command | Work, transaction: Transaction, now: float) -> object:
        """A result, or the error of a command that by contract has changed nothing."""
        if callable(work):
            return work(transaction)
        try:
            return carry_out(work, transaction, now, self._bounds, self._alerts_to)
        except (ContractError, IngestError, RunHeldError) as error:
            return error

    def _publish(self, group: list[Waiting], results: Sequence[Any]) -> None:
        done: list[Done] = []
        resolved: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Done], Any]]] = {}
        for waiting, result in zip(group, results, strict=True):
            if isinstance(result, Done):
                done.append(result)
                self._purging = self._purging or isinstance(waiting.work, Delete)
            self._count(result)
            if isinstance(waiting.answer, LoopAnswer):
                resolved.setdefault(waiting.answer.loop, []).append((waiting.answer.future, result))
            else:
                waiting.answer(result)
        for loop, answers in resolved.items():
            try:
                loop.call_soon_threadsafe(_resolve, answers)
            except RuntimeError:  # the loop is closed: nobody waits any more
                logger.info("%d answers had nobody left to go to", len(answers))
        for listener in self._listeners:
            _tell(listener, done)
        for result in results:
            if isinstance(result, RefusedError):
                for refused in self._refusal_listeners:
                    _tell(refused, result)

    def _count(self, result: object) -> None:
        self._figures["ingest_commands_total"] += 1
        if isinstance(result, Done) and not result.receipt.replayed:  # else it was counted when it was applied
            self._figures["ingest_scalars_total"] += result.receipt.stored
            self._count_refused(result.reasons)
        elif isinstance(result, BaseException):
            self._figures["ingest_errors_total"] += 1
            if isinstance(result, RefusedError):
                self._count_refused(result.reasons)

    def _count_refused(self, reasons: Mapping[Reason, int]) -> None:
        for reason, count in reasons.items():
            self.refused_by_reason[reason] += count


def _tell(listener: Callable[[_T], None], news: _T) -> None:
    try:
        listener(news)
    except Exception:  # what is durable was answered; views catch up by themselves
        logger.exception("a listener failed unexpectedly")


def _resolve(answers: "list[tuple[asyncio.Future[Done], Any]]") -> None:
    for future, result in answers:
        if future.done():  # its request was cancelled
            continue
        if isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)


def _as_store_error(error: Exception) -> StoreError:
    if isinstance(error, StoreError):
        return error
    logger.error("a command failed unexpectedly", exc_info=error)
    wrapped = StoreError(f"the command failed inside the server ({type(error).__name__}); see its log")
    wrapped.__cause__ = error
    return wrapped
