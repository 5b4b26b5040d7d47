"""Event files made by hand, imports of them, and what a service or stock TensorBoard then holds, to compare."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
from tensorboard import data_compat, dataclass_compat
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event as StockEvent
from tensorboard.compat.proto.summary_pb2 import Summary as StockSummary
from tensorboard.util import tensor_util
from tensorboardX.proto import event_pb2, summary_pb2

from tallyboard.delivery.transport import HttpTransport
from tallyboard.logdir.importing import Import, Summary
from tallyboard.logdir.mends import Mends
from tallyboard.logdir.shipping import Service
from tallyboard.logdir.tags import CounterRule
from tallyboard_server.eventfiles.tfrecord import frame
from tests.service import RunningService

NAME = "events.out.tfevents.{}.host"
STEPS_SHOWN_MAX = 100_000


class Shown(NamedTuple):
    """A point: its step, and its value in a form that can be compared."""

    step: int
    value: Any


Curves = dict[str, dict[str, list[Shown]]]
"""run → tag → points in order."""


def header() -> bytes:
    """The first record of an event file."""
    event = event_pb2.Event(wall_time=1.7e9, file_version="brain.Event:2")
    return frame(event.SerializeToString())


def event(step: int, values: Mapping[str, float], wall_time: float = 1.7e9) -> bytes:
    """A record of scalars."""
    summary = summary_pb2.Summary(
        value=[summary_pb2.Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
    )
    return frame(event_pb2.Event(wall_time=wall_time, step=step, summary=summary).SerializeToString())


def start(step: int) -> bytes:
    """A session start."""
    log = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    return frame(event_pb2.Event(wall_time=1.7e9, step=step, session_log=log).SerializeToString())


def write(directory: Path, number: int, records: Iterable[bytes]) -> Path:
    """An event file; they are read in the order of their numbers."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / NAME.format(1_700_000_000 + number)
    path.write_bytes(b"".join((header(), *records)))
    return path


def curve(tag: str, steps: Iterable[int], value: float = 0.0) -> list[bytes]:
    """Records of one tag whose value is its step and a bit."""
    return [event(step, {tag: step + value}) for step in steps]


def import_from(
    logdir: Path, service: RunningService | None, project: str | None = None, *rules: tuple[str, str]
) -> Summary:
    """Import a logdir in this process; no service: only read it."""
    way = None
    if service is not None:
        way = Service(HttpTransport(service.url, None, "test"), patience_s=5.0)
    return Import(logdir, way, project, [CounterRule(*rule) for rule in rules]).run()


def counts(summary: Summary) -> dict[str, int]:
    """What was mended, by kind."""
    return counts_of(summary.mends)


def counts_of(mends: Mends) -> dict[str, int]:
    """How many there are of each kind."""
    return {kind: mend.count for kind, mend in mends.found.items()}


def imported(service: RunningService, project: str) -> Curves:
    """All that a service holds of a project, runs by their names within it; a value as stock TensorBoard makes it."""
    found: Curves = {}
    rows = service.get(f"/runs?project={quote(project)}&limit=1000").json()["runs"]
    for name in [row["run"] for row in rows]:
        view = service.get(f"/runs/{quote(name)}").json()
        run = found.setdefault(name.removeprefix(f"{project}/"), {})
        for tag in view["tag_counters"]:
            if tag not in view["kinds"]:
                run[tag] = [Shown(step, comparable(value)) for step, value in service.points(name, tag)]
            else:
                run[tag] = _blobs(service, name, tag, STEPS_SHOWN_MAX)
    return found


def stock(logdir: Path) -> Curves:
    """All that stock TensorBoard's Python reader shows of a logdir, by the runs' paths."""
    found: Curves = {}
    for directory in sorted({path.parent for path in logdir.rglob("*tfevents*")}):
        reader = EventAccumulator(str(directory), tensor_size_guidance={"scalars": 0, "images": 0, "text": 0})
        reader.Reload()
        run = found.setdefault(str(directory.relative_to(logdir)), {})
        for tag in reader.Tags()["tensors"]:
            plugin = reader.SummaryMetadata(tag).plugin_data.plugin_name
            if plugin == "graph_tagged_run_metadata":  # left out, and told
                continue
            is_scalar = plugin == "scalars"
            run[tag] = [
                Shown(e.step, comparable(_array(e.tensor_proto).item() if is_scalar else _array(e.tensor_proto)))
                for e in reader.Tensors(tag)
            ]
        if reader.Tags()["graph"]:
            run["__run_graph__"] = []
    return found


def comparable(value: Any) -> Any:
    """A number (NaN included) or an array as text and bytes that are equal if the values are."""
    if isinstance(value, np.ndarray):
        return value.shape, value.tolist() if value.dtype == object else value.tobytes()
    return repr(float(value))


def _array(tensor: Any) -> Any:
    return tensor_util.make_ndarray(tensor)


def _blobs(service: RunningService, run: str, tag: str, step_max: int) -> list[Shown]:
    """The points of a tag that is no scalar, last to first by asking for each, and then in order."""
    found: list[Shown] = []
    for step in range(step_max):
        answer = service.get(f"/blobs/{quote(run)}?tag={quote(tag, safe='')}&step={step}")
        if answer.status == 200:
            found.append(Shown(step, _as_stock(answer.body)))
        last = service.get(f"/blobs/{quote(run)}?tag={quote(tag, safe='')}")
        if step >= int(last.headers["Tallyboard-Step"]):
            break
    return found if tag != "__run_graph__" else []


def _as_stock(value: bytes) -> Any:
    """A Summary.Value as stock TensorBoard keeps it, which brings all forms of a kind into one."""
    whole = StockEvent(summary=StockSummary(value=[StockSummary.Value.FromString(value)]))
    (migrated,) = dataclass_compat.migrate_event(data_compat.migrate_event(whole), initial_metadata={})
    return comparable(_array(migrated.summary.value[0].tensor))
