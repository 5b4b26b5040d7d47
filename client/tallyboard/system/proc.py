"""What Linux tells in /proc of the machine and of this process; elsewhere, the CPU time that any system tells.

Reading these files by hand is shorter than what a library would add to every training. A source tells its figures
since it was read last; what the system does not tell is left out. Where containers are, machine means the host.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

Figures = Mapping[str, float]
Source = Callable[[], Figures]

PROC: Final = Path("/proc")
SYS: Final = Path("/sys")
TREE_EVERY_S: Final = 60.0
"""How often workers are looked for among all processes: each file that is read lets go of the interpreter's lock and
may wait 5 ms for a training that never does."""
PROCESSES_MAX: Final = 1_000
"""On a machine with more, workers are not looked for: it would take longer than 20 ms."""
_PIECE_BYTES: Final = 65_536
_SECTOR_BYTES: Final = 512  # /proc/diskstats counts in these, whatever the disk has
_VIRTUAL_NETS: Final = ("lo", "veth", "docker", "br-", "virbr", "cali", "flannel", "cni")
_VIRTUAL_DISKS: Final = ("loop", "ram", "zram", "dm-", "md", "sr")
"""What passes through these is counted where it comes from or goes to."""
_UNTOLD: Final = (OSError, ValueError, IndexError)


class Machine:
    """`cpu_percent` and `memory_percent`: shares of all that the machine has, 0 to 100."""

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc
        self._before: tuple[int, int] | None = None

    def __call__(self) -> Figures:
        """The figures."""
        return self._cpu() | self._memory()

    def _cpu(self) -> dict[str, float]:
        try:
            ticks = [int(field) for field in _read(self._proc / "stat").split(b"\n", 1)[0].split()[1:9]]
            total, idle = sum(ticks), ticks[3] + ticks[4]  # idle, and waiting for input or output
        except _UNTOLD:
            return {}
        before, self._before = self._before, (total, idle)
        if before is None or total <= before[0]:
            return {}
        return {"cpu_percent": 100 * (1 - min(max(idle - before[1], 0) / (total - before[0]), 1))}

    def _memory(self) -> dict[str, float]:
        try:
            kib = memory_kib(self._proc)
            return {"memory_percent": 100 * (1 - kib[b"MemAvailable"] / kib[b"MemTotal"])}
        except (*_UNTOLD, KeyError, ZeroDivisionError):
            return {}


class Process:
    """`process_cpu_percent`: of this process and all below it (100 is one core); `process_memory_bytes`: its own."""

    def __init__(self, proc: Path = PROC, clock: Callable[[], float] = time.monotonic) -> None:
        self._proc = proc
        self._clock = clock
        self._pid = os.getpid()
        self._tree = [self._pid]
        self._looked_at = -TREE_EVERY_S
        self._before: dict[int, float] = {}
        self._read_at = 0.0

    def __call__(self) -> Figures:
        """The figures."""
        self._look()
        now, used_s = self._clock(), self._cpu_s()
        (then, self._read_at), (before, self._before) = (self._read_at, now), (self._before, used_s)
        figures = self._memory()
        if before and now > then:
            # Who ended is in its parent's share from then on; who is new has a past that is none of this interval's.
            spent_s = sum(used_s.values()) - sum(before.values()) - sum(used_s[pid] for pid in used_s.keys() - before)
            figures["process_cpu_percent"] = 100 * max(spent_s, 0.0) / (now - then)
        return figures

    def _look(self) -> None:
        """Find the processes below this one, if it is time to."""
        if self._clock() < self._looked_at + TREE_EVERY_S:
            return
        self._looked_at = self._clock()
        try:
            self._tree = tree(self._proc, self._pid)
        except _UNTOLD:
            self._tree = [self._pid]

    def _cpu_s(self) -> dict[int, float]:
        """Seconds of each process, with those of the children that it waited for."""
        used_s: dict[int, float] = {}
        for pid in self._tree:
            try:
                used_s[pid] = sum(map(int, _stat(self._proc, pid)[11:15])) / os.sysconf("SC_CLK_TCK")
            except _UNTOLD:  # it has ended, or this is no Linux
                continue
        return used_s if self._pid in used_s else {self._pid: sum(os.times()[:4])}

    def _memory(self) -> dict[str, float]:
        try:
            pages = int(_read(self._proc / str(self._pid) / "statm").split()[1])
            return {"process_memory_bytes": float(pages * os.sysconf("SC_PAGE_SIZE"))}
        except _UNTOLD:
            return {}


class Traffic:
    """Bytes a second of the machine's disks (`disk_read_…`, `disk_write_…`) and networks (`network_receive_…`, …)."""

    def __init__(self, proc: Path = PROC, sys: Path = SYS, clock: Callable[[], float] = time.monotonic) -> None:
        self._proc = proc
        self._sys = sys
        self._clock = clock
        self._before: tuple[float, dict[str, int]] = (0.0, {})

    def __call__(self) -> Figures:
        """The figures."""
        now, totals = self._clock(), {**self._disks(), **self._networks()}
        (then, before), self._before = self._before, (now, totals)
        return {
            f"{name}_bytes_per_s": (total - before[name]) / (now - then)
            for name, total in totals.items()
            if total >= before.get(name, total + 1) and now > then
        }

    def _disks(self) -> dict[str, int]:
        try:
            names = (entry.name for entry in (self._sys / "block").iterdir())
            whole = {os.fsencode(name) for name in names if not name.startswith(_VIRTUAL_DISKS)}
            rows = [fields for fields in _rows(self._proc / "diskstats") if fields[2] in whole]
            return _sums(rows, {"disk_read": 5, "disk_write": 9}, _SECTOR_BYTES)
        except _UNTOLD:
            return {}

    def _networks(self) -> dict[str, int]:
        try:
            found = [line.partition(b":") for line in _read(self._proc / "net" / "dev").splitlines()[2:]]
            virtual = tuple(name.encode() for name in _VIRTUAL_NETS)
            rows = [fields.split() for name, _, fields in found if not name.strip().startswith(virtual)]
            return _sums(rows, {"network_receive": 0, "network_transmit": 8}, 1)
        except _UNTOLD:
            return {}


