"""A crowd of clients that report once a second each, alone and beside one that asks as fast as it can."""

import argparse
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from tallyboard_server.settings import Settings
from tests.bench.load import Loaded, Plan, generate
from tests.bench.machine import statement
from tests.bench.plan import prepared
from tests.bench.readback import read_back, sent
from tests.bench.result import Goal, Latency, Row
from tests.bench.service import Service, Span, serving
from tests.bench.sizes import QUICK
from tests.bench.streams import Form, Stream, tags
from tests.bench.workers import Worker

CLIENTS: Final = 1_000
SECONDS: Final = 120.0
PERIOD_S: Final = 1.0
TAGS: Final = 10
P99_MS_MAX: Final = 100.0
RATIO_MAX: Final = 2.0
SETTLED_S: Final = 30.0
"""After which the service's memory should not grow any more."""
GROWTH_MAX: Final = 1.25
ABUSER_ADDRESS: Final = "127.0.0.2"
"""Without tokens whoever asks is told by the address."""
_BEFORE_S: Final = 1.0
"""How long the abusive client is at work before the crowd comes."""
_GRACE_S: Final = 120.0


@dataclass(slots=True, frozen=True)
class Abuse:
    """One client that asks without pause, on several connections to one run, and heeds no Retry-After."""

    name: str
    form: Form
    rows: int
    connections: int = 8

    def plan(self, port: int, seconds: float) -> Plan:
        """Each connection reports to a counter of its own, so that all reports are good."""
        names = [tuple(f"c{i}/{tag}" for tag in tags(TAGS if self.rows > 1 else 1)) for i in range(self.connections)]
        streams = tuple(
            (Stream("abuse/run", names[i], self.rows, self.form, f"abuser{i}", f"c{i}"),)
            for i in range(self.connections)
        )
        return Plan(port, streams, seconds, address=ABUSER_ADDRESS, patient=False)


ABUSES: Final = (
    Abuse("json", "json-single", 1),
    Abuse("msgpack", "msgpack", 1_000),
    Abuse("json-64", "json-single", 1, connections=64),
)


@dataclass(slots=True)
class Crowded:
    """What came of it. rss_bytes: of the service after SETTLED_S (or a quarter of the time) and at the end."""

    row: Row
    loaded: Loaded
    rss_bytes: tuple[float, float]
    abuser: Loaded | None = None


def crowded(
    folder: Path, clients: int, seconds: float, abuse: Abuse | None, settings: Iterable[tuple[str, str]] = ()
) -> Crowded:
    """A crowd for so long against a new service, and everything found again afterwards."""
    streams = tuple((Stream(f"crowd/run{i:04d}", tags(TAGS), 1, producer=f"job{i}"),) for i in range(clients))
    rate = str(Settings.model_fields["rate_per_token"].default)  # as people get it
    with serving(folder, [("TALLYBOARD_RATE_PER_TOKEN", rate), *settings]) as service:
        plan = Plan(service.port, streams, seconds, period_s=PERIOD_S)
        loaded, abuser = _load(plan, abuse)
        name = "crowd" if abuse is None else f"crowd-{abuse.name}"
        beside = "" if abuse is None else f", beside {abuse.connections} connections to one run that never pause"
        row = Row(
            name,
            f"{clients:,} clients × 1 report/s × {TAGS} tags for {seconds:g} s{beside}",
            rate=loaded.rate,
            latency=Latency.of(loaded.latencies),
            usage=service.usage(Span.of(loaded)),
            stored=read_back(service, sent(plan, loaded)),
            judged_by="p99",
        )
        found = Crowded(row, loaded, _rss(service, loaded), abuser)
    _judge(found)
    return found


def _load(plan: Plan, abuse: Abuse | None) -> tuple[Loaded, Loaded | None]:
    with ExitStack() as stack:
        crowd = stack.enter_context(Worker(generate, plan))
        if abuse is None:
            crowd.begin()
            return crowd.result(plan.seconds + _GRACE_S), None
        abuser = stack.enter_context(Worker(generate, abuse.plan(plan.port, plan.seconds + 2 * _BEFORE_S)))
        abuser.begin()
        time.sleep(_BEFORE_S)
        crowd.begin()
        return crowd.result(plan.seconds + _GRACE_S), abuser.result(_GRACE_S)


