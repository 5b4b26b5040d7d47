"""The examples of the API's documentation; a test sends every one of them to a running service."""

import base64
import struct
from typing import Any, Final

from tallyboard.wire import protos

RUN: Final = "mnist/try1"

PROJECT: Final = "mnist"
OPEN: Final[dict[str, Any]] = {
    "create": {"config": {"lr": 0.001}, "tags": ["baseline"], "counters": {"global_step": {"total": 10_000}}},
    "continue": {"resume": "continue"},
}
REPORTS: Final[dict[str, Any]] = {
    "one": {"step": 1, "scalars": {"loss": 0.5}},
    "counter and time": {
        "counter": "epoch",
        "step": 1,
        "scalars": {"val/loss": 0.4, "val/acc": "NaN"},
        "wall_time": 1_760_000_000.25,
        "at": {"global_step": 1},
    },
    "several": {"reports": [{"step": 2, "scalars": {"loss": 0.4}}, {"step": 3, "scalars": {"loss": 0.3}}]},
    "numbered batch": {
        "producer": "trainer-7f3a",
        "seq": 1,
        "partial": True,
        "reports": [{"counter": "G_global_step", "step": 1, "scalars": {"G/loss": 1.5}}],
        "alerts": [{"title": "G/loss is high", "text": "1.5 after the first step", "at": {"G_global_step": 1}}],
        "summary": {"best": 0.93},
    },
}
RECEIPT: Final[dict[str, Any]] = {
    "run": RUN,
    "accepted": 1,
    "stored": 1,
    "repeated": 0,
    "refused_count": 0,
    "refused": [],
    "counters": {"global_step": {"last_step": 1, "attempt": 1}},
    "not_rewound": {},
    "replayed": False,
    "warnings": [],
}
IMAGE_TAG: Final = "samples"
_PNG: Final = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
_IMAGE: Final = b"\x08\x01\x10\x01\x18\x03" + protos.sized(4, _PNG)


def _event(step: int, value: bytes) -> str:
    """A serialised Event (wall time, step, summary) in base64, as JSON has it."""
    event = b"\x09" + struct.pack("<d", 1_760_000_000.0) + b"\x10" + protos.varint(step)
    return base64.b64encode(event + protos.sized(5, protos.sized(1, value))).decode()