def tree(proc: Path, pid: int) -> list[int]:
    """A process and all below it. Raises OSError, ValueError or IndexError if they are not told."""
    pids = [int(name) for name in os.listdir(proc) if name.isdigit()]  # noqa: PTH208 - a third of iterdir's time
    children: dict[int, list[int]] = {}
    for other in pids if len(pids) <= PROCESSES_MAX else ():
        try:
            children.setdefault(int(_stat(proc, other)[1]), []).append(other)
        except OSError:  # it has ended meanwhile
            continue
    found = [pid]
    for each in found:
        found.extend(children.pop(each, ()))  # popped: a process number used anew could make a circle
    return found


def _stat(proc: Path, pid: int) -> list[bytes]:
    """Fields of /proc/<pid>/stat from the third on; the second, a name, may hold anything."""
    return _read(proc / str(pid) / "stat").rpartition(b")")[2].split()


def memory_kib(proc: Path = PROC) -> dict[bytes, int]:
    """/proc/meminfo by name. Raises OSError, ValueError or IndexError."""
    pairs = (line.split(b":", 1) for line in _read(proc / "meminfo").splitlines())
    return {name: int(rest.split()[0]) for name, rest in pairs}


def _rows(path: Path) -> list[list[bytes]]:
    return [line.split() for line in _read(path).splitlines()]


def _sums(rows: Iterable[list[bytes]], columns: Mapping[str, int], unit: int) -> dict[str, int]:
    table = list(rows)
    return {name: unit * sum(int(row[at]) for row in table) for name, at in columns.items()} if table else {}


def _read(path: Path) -> bytes:
    """A file whole, by few calls of the system."""
    file = os.open(path, os.O_RDONLY)
    try:
        data = piece = os.read(file, _PIECE_BYTES)
        while piece and len(data) < _PIECE_BYTES * 16:
            piece = os.read(file, _PIECE_BYTES)
            data += piece
        return data
    finally:
        os.close(file)
