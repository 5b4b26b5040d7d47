"""How much each row does: the full benchmark, the quick one, and the smallest that still runs every line."""

from dataclasses import dataclass, replace
from typing import Final

GIB: Final = 1024**3


@dataclass(slots=True, frozen=True)
class Sizes:
    """Amounts of work. `_s` are seconds of load; what comes before and after (start, catching up, reading back) adds.

    real_*: the row of many quiet runs. away_calls: of run.log while the service is down, and while it is up;
    away_repeats: tries at each; spool_calls: of run.log for a spool that is filled and drained; finishes: runs that
    end, and are timed, each way. scale_runs: numbers of runs that share the same load. volume_scalars: how far
    the row of the 100-millionth scalar goes. rewind_points: sizes of the runs that are rewound.
    chart_points: lengths of single series that are charted; chart_runs: how many runs, of so many points, at once.
    table_runs: how many a table shows, and how many it puts in order.
    board: runs, and reports of each, of which TensorBoard shows one tag. every_chart: the same, all of which are shown.
    replicas: how many services share a PostgreSQL in the rows that compare it with SQLite.
    store_reports: ten-tag reports merged for the rows about the store's size; export_reports: exported.
    import_scalars: in the logdir that is imported.
    """

    name: str
    baseline_calls: int
    baseline_repeats: int
    encoder_s: float
    real_runs: int
    real_s: float
    burst_s: float
    sustained_s: float
    readers: int
    client_calls: int
    client_s: float
    away_calls: int
    away_repeats: int
    spool_calls: int
    finishes: int
    scale_runs: tuple[int, ...]
    scale_s: float
    volume_scalars: int
    rewind_points: tuple[int, ...]
    rewinds: int
    table_runs: tuple[int, int]
    board: tuple[int, int]
    every_chart: tuple[int, int]
    chart_points: tuple[int, ...]
    chart_runs: tuple[int, int]
    replicas: tuple[int, ...]
    store_reports: int
    export_reports: int
    import_scalars: int
    free_bytes_min: int
    """Free disk space without which the benchmark does not begin: what its largest row can write, and some more."""
    settings: tuple[tuple[str, str], ...] = ()
    """TALLYBOARD_* variables of the service; none: as people get it."""

    def with_minutes(self, minutes: float) -> "Sizes":
        """The same, with the sustained row lasting so many minutes."""
        return replace(self, sustained_s=60.0 * minutes)


FULL: Final = Sizes(
    name="full",
    baseline_calls=60_000,
    baseline_repeats=3,
    encoder_s=1.0,
    real_runs=1_000,
    real_s=30.0,
    burst_s=10.0,
    sustained_s=60.0,
    readers=4,
    client_calls=100_000,
    client_s=8.0,
    away_calls=400_000,
    away_repeats=3,
    spool_calls=500_000,
    finishes=5,
    scale_runs=(1, 100, 1_000),
    scale_s=6.0,
    volume_scalars=100_000_000,
    rewind_points=(10_000, 1_000_000, 20_000_000),
    rewinds=40,
    table_runs=(1_000, 10_000),
    board=(1_000, 10_000),
    every_chart=(100, 10_000),
    chart_points=(10_000, 1_000_000, 10_000_000, 100_000_000),
    chart_runs=(100, 100_000),
    replicas=(1, 2, 4),
    store_reports=2_500_000,
    export_reports=1_000_000,
    import_scalars=10_000_000,
    free_bytes_min=30 * GIB,
)

QUICK: Final = Sizes(
    name="quick",
    baseline_calls=20_000,
    baseline_repeats=2,
    encoder_s=0.3,
    real_runs=1_000,
    real_s=6.0,
    burst_s=2.0,
    sustained_s=6.0,
    readers=4,
    client_calls=50_000,
    client_s=2.0,
    away_calls=100_000,
    away_repeats=2,
    spool_calls=100_000,
    finishes=3,
    scale_runs=(1, 1_000),
    scale_s=1.5,
    volume_scalars=10_000_000,
    rewind_points=(10_000, 1_000_000),
    rewinds=15,
    table_runs=(1_000, 3_000),
    board=(1_000, 200),
    every_chart=(20, 2_000),
    chart_points=(10_000, 1_000_000),
    chart_runs=(20, 20_000),
    replicas=(1, 2, 4),
    store_reports=500_000,
    export_reports=200_000,
    import_scalars=2_000_000,
    free_bytes_min=6 * GIB,
)

TINY: Final = Sizes(
    name="tiny",
    baseline_calls=200,
    baseline_repeats=1,
    encoder_s=0.01,
    real_runs=20,
    real_s=1.0,
    burst_s=0.2,
    sustained_s=0.6,
    readers=2,
    client_calls=500,
    client_s=0.2,
    away_calls=500,
    away_repeats=1,
    spool_calls=500,
    finishes=1,
    scale_runs=(1, 5),
    scale_s=0.2,
    volume_scalars=500_000,
    rewind_points=(1_000, 20_000),
    rewinds=3,
    table_runs=(20, 150),
    board=(12, 40),
    every_chart=(3, 1_500),
    chart_points=(500, 40_000),
    chart_runs=(3, 5_000),
    replicas=(2,),
    store_reports=20_000,
    export_reports=2_000,
    import_scalars=40_000,
    free_bytes_min=1 * GIB,
    settings=(("TALLYBOARD_EXPORT_SYNC_INTERVAL_S", "0.3"),),
)
