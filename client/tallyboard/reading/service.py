"""What reading asks of the service: the names of runs, and the blocks of an export as they come."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode

import msgspec

from tallyboard.errors import ReadError, RunNotFoundError
from tallyboard.settings import DEFAULT_URL, service_ca_file, service_token, service_url
from tallyboard.version import __version__
from tallyboard.wire import MSGPACK, Problem

if TYPE_CHECKING:
    import urllib3

CONNECT_TIMEOUT_S: Final = 5.0
READ_TIMEOUT_S: Final = 60.0
"""Without a byte; a service that is asked for a page of points has it in far less."""
LIST_BYTES_MAX: Final = 64 * 1024 * 1024
FRAME_BYTES_MAX: Final = 256 * 1024 * 1024
_PAGE_RUNS: Final = 500
_PIECE_BYTES: Final = 1024 * 1024
_WILDCARDS: Final = frozenset("*?[")


class _Row(msgspec.Struct):
    run: str


class _Page(msgspec.Struct):
    runs: list[_Row]
    cursor: str | None = None


class _End(msgspec.Struct):
    scalars: int


class Frame(msgspec.Struct):
    """One map of the stream: a block of columns, or what stands before and after all blocks."""

    counter: str = ""
    attempt: int = 0
    superseded: bool = False
    tags: tuple[str, ...] = ()
    steps: bytes = b""
    wall_times: bytes = b""
    values: bytes = b""
    x: bytes | None = None
    end: _End | None = None
    failed: str | None = None


class Service:
    """The service, as far as reading goes: its runs, and the frames of an export."""

    def __init__(self, url: str, token: str | None, pool: "urllib3.PoolManager") -> None:
        self._url = url
        self._pool = pool
        self._headers = {"User-Agent": f"tallyboard/{__version__}", "Accept": MSGPACK, "Accept-Encoding": "identity"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"

    @classmethod
    @contextmanager
    def opened(
        cls, url: str | None, token: str | None, ca_file: str | os.PathLike[str] | None = None
    ) -> Iterator["Service"]:
        """The service that arguments and environment name, until the block ends."""
        import urllib3  # here, so that `import tallyboard` does not load an HTTP client

        from tallyboard.wire import trust

        chosen = service_url(url or os.environ.get("TALLYBOARD_URL") or DEFAULT_URL)
        secret = service_token(token or os.environ.get("TALLYBOARD_TOKEN") or None)
        timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S)
        options = trust.pool_options(service_ca_file(ca_file, os.environ))
        pool = urllib3.PoolManager(num_pools=1, maxsize=1, retries=False, timeout=timeout, **options)
        try:
            yield cls(chosen, secret, pool)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            if (distrust := trust.distrust(error)) is not None:
                raise ReadError(f"{chosen}: {distrust}") from error
            cause = str(error).rpartition(": ")[2] or type(error).__name__
            raise ReadError(f"{chosen} does not answer, or broke off ({cause}); try again") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ReadError(f"{chosen} answers, but not as Tallyboard does ({error})") from error
        finally:
            pool.clear()

    def matching(self, wanted: list[str]) -> Iterator[str]:
        """The runs that are named, then those that the patterns match; raises RunNotFoundError if one matches none."""
        named = [run for run in wanted if _WILDCARDS.isdisjoint(run)]
        seen = set(named)
        yield from dict.fromkeys(named)
        for pattern in (run for run in wanted if not _WILDCARDS.isdisjoint(run)):
            hit = False
            for run in self._listed(pattern):
                if run == pattern or fnmatchcase(run, pattern):
                    hit = True
                    if run not in seen:
                        seen.add(run)
                        yield run
            if not hit:
                raise RunNotFoundError(f"no run matches {pattern!r}")

    def _listed(self, pattern: str) -> Iterator[str]:
        """The names of all runs that may match: of one project, if the pattern begins with its name."""
        query = {"limit": str(_PAGE_RUNS)}
        project, slash, _ = pattern.partition("/")
        if slash and _WILDCARDS.isdisjoint(project):
            query["project"] = project
        names: list[str] = []  # all of them first: while points are read, the one connection is in use
        while True:
            with self._answer(f"/runs?{urlencode(query)}") as response:
                page = msgspec.msgpack.decode(_bounded(response), type=_Page)
            names += [row.run for row in page.runs]
            if page.cursor is None:
                return iter(names)
            query["cursor"] = page.cursor

    def frames(self, run: str, query: list[tuple[str, str]]) -> Iterator[Frame]:
        """The blocks of a run's export; raises ReadError if the stream does not come to its end."""
        scalars = 0
        with self._answer(f"/export/{quote(run, safe='/')}?{urlencode(query)}") as response:
            for data in _messages(response):
                frame = msgspec.msgpack.decode(data, type=Frame)
                scalars += len(frame.values) // 8
                if frame.end is not None:
                    if frame.end.scalars != scalars:
                        raise ReadError(f"{run}: {scalars} points came of {frame.end.scalars}; try again")
                    return
                if frame.failed is not None:
                    raise ReadError(f"{run}: {frame.failed}")
                if frame.tags:
                    yield frame
        raise ReadError(f"{run}: the answer broke off; try again")

    @contextmanager
    def _answer(self, path: str) -> Iterator["urllib3.BaseHTTPResponse"]:
        response = self._pool.request(
            "GET", f"{self._url}/api/v1{path}", headers=self._headers, preload_content=False, redirect=False
        )
        try:
            if response.status != 200:
                raise _refusal(response.status, _bounded(response))
            yield response
        finally:
            response.close()


def _refusal(status: int, body: bytes) -> Exception:
    try:
        problem = msgspec.json.decode(body, type=Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ReadError(f"the answer is {status}, and not as Tallyboard gives it; is the url right?")
    if problem.code in ("run_not_found", "run_deleted"):
        return RunNotFoundError(problem.detail)
    return ReadError(f"{problem.title}: {problem.detail}")


def _bounded(response: "urllib3.BaseHTTPResponse") -> bytes:
    data = response.read(LIST_BYTES_MAX + 1)
    if len(data) > LIST_BYTES_MAX:
        raise ReadError(f"an answer of more than {LIST_BYTES_MAX} bytes")
    return data


def _messages(response: "urllib3.BaseHTTPResponse") -> Iterator[bytes]:
    """The contents of the MessagePack binaries (0xc6, u32be length) that the stream is made of."""
    held = bytearray()
    for piece in response.stream(_PIECE_BYTES):
        held += piece
        while held:
            if held[0] != 0xC6:
                raise ReadError("the answer is no export; is the url right?")
            if len(held) < 5 or len(held) < (end := 5 + int.from_bytes(held[1:5], "big")):
                break
            yield bytes(held[5:end])
            del held[:end]
        if len(held) > FRAME_BYTES_MAX:
            raise ReadError(f"a block of more than {FRAME_BYTES_MAX} bytes")
