"""The command: which rows to run, on what, and where the figures go."""

import argparse
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from tests.bench import (
    board_rows,
    chart_rows,
    client_rows,
    delivery_rows,
    engine_rows,
    export_rows,
    import_rows,
    kit_rows,
    load_rows,
    local_rows,
    scale_rows,
    store_rows,
    table_rows,
)
from tests.bench.machine import statement
from tests.bench.plan import Bench, NoRoomError, prepared
from tests.bench.result import Row, better
from tests.bench.sizes import FULL, QUICK, Sizes
from tests.bench.table import limits, line, render

RESULTS: Final = Path("bench-results")
RowsOf = Callable[[Bench], "Row | list[Row]"]

ROWS: Final[dict[str, RowsOf]] = {
    "baseline": local_rows.baseline,
    "encoder": local_rows.encoder,
    "real-life": load_rows.real_life,
    **{kind.name: partial(load_rows.burst, kind=kind) for kind in load_rows.BURSTS},
    "sustained": load_rows.sustained,
    "engines": engine_rows.engines,
    "client-log": client_rows.client_log,
    "add-scalar": client_rows.add_scalar,
    "client-stream": client_rows.client_stream,
    "kit-step": kit_rows.step,
    "log-away": delivery_rows.log_away,
    "spool": delivery_rows.spool,
    "finish": delivery_rows.finish,
    "runs": scale_rows.runs,
    "volume": scale_rows.volume,
    "rewind": scale_rows.rewinds,
    "table": table_rows.table,
    "board": board_rows.board,
    "every-chart": board_rows.every_chart,
    "charts": chart_rows.charts,
    "charts-many": chart_rows.many_charts,
    "export": export_rows.exports,
    "import": import_rows.imports,
    "store-size": store_rows.size,
    "store-singles": store_rows.singles,
    "postgres-size": store_rows.size_on_postgres,
}
"""What can be asked for with --only; the baseline, which the others are held against, always comes first."""


class Results(msgspec.Struct):
    """The JSON file. limits: largest value in MB, target, and whether it is met."""

    machine: dict[str, str]
    sizes: Sizes
    rows: list[Row]
    limits: dict[str, tuple[float, int, bool]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 1 if a row failed (not if a target was missed: that is what the table is for)."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that services end and data is removed
    sizes = QUICK if options.quick else FULL
    if options.minutes is not None:
        sizes = sizes.with_minutes(options.minutes)
    try:
        results = measure(sizes, options.dir, options.only, options.repeat, say=_say)
    except NoRoomError as error:
        print(error, file=sys.stderr)
        return 2
    target = options.json or RESULTS / f"{time.strftime('%Y-%m-%dT%H-%M-%S')}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1))
    print("\n" + render(results.machine, results.rows))
    print(f"figures: {target}")
    return 1 if any(row.failed for row in results.rows) else 0


def measure(
    sizes: Sizes, directory: Path, only: Sequence[str] = (), repeat: int = 1, *, say: Callable[[str], None]
) -> Results:
    """Run the rows asked for (none: all), each `repeat` times, of which the best counts. Raises NoRoomError."""
    names = [name for name in ROWS if name == "baseline" or not only or name in only]
    rows: list[Row] = []
    with prepared(sizes, directory) as bench:
        machine = statement(directory) | {"sizes": _how(sizes, repeat)}
        for name in names:
            for row in _best(name, ROWS[name], bench, 1 if name in ("baseline", "encoder") else repeat):
                say(line(row))
                rows.append(row)
    return Results(machine, sizes, rows, limits(rows))


def _best(name: str, rows_of: RowsOf, bench: Bench, repeat: int) -> list[Row]:
    best = _attempt(name, rows_of, bench)
    for _ in range(repeat - 1):
        again = _attempt(name, rows_of, bench)
        if len(again) == len(best):
            best = [better(one, other) for one, other in zip(best, again, strict=True)]
        else:  # one try broke off
            best = min(best, again, key=len)
    return best


def _attempt(name: str, rows_of: RowsOf, bench: Bench) -> list[Row]:
    try:
        found = rows_of(bench)
    except Exception as error:  # noqa: BLE001 - one row that breaks must not take the others with it
        return [Row(name, "broke off", error=f"{type(error).__name__}: {error}")]
    return found if isinstance(found, list) else [found]


def _how(sizes: Sizes, repeat: int) -> str:
    tries = "each row once" if repeat == 1 else f"the best of {repeat} tries at each row"
    return f"{sizes.name}, {tries}; load generators run on the same machine"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller sizes: under two minutes")
    parser.add_argument("--minutes", type=float, help="length of the sustained row (1)")
    parser.add_argument("--only", action="append", choices=list(ROWS), metavar="ROW", default=[],
                        help=f"a row to run, may be repeated: {', '.join(ROWS)}")  # fmt: skip
    parser.add_argument("--repeat", type=int, default=1, help="tries at each row, of which the best counts (1)")
    parser.add_argument("--dir", type=Path, default=RESULTS, help="where data is written: a local disk (bench-results)")
    parser.add_argument("--json", type=Path, help="where the figures go (bench-results/<date>.json)")
    return parser
