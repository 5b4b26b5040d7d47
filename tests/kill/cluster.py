"""Three services on one PostgreSQL with one logdir, to each of which, and to the database, anything may happen."""

import random
import signal
import time
from pathlib import Path

import urllib3

from tallyboard_server.cli.demo.process import free_port
from tallyboard_server.cli.http import Service
from tallyboard_server.shares import SHARES
from tests.kill.fleet import wait_until
from tests.kill.replica import PLACES
from tests.kill.server import START_TIMEOUT_S, STOP_TIMEOUT_S, Server
from tests.postgres import Postgres, Stop

REPLICAS = 3
PAUSE_S = 6.0, 8.0
"""Longer than a replica may be silent."""
OUTAGE_S = 6.5
FUSE_TIMES = (1, 1, 2, 3, 5)
"""At which time that it comes to a place a service ends itself."""
DELETED_S_MAX = 90.0
"""Twice half a minute, the time between two looks for what others have left, and some."""
_REMAINS = (
    "SELECT (SELECT count(*) FROM runs WHERE name LIKE 'c/%') + (SELECT count(*) FROM deleted_runs) "
    "+ (SELECT count(*) FROM journal WHERE id >> 32 NOT IN (SELECT id FROM runs)) "
    "+ (SELECT count(*) FROM generations WHERE run_id NOT IN (SELECT id FROM runs)) "
    "+ (SELECT count(*) FROM tags WHERE run_id NOT IN (SELECT id FROM runs))"
)
TAKEOVER_S_MAX = 30.0
"""Five seconds of silence, a second until somebody looks, and a machine that has other things to do."""


