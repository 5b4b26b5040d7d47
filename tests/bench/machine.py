"""What the figures were measured on."""

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

import apsw
import psutil


def statement(directory: Path) -> dict[str, str]:
    """Machine, versions, file system of the data, and what else the machine was doing, in words."""
    load = os.getloadavg()
    memory = psutil.virtual_memory().total / 2**30
    return {
        "machine": f"{os.cpu_count()} cores ({_processor()}), {memory:.0f} GiB of memory",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "store": f"SQLite {apsw.sqlite_lib_version()} on {_file_system(directory)}, every commit synced",
        "baseline": f"tensorboardX {version('tensorboardX')}, numpy {version('numpy')}",
        "before": f"load average {load[0]:.1f}, {load[1]:.1f}, {load[2]:.1f} (1, 5, 15 minutes)",
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _file_system(directory: Path) -> str:
    """Type and device of what a directory lies on."""
    resolved = directory.resolve()
    mounts = {Path(part.mountpoint): part for part in psutil.disk_partitions(all=True)}
    found = next((mounts[path] for path in (resolved, *resolved.parents) if path in mounts), None)
    return f"{found.fstype} ({found.device})" if found is not None else "an unknown file system"