def _rss(service: Service, loaded: Loaded) -> tuple[float, float]:
    at = [sample.at for sample in service.samples]
    rss = [float(sample.rss_bytes) for sample in service.samples]
    settled = loaded.begun + min(SETTLED_S, loaded.seconds / 4)
    first, last = np.interp((settled, loaded.ended), at, rss).tolist()
    return first, last


def _judge(found: Crowded) -> None:
    row, loaded = found.row, found.loaded
    errors = sum(loaded.errors.values()) + loaded.busy
    row.goals.append(Goal("0 errors", str(errors), errors == 0))
    row.notes.extend(list(loaded.errors)[:3])
    if row.latency is not None and found.abuser is None:
        p99 = row.latency.p99_ms
        row.goals.append(Goal(f"p99 of ack ≤ {P99_MS_MAX:.0f} ms", f"{p99:.1f} ms", p99 <= P99_MS_MAX))
    first, last = found.rss_bytes
    row.goals.append(Goal("memory settles", f"{first / 1e6:.0f} → {last / 1e6:.0f} MB", last <= GROWTH_MAX * first))
    if (abuser := found.abuser) is not None:
        taken = Latency.of(abuser.latencies)
        rate = len(abuser.latencies) / abuser.seconds if abuser.seconds else 0.0
        p50 = f", p50 {taken.p50_ms:.1f} ms" if taken is not None else ""
        refused = abuser.busy / abuser.seconds if abuser.seconds else 0.0
        row.notes.append(f"the abusive client: {rate:.0f} requests/s taken{p50}, {refused:.0f}/s refused")
        row.notes.extend(f"the abusive client: {error}" for error in list(abuser.errors)[:3])


def compared(alone: Crowded, others: Sequence[Crowded]) -> None:
    """Add to those with an abusive client how much longer the crowd's answers took."""
    for other in others:
        if alone.row.latency is None or other.row.latency is None:
            continue
        ratio = other.row.latency.p99_ms / alone.row.latency.p99_ms
        other.row.ratio = ratio
        other.row.goals.append(Goal(f"p99 ≤ {RATIO_MAX:g}× alone", f"{ratio:.2f}×", ratio <= RATIO_MAX))


def main(arguments: Sequence[str] | None = None) -> int:
    """`make load`; 1 if something sent was not found again."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.crowd", description=__doc__)
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="length of each of the parts (120)")
    parser.add_argument("--only", choices=["alone", *(abuse.name for abuse in ABUSES)], action="append", default=[])
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the service")
    parser.add_argument("--dir", type=Path, default=Path("bench-results"), help="where data is written: a local disk")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that services end and data is removed
    settings = [(f"TALLYBOARD_{name.upper()}", value) for name, _, value in (s.partition("=") for s in options.set)]
    results: list[Crowded] = []
    sizes = replace(QUICK, name="crowd", free_bytes_min=2 * 2**30)
    with prepared(sizes, options.dir) as bench:
        print("\n".join(f"{name:>9}  {text}" for name, text in statement(options.dir).items()))
        for abuse in (None, *ABUSES):
            if options.only and (abuse.name if abuse else "alone") not in options.only:
                continue
            with bench.data_folder() as folder:
                results.append(crowded(folder, options.clients, options.seconds, abuse, settings))
            if results[0].abuser is None:
                compared(results[0], results[-1:] if results[-1].abuser else [])
            print(described(results[-1].row), flush=True)
    return 1 if any(result.row.failed for result in results) else 0


def described(row: Row) -> str:
    """A part's figures, as lines."""
    lines = [f"{row.name}: {row.what}"]
    if row.latency is not None:
        lat = row.latency
        lines.append(f"  ack p50 {lat.p50_ms:.1f} ms, p99 {lat.p99_ms:.1f} ms, max {lat.max_ms:.1f} ms ({lat.count:,})")
    lines += [f"  {'ok  ' if goal.met else 'MISS'} {goal.text}: {goal.reached}" for goal in row.goals]
    if row.usage is not None:
        lines.append(f"  service: {row.usage.server_cpu:.2f} cores; load generator: {row.usage.load_cpu:.2f}")
    lines += [f"  {note}" for note in row.notes]
    if row.stored is not None:
        lines.append(f"  stored and found again: {row.stored.stored_scalars:,} scalars" if not row.stored.faults else
                     f"  MISMATCH {row.stored.faults[:3]}")  # fmt: skip
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