class Cluster:
    """Its services; `ports` never change."""

    def __init__(self, folder: Path, postgres: Postgres, dice: random.Random) -> None:
        self.postgres = postgres
        self.database = postgres.create_database()
        self.logdir = folder / "logdir"
        self.url = postgres.url(self.database)
        self.takeovers_s: list[float] = []
        self.starts = self.blown = 0
        self._dice = dice
        self._fused: set[Server] = set()
        self._paused: dict[Server, float] = {}
        self.servers: list[Server] = []
        for number in range(REPLICAS):
            own = folder / f"replica-{number}"
            own.mkdir()
            server = Server(own, "--database-url", self.url, "--logdir", str(self.logdir))
            while server.port in self.ports:  # none of them is taken yet
                server.port = free_port("127.0.0.1")
            server.service = Service(f"http://127.0.0.1:{server.port}")
            self.servers.append(server)

    @property
    def ports(self) -> list[int]:
        """Where its services answer."""
        return [server.port for server in self.servers]

    def revive(self, *, fuses: bool = True) -> None:
        """Start what does not run, as a supervisor does (one that finds no database ends, and is started again).

        fuses: every other one will end itself at one very point.
        """
        for server in self.servers:
            if server not in self._paused and not server.is_running:
                self.starts += 1
                self.blown += server in self._fused and server.returncode() == -signal.SIGKILL
                self._fused.discard(server)
                if fuses and self.starts % 2 == 0:
                    self._fused.add(server)
                    fuse = f"{self._dice.choice(list(PLACES))}:{self._dice.choice(FUSE_TIMES)}"
                    server.start(module="tests.kill.replica", variables={"FUSE": fuse}, wait=False)
                else:
                    server.start(module="tallyboard_server.cli" if fuses else "tests.kill.replica", wait=False)

    def resume_due(self, *, all_of_them: bool = False) -> None:
        """Have those run on whose pause is over."""
        for server, until in list(self._paused.items()):
            if all_of_them or time.monotonic() >= until:
                del self._paused[server]
                server.resume()

    def whole(self) -> None:
        """Everything runs, answers, and is to stay."""
        self.resume_due(all_of_them=True)
        for server in list(self._fused):
            self._kill(server)
        if not self.postgres.is_running:
            self.postgres.start()
        wait_until(self._all_answer, START_TIMEOUT_S)

    def close(self) -> None:
        """End all of it."""
        self.resume_due(all_of_them=True)
        for server in self.servers:
            server.stop()

    def _all_answer(self) -> bool:
        self.revive(fuses=False)
        return all(server.service.is_alive() for server in self.servers)

    # ── what may happen ──────────────────────────────────────────────────────────────────────────────────────────

    def happen(self, what: str, run: str) -> None:
        """Have something happen to one of the services, or to the database; run: whose takeover is measured."""
        match what:
            case "kill":
                if server := self._any():
                    self._kill(server)
            case "kill two":
                for server in [self._any(), self._any()]:
                    if server is not None:
                        self._kill(server)
            case "takeover":
                self._measure(run)
            case "pause":
                if (server := self._any()) and not self._paused:
                    server.pause()
                    self._paused[server] = time.monotonic() + self._dice.uniform(*PAUSE_S)
            case "terminate":
                if server := self._any():
                    ended = server.end(signal.SIGTERM, STOP_TIMEOUT_S)
                    assert ended in (0, -signal.SIGTERM) or server in self._fused, self.log()
            case "outage":
                self.postgres.stop("fast")
                time.sleep(OUTAGE_S)
                self.postgres.start()
            case "fast" | "immediate" | "kill database":
                how: Stop = "kill" if what == "kill database" else "fast" if what == "fast" else "immediate"
                self.postgres.restart(how)
            case _:
                raise AssertionError(what)

    def _kill(self, server: Server) -> None:
        if server.is_running:
            self._fused.discard(server)
        server.end(signal.SIGKILL)

    def _any(self) -> Server | None:
        found = [server for server in self.servers if server not in self._paused and server.is_running]
        return self._dice.choice(found) if found else None

    def _measure(self, run: str) -> None:
        """Kill the service that writes a run's event files, and see how long they stand still."""
        self.whole()
        wait_until(lambda: self.holder(run) is not None, TAKEOVER_S_MAX)
        holder = self.holder(run)
        assert holder is not None
        holder.kill()
        before = self._event_files(run)
        took = wait_until(lambda: self._has_grown(before, run), TAKEOVER_S_MAX)
        self.takeovers_s.append(took)

    def holder(self, run: str) -> Server | None:
        """The service that has a run's share, if it is one that is alive; ids of replicas name their processes."""
        rows = self.postgres.query(
            "SELECT s.holder FROM runs r JOIN shares s ON s.number = mod(r.id, %s) "
            "JOIN replicas p ON p.id = s.holder WHERE r.name = %s",
            SHARES, run, database=self.database,
        )  # fmt: skip
        pids = {int(holder.rsplit("-", 2)[1]) for (holder,) in rows}
        return next((server for server in self.servers if server.is_running and server.pid in pids), None)

    def _event_files(self, run: str) -> dict[str, int]:
        return {path.name: path.stat().st_size for path in (self.logdir / run).glob("events*")}

    def _has_grown(self, before: dict[str, int], run: str) -> bool:
        return any(size > before.get(name, 0) for name, size in self._event_files(run).items())

    # ── what must hold ───────────────────────────────────────────────────────────────────────────────────────────

    def check_shares(self) -> None:
        """Each share comes to be held by one, in the database and by what the services themselves say."""
        wait_until(lambda: sum(map(_shares_of, self.servers)) == SHARES, TAKEOVER_S_MAX)
        rows = self.postgres.query(
            "SELECT s.number, p.id FROM shares s JOIN replicas p ON p.id = s.holder", database=self.database
        )
        assert sorted(number for number, _ in rows) == list(range(SHARES))
        assert {int(holder.rsplit("-", 2)[1]) for _, holder in rows} == {server.pid for server in self.servers}

    def check_deleted(self) -> None:
        """Of runs that were deleted nothing remains, neither rows nor files."""
        wait_until(lambda: self.postgres.query(_REMAINS, database=self.database) == [(0,)], DELETED_S_MAX)
        assert not list((self.logdir / "c").rglob("events*"))

    def log(self) -> str:
        """The ends of what all of them said."""
        told = [f"{server.folder.name}:\n{server.log()}" for server in self.servers]
        return "\n".join([*told, f"PostgreSQL:\n{self.postgres.log()[-4000:]}"])


def _shares_of(server: Server) -> int:
    text = urllib3.request("GET", f"{server.url}/metrics", retries=False).data.decode()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("tallyboard_replica_shares "))