EVENTS: Final[dict[str, Any]] = {
    "an image": {"events": [_event(1, protos.sized(1, IMAGE_TAG.encode()) + protos.sized(4, _IMAGE))]},
    "a scalar on a named counter": {
        "counter": "batch",
        "producer": "forwarder-1",
        "seq": 1,
        "partial": True,
        "events": [_event(1, protos.sized(1, b"batch/loss") + b"\x15" + struct.pack("<f", 0.5))],
    },
}
EVENTS_RECEIPT: Final[dict[str, Any]] = RECEIPT | {"counters": {}}
REWIND: Final[dict[str, Any]] = {
    "from a checkpoint": {"id": "restart-2", "next_steps": {"global_step": 3, "epoch": 1}, "reason": "preempted"}
}
REWOUND: Final[dict[str, Any]] = RECEIPT | {
    "accepted": 0,
    "stored": 0,
    "counters": {"global_step": {"last_step": 2, "attempt": 2}, "epoch": {"last_step": None, "attempt": 2}},
    "not_rewound": {"G_global_step": {"last_step": 1, "attempt": 1}},
}
HEARTBEAT: Final[dict[str, Any]] = {"alive": {"producer": "trainer-7f3a"}}
HEARD: Final[dict[str, Any]] = {"run": RUN, "last_seen": 1_760_000_000.5}
REFUSED: Final[dict[str, Any]] = {
    "run": RUN,
    "refused": [
        {
            "at": 1_760_000_000.0,
            "producer": "trainer-7f3a",
            "refusal": {
                "block": 0,
                "row": 0,
                "counter": "global_step",
                "step": 1,
                "last_step": 3,
                "tags": ["loss"],
                "reason": "step_decreased",
                "detail": "global_step was at 3 already; rewind to report step 1 again",
            },
        }
    ],
}
ALERT: Final[dict[str, Any]] = {
    "a line": {"title": "the disk is nearly full"},
    "all of it": {
        "title": "loss is not finite",
        "text": "NaN at epoch 4; the last good checkpoint is ckpt-3000",
        "level": "error",
        "wall_time": 1_760_000_000.25,
        "at": {"global_step": 3120, "epoch": 4},
    },
}
ALERTED: Final[dict[str, Any]] = RECEIPT | {"accepted": 0, "stored": 0, "counters": {}}
ALERTS: Final[dict[str, Any]] = {
    "run": RUN,
    "alerts": [ALERT["all of it"] | {"producer": "trainer-7f3a", "received_at": 1_760_000_000.5}],
}
PATCH: Final[dict[str, Any]] = {
    "finish": {"status": "finished", "summary": {"test/acc": 0.93}},
    "rename": {"display_name": "the good one", "notes": "lr as in the paper", "tags": ["baseline", "paper"]},
    "remove": {"config": {"lr": None}, "notes": None},
}
RUN_VIEW: Final[dict[str, Any]] = {
    "run": RUN,
    "status": "running",
    "display_name": None,
    "group": None,
    "tags": ["baseline"],
    "notes": None,
    "archived": False,
    "created_at": 1_760_000_000.0,
    "updated_at": 1_760_000_000.5,
    "config": {"lr": 0.001},
    "summary": {},
    "provenance": {},
    "counters": {
        "global_step": {
            "last_step": 1,
            "attempt": 1,
            "total": 10_000,
            "attempts": [
                {
                    "number": 1,
                    "writer": "anonymous",
                    "start": 0,
                    "last_step": 1,
                    "last_visible": 1,
                    "limit": None,
                    "reports": 1,
                    "scalars": 1,
                    "unmoved": 0,
                    "host": None,
                    "pid": None,
                    "user": None,
                    "last_seen": None,
                }
            ],
            "tags": ["loss"],
            "stalled": False,
        }
    },
    "tag_counters": {},
    "kinds": {"samples": "images"},
    "health": {
        "last_seen": 1_760_000_000.5,
        "silent_s": 2.5,
        "refused_kept": 0,
        "refused_at": None,
        "alerts_kept": 0,
        "incidents": [],
        "alerted_at": None,
        "stalled": [],
    },
    "warnings": [],
}
RUN_PAGE: Final[dict[str, Any]] = {
    "runs": [
        {
            "run": RUN,
            "status": "running",
            "display_name": None,
            "group": None,
            "tags": ["baseline"],
            "archived": False,
            "created_at": 1_760_000_000.0,
            "updated_at": 1_760_000_000.5,
            "last_seen": 1_760_000_000.5,
            "config": {"lr": 0.001},
            "summary": {},
            "counters": {"global_step": {"last_step": 1, "attempt": 1, "total": 10_000, "stalled": False}},
        }
    ],
    "cursor": None,
}
CHART: Final[dict[str, Any]] = {
    "x": "step",
    "series": [
        {
            "run": RUN,
            "tag": "loss",
            "counter": "global_step",
            "count": 2,
            "points": {"step": [1, 2], "wall_time": [1_760_000_000.0, 1_760_000_001.0], "value": [0.5, "NaN"]},
        }
    ],
    "missing": [],
}
QUERIES: Final[dict[str, Any]] = {
    "curves": {"runs": ["mnist/*"], "tags": ["loss", "val/*"], "x": "relative", "buckets": 1_000},
    "a zoom": {"runs": [RUN], "tags": ["loss"], "from": 1, "to": 2, "buckets": 500},
    "a page's lines": {"runs": ["mnist/*"], "buckets": 200, "fields": ["x", "min", "max", "mean"]},
    "superseded, too": {"runs": [RUN], "attempts": "all"},
    "mean over seeds": {"runs": ["mnist/*"], "tags": ["loss"], "group": "lr", "buckets": 200},
}
LIVE: Final = """retry: 2000
event: hello
data: {"version":"0.1.0","boot":"9f86d081884c7d65"}

event: changed
data: {"runs":["mnist/try1"],"deleted":[],"resync":false}

: nothing new

"""
TAGS: Final[dict[str, Any]] = {
    "runs": 3,
    "tags": [
        {"tag": "loss", "runs": 3, "counters": {"global_step": 3}},
        {"tag": "val/acc", "runs": 2, "counters": {"epoch": 1, "tag:val/acc": 1}},
    ],
    "kinds": [{"kind": "images", "tags": ["samples"], "runs": 1}],
    "missing": ["mnist/nobody"],
    "truncated": False,
}
TAGS_ASKED: Final[dict[str, Any]] = {
    "runs by name": {"runs": [RUN, "mnist/nobody"]},
    "a project": {"runs": ["mnist/*"], "limit": 200},
}
COLUMNS: Final[dict[str, Any]] = {
    "runs": 3,
    "config": [
        {
            "column": "config.lr",
            "runs": 3,
            "sorts": {"number": 3},
            "distinct": 2,
            "values": [0.001, 0.01],
            "least": 0.001,
            "greatest": 0.01,
        },
        {
            "column": "config.net.sizes",
            "runs": 1,
            "sorts": {"list": 1},
            "distinct": None,
            "values": [],
            "least": None,
            "greatest": None,
        },
    ],
    "summary": [],
    "tags": [{"column": "last.loss", "tag": "loss", "runs": 3}],
    "counters": [{"column": "counters.global_step", "counter": "global_step", "runs": 3, "totals": 1}],
    "truncated": False,
}
SERVICE: Final[dict[str, Any]] = {
    "version": "0.1.0",
    "boot": "9f86d081884c7d65",
    "now": 1_760_000_000.5,
    "tensorboard": True,
    "protected": True,
    "access": {"name": "viewer", "scope": "read", "project": None},
    "logdir": "/data/logdir",
    "lost_after_s": 300.0,
}
VERIFY_LINE: Final[dict[str, Any]] = {
    "scalars_read": 2,
    "report": {
        "run": RUN,
        "ok": True,
        "pos": 1,
        "event_file": "/data/logdir/mnist/try1/events.out.tfevents.1760000000.host.1.1",
        "exported_pos": 1,
        "attempts": [
            {
                "counter": "global_step",
                "attempt": 1,
                "writer": "anonymous",
                "sent": 1,
                "pruned": 0,
                "stored": 1,
                "visible": 1,
                "in_file": 1,
                "sent_checksum": "2fade1634c37a881",
                "stored_checksum": "2fade1634c37a881",
            }
        ],
        "differences": [],
        "difference_count": 0,
        "warnings": [],
    },
}
REPAIR: Final[dict[str, Any]] = {"after a mishap": {"reason": "the disk was restored from a copy"}}
REPAIRED: Final[dict[str, Any]] = {
    "run": RUN,
    "event_file": "events.out.tfevents.1760000010.host.1.2",
    "done": True,
}
READY: Final[dict[str, Any]] = {
    "ready": True,
    "reasons": [],
    "checks": {"free_bytes": 10_000_000_000, "queue_bytes": 0},
    "warnings": [],
}
AUDIT: Final[dict[str, Any]] = {
    "entries": [
        {
            "id": 17, "at": 1_760_000_000.25, "actor": "alice", "token": "tb_7f3a", "address": "192.0.2.7",
            "action": "run.rewind", "run": RUN, "detail": {"next_steps": {"global_step": 1_000}, "reason": "resumed"},
        }
    ],
    "before": 17,
}  # fmt: skip
METRICS: Final = "# TYPE tallyboard_ingest_scalars_total counter\ntallyboard_ingest_scalars_total 1\n"
EXPORTED_CSV: Final = "run,counter,step,wall_time,tag,value\nmnist/try1,global_step,1,1760000000.25,loss,0.5\n"
EXPORTED_JSONL: Final = (
    '{"run":"mnist/try1","counter":"global_step","step":1,"wall_time":1760000000.25,"tag":"loss","value":0.5}\n'
)
PRUNE: Final[dict[str, Any]] = {
    "look": {"superseded": True, "thin": 10_000},
    "do it": {"dry_run": False, "older_than_s": 7_776_000, "superseded": True},
}
PRUNE_LINE: Final[dict[str, Any]] = {
    "scalars_read": 120_000,
    "outcome": {
        "run": RUN,
        "superseded": 3_000,
        "thinned": 80_000,
        "unmerged": False,
        "deleted": False,
        "scalars": 0,
        "skipped": None,
        "blobs": 12,
        "blob_bytes": 345_678,
    },
}
TOKEN: Final[dict[str, Any]] = {
    "id": "k3v0a9x2mq",
    "name": "CI",
    "scope": "write",
    "project": "mnist",
    "created_at": 1_760_000_000.5,
    "created_by": "first start",
    "expires_at": 1_767_776_000.5,
    "revoked_at": None,
    "last_used_at": None,
    "rate": None,
}
TOKENS_WANTED: Final[dict[str, Any]] = {
    "an admin's": {"scope": "admin", "name": "ada"},
    "a job's": {"scope": "write", "name": "CI", "project": "mnist", "expires_s": 7_776_000},
    "a viewer's": {"scope": "read", "name": "wall display"},
}
TOKEN_MADE: Final[dict[str, Any]] = TOKEN | {"token": f"tb_k3v0a9x2mq_{'EXAMPLE-' * 5}abc"}
TOKENS: Final[dict[str, Any]] = {"tokens": [TOKEN | {"last_used_at": 1_760_000_300.0}], "environment": False}
IN_PATHS: Final[dict[str, str]] = {"run": RUN, "id": TOKEN["id"], "project": PROJECT}
"""By the name of a parameter."""

