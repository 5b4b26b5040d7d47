"""The benchmark's rows as text: figures and targets first, then what the service needed for them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from tests.bench.result import Goal, Row

MB: Final = 1e6
GAP_S_MAX: Final = 1.0
RSS_MAX_MB: Final = 400
LOG_MAX_MB: Final = 300
"""Targets for every row with a service: its memory, and its write-ahead log."""


def render(machine: Mapping[str, str], rows: Sequence[Row]) -> str:
    """The whole report."""
    parts = ["\n".join(f"{name:>9}  {text}" for name, text in machine.items())]
    parts.append(_aligned(["row", "rate", "baseline", "p50", "p99", "target", "reached", "", "what"], _figures(rows)))
    if used := list(_usage(rows)):
        heads = ["row", "CPU", "load", "to disk", "commits/req", "memory", "log", "files", "event files", "found again"]
        parts.append(_aligned(heads, used))
        parts.append(_limits(rows))
    if costs := list(_costs(rows)):
        heads = ["row", "CPU/scalar", "database's", "both", "log/scalar", "transactions/req", "changed in place"]
        parts.append(_aligned(heads, costs))
    parts.append("\n".join(_remarks(rows)))
    return "\n\n".join(part for part in parts if part) + "\n"


def line(row: Row) -> str:
    """One row as soon as it is there."""
    if row.error is not None:
        return f"{row.name}: FAILED: {row.error}"
    goals = ", ".join(f"{goal.text}: {goal.reached}{'' if goal.met else ' NOT MET'}" for goal in row.goals)
    faults = f" MISMATCH {row.stored.faults}" if row.failed and row.stored is not None else ""
    return f"{row.name}: {_rate(row)}{f' ({goals})' if goals else ''}{faults}"


def limits(rows: Sequence[Row]) -> dict[str, tuple[float, int, bool]]:
    """Largest value, target and whether it is met, of what holds for all rows; empty without a service."""
    usages = [row.usage for row in rows if row.usage is not None]
    if not usages:
        return {}
    rss = max(usage.rss_bytes for usage in usages) / MB
    log = max(usage.log_bytes for usage in usages) / MB
    return {
        "memory of the service": (rss, RSS_MAX_MB, rss < RSS_MAX_MB),
        "write-ahead log": (log, LOG_MAX_MB, log < LOG_MAX_MB),
    }


def _figures(rows: Sequence[Row]) -> Iterator[list[str]]:
    for row in rows:
        if row.error is not None:
            yield [row.name, "", "", "", "", "", "", "FAILED", row.what]
            continue
        p50 = _duration(row.latency.p50_ms) if row.latency else ""
        p99 = _duration(row.latency.p99_ms) if row.latency else ""
        ratio = f"{row.ratio:.0f}×" if row.ratio else ""
        goals = [_goal(row, goal) for goal in row.goals] or [["", "", "FAILED" if row.failed else ""]]
        yield [row.name, _rate(row), ratio, p50, p99, *goals[0], row.what]
        for goal in goals[1:]:
            yield ["", "", "", "", "", *goal, ""]


def _goal(row: Row, goal: Goal) -> list[str]:
    return [goal.text, goal.reached, "FAILED" if row.failed else "met" if goal.met else "NOT MET"]


def _usage(rows: Sequence[Row]) -> Iterator[list[str]]:
    for row in rows:
        usage, stored = row.usage, row.stored
        if usage is None:
            continue
        commits = usage.commits_per_request
        found = ""
        if stored is not None:
            found = "MISMATCH" if stored.faults else f"{stored.stored_scalars:,} of {stored.sent_scalars:,}"
        yield [
            row.name,
            f"{usage.server_cpu:.2f}",
            f"{usage.load_cpu:.2f}",
            f"{usage.disk_bytes_s / MB:.1f} MB/s",
            f"{commits:.3f}" if commits is not None else "",
            f"{usage.rss_bytes / MB:.0f} MB",
            f"{usage.log_bytes / MB:.0f} MB",
            str(usage.descriptors),
            f"+{usage.event_files_after_s:.1f} s",
            found,
        ]


def _costs(rows: Sequence[Row]) -> Iterator[list[str]]:
    for row in rows:
        if (cost := row.cost) is None:
            continue
        yield [
            row.name,
            f"{cost.service_ns:,.0f} ns",
            f"{cost.database_ns:,.0f} ns",
            f"{cost.service_ns + cost.database_ns:,.0f} ns",
            f"{cost.log_bytes:.1f} B",
            f"{cost.transactions:.3f}",
            ", ".join(f"{table} {share:.0%}" for table, share in cost.in_place.items()),
        ]


def _limits(rows: Sequence[Row]) -> str:
    return "\n".join(
        f"{what}: {value:.0f} MB at most (target < {most} MB: {'met' if met else 'NOT MET'})"
        for what, (value, most, met) in limits(rows).items()
    )


def _remarks(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        if row.error is not None:
            yield f"{row.name}: {row.error}"
        if row.usage is not None and row.usage.gap_s > GAP_S_MAX:
            yield f"{row.name}: nothing ran for {row.usage.gap_s:.1f} s in between: the machine was busy elsewhere"
        for note in row.notes:
            yield f"{row.name}: {note}"
        if row.stored is not None:
            for fault in row.stored.faults:
                yield f"{row.name}: MISMATCH: {fault}"


def _rate(row: Row) -> str:
    if row.rate is None:
        return ""
    if row.rate >= 1e6:
        return f"{row.rate / 1e6:.2f} M {row.unit}"
    return f"{row.rate:,.0f} {row.unit}"


def _duration(ms: float) -> str:
    if ms < 0.1:
        return f"{ms * 1e3:.2f} µs"
    return f"{ms:.1f} ms" if ms < 100 else f"{ms:.0f} ms"


def _aligned(heads: Sequence[str], lines: Iterator[list[str]] | Sequence[list[str]]) -> str:
    """Columns, each as wide as its widest cell; the last one free."""
    cells = [list(heads), *lines]
    widths = [max(len(row[i]) for row in cells) for i in range(len(heads))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in cells)
