"""Records what the real service answers to questions about curves, for series.test.ts.

From the repository's root: PYTHONPATH=. .venv/bin/python server/dashboard/tests/record.py
"""

import base64
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import msgspec
from tests.service import RunningService, serving

from tallyboard_server.settings import Settings

TARGET: Final = Path(__file__).parent / "fixtures" / "series.json"
QUESTIONS: Final[dict[str, dict[str, Any]]] = {
    "every point": {},
    "buckets": {"buckets": 7},
    "relative": {"x": "relative"},
    "along a counter": {"x": "epoch", "buckets": 9},
    "with what was superseded": {"attempts": "all"},
    "buckets with what was superseded": {"attempts": "all", "buckets": 5},
    "a part": {"from": 20, "to": 70, "buckets": 6},
}
RUNS: Final = ("p/a", "p/b")
FIELDS: Final = ("x", "end", "first", "min", "max", "last", "mean", "count", "nonfinite")
"""As src/lib/series.ts asks for them."""
TABLES: Final[dict[str, dict[str, Any]]] = {
    "points": {"attempts": "all", "x": "relative"},
    "buckets": {"buckets": 4},
    "groups": {"group": "lr", "to": 11},
}
"""Asked with all columns, for csv.test.ts."""
BEGIN_S: Final = 1_800_000_000.0
FAR: Final = 2**53


def train(service: RunningService, run: str, steps: range, **tags: Any) -> None:
    """A report per step, ten seconds apart; each tag is a value, or a function of the step."""
    reports = [
        {
            "step": step,
            "wall_time": BEGIN_S + 10 * step,
            "at": {"epoch": step // 10},
            "scalars": {tag: value(step) if callable(value) else value for tag, value in tags.items()},
        }
        for step in steps
    ]
    answer = service.report(run, {"reports": reports})
    assert answer.status == 200, answer.body


def changes(service: RunningService) -> Any:
    """One after the other, what happens to the runs between two questions."""
    train(service, "p/a", range(30), loss=lambda step: 1 / (step + 1))
    train(service, "p/b", range(5), loss=0.5)
    yield "two runs"
    train(service, "p/a", range(30, 45), loss=lambda step: ("NaN", "Infinity", 0.25)[step % 3])
    yield "growth, not all of it finite"
    yield "nothing"
    train(service, "p/a", range(45, 50), loss=0.125, **{"val/acc": lambda step: step / 50})
    yield "a new tag"
    service.send("POST", "/rewind/p/a", {"next_steps": {"global_step": 40}})
    yield "a rewind"
    train(service, "p/a", range(40, 90), loss=lambda step: -step)
    yield "growth after it"
    service.send("POST", "/rewind/p/a", {"next_steps": {"global_step": 2}})
    train(service, "p/a", range(2, 12), loss=3)
    yield "a rewind that hides a tag"
    assert service.send("DELETE", "/runs/p/b", {}).status == 204
    yield "a run deleted"
    assert service.send("PUT", "/runs/p/b", {}).status in (200, 201)
    train(service, "p/b", range(3), loss=9)
    yield "and made again"
    train(service, "p/a", range(FAR - 1, FAR + 4), loss=lambda step: step - FAR)
    yield "steps beyond 2⁵³"


def ask(service: RunningService, question: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """An answer's bytes in base64, and what they say."""
    body = msgspec.json.encode({"runs": RUNS, **question})
    headers = {"Content-Type": "application/json", "Accept": "application/msgpack"}
    answer = service.request("POST", "/api/v1/query", body, headers)
    assert answer.status == 200, answer.body
    return base64.b64encode(answer.body).decode(), answer.json()


def record(service: RunningService) -> dict[str, Any]:
    """For each question, after each change: the answer to `since`, and that to the whole question."""
    cursors: dict[str, str] = {}
    found: dict[str, list[dict[str, str]]] = {name: [] for name in QUESTIONS}
    for happened in changes(service):
        for name, question in QUESTIONS.items():
            since = {"since": cursors[name]} if name in cursors else {}
            lean = question | {"fields": FIELDS}
            news, read = ask(service, lean | since)
            cursors[name] = read["cursor"]
            found[name].append({"after": happened, "news": news, "whole": ask(service, lean)[0]})
    service.send("PATCH", "/runs/p/a", {"config": {"lr": 0.1}})
    groups = ask(service, {"tags": ["loss"], "group": "lr", "to": 11})[0]
    tables = {name: ask(service, {"tags": ["loss"]} | question)[0] for name, question in TABLES.items()}
    return {"replays": found, "groups": groups, "tables": tables}


if __name__ == "__main__":
    with TemporaryDirectory() as folder, serving(Settings(port=0, data_dir=Path(folder))) as service:
        TARGET.write_text(json.dumps(record(service), indent=1) + "\n")
