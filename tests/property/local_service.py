"""A service without sockets: the real contract and a real SQLite store behind a client's transport, with faults."""

from collections import deque
from pathlib import Path
from urllib.parse import unquote

import msgspec

from tallyboard.delivery.transport import Answer, UnreachableError
from tallyboard.wire import Receipt, decode_batch
from tallyboard_server.api.problems import answer as problem_answer
from tallyboard_server.api.views import Liveness, run_view
from tallyboard_server.contract import ContractError
from tallyboard_server.ingest.carry_out import carry_out
from tallyboard_server.ingest.commands import Append
from tallyboard_server.ingest.errors import IngestError, RunNotFoundError
from tallyboard_server.series import read_points
from tallyboard_server.store.sqlite import SqliteStore
from tests.unit.client_kit import Clock

LATE_MAX = 20


class LocalService:
    """Takes requests while `is_up`. lost_answers: of so many requests to come, the answer gets lost.

    late: requests that a network may deliver once more, at any time.
    """

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.folder = folder
        self.clock = clock
        self.store = SqliteStore.open(folder)
        self.is_up = True
        self.lost_answers = 0
        self.late: deque[tuple[str, bytes, str]] = deque(maxlen=LATE_MAX)
        self.receipts: list[Receipt] = []

    def post(self, path: str, body: bytes, content_type: str) -> Answer:
        self._check_up()
        if path.startswith("/api/v1/heartbeat/"):
            return Answer(200, b"{}")
        self.late.append((path, body, content_type))
        answer = self._take(path, body, content_type)
        if self.lost_answers:
            self.lost_answers -= 1
            raise UnreachableError("the answer got lost")
        return answer

    def get(self, path: str) -> Answer:
        self._check_up()
        name = unquote(path.removeprefix("/api/v1/runs/"))
        with self.store.snapshot() as view:
            state = view.load(name)
            alerts = view.alert_count(0 if state is None else state.id)
        if state is None:
            return _problem(RunNotFoundError(name))
        now = self.clock()
        return Answer(200, msgspec.json.encode(run_view(state, [], alerts, [], Liveness(now, state.meta.status), now)))

    def close(self) -> None:
        """A client lets go."""

    def deliver_late(self, which: int) -> None:
        """One of the requests of before comes once more."""
        if self.late:
            self._take(*self.late[which % len(self.late)])

    def restart(self) -> None:
        """The process ends and another one comes."""
        self.store.close()
        self.store = SqliteStore.open(self.folder)

    def points(self, run: str, tag: str) -> dict[int, float]:
        """What is visible, by step."""
        with self.store.snapshot() as view:
            state = view.load(run)
            found = None if state is None else read_points(view, state, tag)
        return {} if found is None else dict(zip(found.steps.tolist(), found.values.tolist(), strict=True))

    def _take(self, path: str, body: bytes, content_type: str) -> Answer:
        name = unquote(path.removeprefix("/api/v1/scalars/"))
        try:
            batch = decode_batch(body, content_type, now=self.clock())
            with self.store.transaction() as transaction:
                done = carry_out(Append(name, batch), transaction, self.clock())
        except (ContractError, IngestError) as error:
            return _problem(error)
        self.receipts.append(done.receipt)
        return Answer(200, msgspec.json.encode(done.receipt))

    def _check_up(self) -> None:
        if not self.is_up:
            raise UnreachableError("Connection refused")


def _problem(error: Exception) -> Answer:
    response = problem_answer(error)
    return Answer(response.status_code, bytes(response.body))