WATCH_RULES: Final[dict[str, Any]] = {
    "a bound, and more patience": {"limits": [{"tag": "val/*", "max": 10.0}], "lost_after_s": 600.0},
    "fewer of them": {"stalled": False, "refused": False},
}
_DEFAULT_RULES: Final[dict[str, Any]] = {
    "lost": True, "stalled": True, "unmoved": True, "nonfinite": True, "bounds": True, "refused": True, "failed": True,
    "lost_after_s": 300.0, "stalled_after_s": 300.0, "stalled_unlearned_s": 3600.0, "limits": [], "webhook": None,
}  # fmt: skip
WATCH: Final[dict[str, Any]] = {
    "project": PROJECT,
    "own": {"lost_after_s": 600.0},
    "rules": _DEFAULT_RULES | {"lost_after_s": 600.0},
}
WATCH_ALL: Final[dict[str, Any]] = {"project": None, "own": {}, "rules": _DEFAULT_RULES}
WATCH_TESTED: Final[dict[str, Any]] = {"taken": True, "status": 200, "detail": "ok"}
INCIDENTS: Final[dict[str, Any]] = {
    "incidents": [
        {
            "run": RUN, "kind": "nonfinite", "subject": "loss", "since": 1_760_000_000.5, "level": "error",
            "title": "loss is NaN", "text": "The last such value stands at global_step 3,120.", "told": True,
            "times": 0,
        }
    ],
    "more": False,
}  # fmt: skip
