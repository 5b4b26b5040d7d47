"""TensorBoard's events over HTTP: taken in every form, shown where they belong, refused with a reason."""

import base64
import csv
import random
from pathlib import Path
from typing import Any
from urllib.parse import quote

import apsw
import msgspec
import numpy as np
import pytest
from tensorboardX.proto import event_pb2, summary_pb2

from tallyboard.wire import JSON, MSGPACK, limits
from tallyboard.wire.summaries import plain_metadata
from tallyboard_server.api.events import TFRECORDS
from tallyboard_server.eventfiles.tfrecord import frame_header
from tests.conftest import StartService
from tests.integration.test_api_safety import verify
from tests.service import Answer, RunningService, until
from tests.summary_kit import (
    WALL_TIME,
    event,
    framed,
    histogram_value,
    image_value,
    scalar_value,
    text_value,
    write_every_kind,
)


def post(service: RunningService, run: str, body: bytes, content_type: str = TFRECORDS, query: str = "") -> Answer:
    return service.request("POST", f"/api/v1/events/{quote(run)}{query}", body, {"Content-Type": content_type})


def post_events(service: RunningService, run: str, *events: bytes, **fields: Any) -> Answer:
    return post(service, run, msgspec.msgpack.encode({"events": events} | fields), MSGPACK)


def blob(service: RunningService, run: str, tag: str, step: int | None = None) -> Any:
    query = "" if step is None else f"&step={step}"
    answer = service.get(f"/blobs/{quote(run)}?tag={quote(tag)}{query}")
    assert answer.status == 200, answer.body
    return summary_pb2.Summary.Value.FromString(answer.body)


def view(service: RunningService, run: str) -> Any:
    return service.get(f"/runs/{quote(run)}").json()


class TestForms:
    def test_a_whole_file_of_tensorboardx(self, service: RunningService, run_name: str, tmp_path: Path) -> None:
        write_every_kind(tmp_path / "stock")
        (file,) = (tmp_path / "stock").iterdir()
        receipt = post(service, run_name, file.read_bytes()).json()
        assert (receipt["accepted"], receipt["stored"], receipt["refused_count"]) == (29, 29, 0)
        assert (receipt["counters"], receipt["warnings"]) == ({}, [])
        again = post(service, run_name, file.read_bytes(), query="?partial=1").json()
        assert (again["stored"], again["repeated"], again["refused_count"]) == (0, 8, 21)

    @pytest.mark.parametrize("content_type", [JSON, MSGPACK, TFRECORDS])
    def test_the_same_in_every_form(self, service: RunningService, run_name: str, content_type: str) -> None:
        events = [event(1, scalar_value("loss", 0.5), image_value("i", 1)), event(2, text_value("t", "hello"))]
        query = ""
        if content_type == TFRECORDS:
            body, query = framed(*events), "?counter=batch"
        elif content_type == MSGPACK:
            body = msgspec.msgpack.encode({"counter": "batch", "events": events})
        else:
            body = msgspec.json.encode({"counter": "batch", "events": [base64.b64encode(e).decode() for e in events]})
        answer = post(service, run_name, body, content_type, query)
        assert answer.status == 200, answer.body
        assert answer.json()["counters"] == {"batch": {"last_step": 2, "attempt": 1}}
        assert service.points(run_name, "loss") == [(1, 0.5)]
        assert blob(service, run_name, "i").image == image_value("i", 1).image
        assert blob(service, run_name, "t").tensor.string_val[0] == b"hello"

    def test_scalars_in_tensor_form_are_scalars(self, service: RunningService, run_name: str) -> None:
        value = summary_pb2.Summary.Value(tag="loss")
        value.metadata.plugin_data.plugin_name = "scalars"
        value.tensor.dtype = 2
        value.tensor.double_val.append(0.1)
        assert post_events(service, run_name, event(1, value)).status == 200
        assert service.points(run_name, "loss") == [(1, 0.1)]
        assert view(service, run_name)["kinds"] == {}

    def test_blocks_travel_beside_scalars_in_the_numbered_stream(self, service: RunningService, run_name: str) -> None:
        column = np.array([1, 2], "<i8").tobytes()
        values = [image_value("", i).SerializeToString() for i in (1, 2)]
        metadata = plain_metadata("images")
        batch = {
            "producer": "p1", "seq": 1, "open": {"config": {"lr": 0.1}},
            "blocks": [{"counter": "global_step", "tags": ["loss"], "steps": column, "values": column}],
            "events": [
                {"counter": "global_step", "tag": "i", "steps": column, "values": values},
                {"counter": "tag:t", "tag": "t", "steps": column, "values": values, "metadata": metadata},
            ],
        }  # fmt: skip
        body = msgspec.msgpack.encode(batch)
        answer = service.report_bytes(run_name, body)
        assert (answer.status, answer.json()["stored"]) == (200, 6), answer.body
        again = service.report_bytes(run_name, body).json()
        assert (again["replayed"], again["stored"]) == (True, 6)
        shown = view(service, run_name)
        assert shown["kinds"] == {"i": "images", "t": "images"}
        assert shown["counters"]["global_step"]["tags"] == ["i", "loss"]
        assert blob(service, run_name, "t", 2).image == image_value("", 2).image
        changed = service.report_bytes(run_name, msgspec.msgpack.encode(batch | {"partial": True}))
        assert (changed.status, changed.json()["code"]) == (409, "seq_reused")

    def test_events_are_numbered_too(self, service: RunningService, run_name: str) -> None:
        first = post(service, run_name, framed(event(1, scalar_value("x", 1.0))), query="?producer=p&seq=1")
        assert first.status == 200
        again = post(service, run_name, framed(event(1, scalar_value("x", 1.0))), query="?producer=p&seq=1")
        assert again.json()["replayed"]
        gap = post_events(service, run_name, event(2, scalar_value("x", 1.0)), producer="p", seq=5)
        assert (gap.status, gap.json()["expected_seq"]) == (409, 2)

    def test_warnings_tell_what_was_left_out(self, service: RunningService, run_name: str) -> None:
        data = event_pb2.Event(wall_time=1.0, tagged_run_metadata=event_pb2.TaggedRunMetadata(tag="x"))
        answer = post_events(service, run_name, event(1, scalar_value("x", 1.0)), data.SerializeToString())
        assert answer.json()["warnings"] == ["run metadata were left out (1 ×)"]


class TestWhereTheyShow:
    def test_not_among_numbers(self, service: RunningService, run_name: str) -> None:
        values = scalar_value("loss", 1.0), image_value("i", 1), histogram_value("h", [1.0], [1.0])
        post_events(service, run_name, event(1, *values), event(2, *values), counter="global_step")
        answer = service.get(f"/scalars?run={quote(run_name)}").json()
        assert [series["tag"] for series in answer["series"]] == ["loss"]
        named = service.get(f"/scalars?run={quote(run_name)}&tag=i&tag=loss").json()
        assert [series["tag"] for series in named["series"]] == ["loss"]
        assert [missing.get("tag") for missing in named["missing"]] == ["i"]
        text = service.get(f"/export/{quote(run_name)}?format=csv").body.decode()
        assert {row["tag"] for row in csv.DictReader(text.splitlines())} == {"loss"}

    def test_a_single_point_is_shown(self, service: RunningService, run_name: str) -> None:
        values = [event(step, image_value("i", step), text_value("t/x", str(step))) for step in range(5)]
        post_events(service, run_name, *values)
        value = blob(service, run_name, "t/x", 3)
        assert (value.tag, value.metadata.plugin_data.plugin_name) == ("t/x", "text")
        assert value.tensor.string_val[0] == b"3"
        answer = service.get(f"/blobs/{quote(run_name)}?tag=i")
        assert (answer.headers["tallyboard-step"], answer.headers["tallyboard-kind"]) == ("4", "images")
        for query in ("tag=i&step=9", "tag=loss", "tag=none"):
            missing = service.get(f"/blobs/{quote(run_name)}?{query}")
            assert (missing.status, missing.json()["code"]) == (404, "point_not_found")
        assert service.get("/blobs/no/such?tag=i").json()["code"] == "run_not_found"
        assert service.get(f"/blobs/{quote(run_name)}?tag=i&stepp=1").json()["code"] == "invalid_query"
        service.send("POST", f"/rewind/{quote(run_name)}", {"next_steps": {"tag:*": 2}})
        assert service.get(f"/blobs/{quote(run_name)}?tag=i").headers["tallyboard-step"] == "1"

    def test_counters_of_single_tags_stay_out_of_sight(self, service: RunningService, run_name: str) -> None:
        post_events(service, run_name, event(5, scalar_value("loss", 1.0)), event(9, scalar_value("acc", 1.0)))
        service.report(run_name, {"step": 3, "scalars": {"lr": 0.1}})
        shown = view(service, run_name)
        assert shown["counters"].keys() == {"global_step"}
        assert shown["tag_counters"] == {"acc": {"last_step": 9, "attempt": 1}, "loss": {"last_step": 5, "attempt": 1}}
        (row,) = service.get(f"/runs?q={quote(run_name)}").json()["runs"]
        assert row["counters"].keys() == {"global_step"}
        axis = service.get(f"/scalars?run={quote(run_name)}&tag=lr&x=tag:loss")
        assert (axis.status, axis.json()["code"]) == (422, "unknown_axis")
        assert "tag:" not in axis.json()["detail"].partition("the axes of")[2]
        rewound = service.send("POST", f"/rewind/{quote(run_name)}", {"next_steps": {"tag:*": 6}}).json()
        assert rewound["counters"].keys() == rewound["not_rewound"].keys() == {"global_step"}
        assert service.points(run_name, "acc") == []
        assert service.points(run_name, "loss") == [(5, 1.0)]

    def test_a_thousand_tags_get_a_small_receipt(self, service: RunningService, run_name: str) -> None:
        values = [scalar_value(f"t{i}", float(i)) for i in range(1_000)]
        answer = post_events(service, run_name, event(1, *values), event(2, *values))
        assert (answer.json()["stored"], len(answer.body) < 400) == (2_000, True)
        rewind = service.send("POST", f"/rewind/{quote(run_name)}", {"next_steps": {"tag:*": 2}})
        assert len(rewind.body) < 400
        assert service.points(run_name, "t999") == [(1, 999.0)]


REFUSED = [
    (framed(event(1, scalar_value("x", 1.0)))[:-1], "record 0 (at byte 0)", "ends within a record"),
    (b"", "$", "holds no event"),
    (frame_header(2**40) + b"x" * 100, "record 0 (at byte 0)", "a record of 1099511627776 bytes"),
    (b"\xff" * 100, "record 0 (at byte 0)", "the length's checksum is wrong"),
    (framed(event(1, scalar_value("x", 1.0)), b"\xff"), "record 1 (at byte 39)", "does not end"),
    (framed(event(1, histogram_value("h", [1.0, 2.0], [1.0]))), "record 0 (at byte 0)", "bucket limits"),
    (framed(event(1, scalar_value("x", 1.0), wall_time=float("nan"))), "record 0 (at byte 0)", "wall_time nan"),
]


class TestRefusals:
    @pytest.mark.parametrize(("body", "field", "why"), REFUSED, ids=[why for _, _, why in REFUSED])
    def test_what_readers_could_not_take(
        self, service: RunningService, run_name: str, body: bytes, field: str, why: str
    ) -> None:
        answer = post(service, run_name, body)
        assert answer.status == 422, answer.body
        assert (answer.json()["code"], answer.json()["field"]) == ("invalid_body", field)
        assert why in answer.json()["detail"]
        assert service.get(f"/runs/{quote(run_name)}").status == 404

    def test_a_wrong_checksum(self, service: RunningService, run_name: str) -> None:
        body = bytearray(framed(event(1, scalar_value("x", 1.0)), event(2, scalar_value("x", 2.0))))
        body[-1] ^= 1
        answer = post(service, run_name, bytes(body)).json()
        assert (answer["field"], answer["detail"]) == ("record 1 (at byte 39)", "the data's checksum is wrong")

    def test_blocks_are_looked_into_as_well(self, service: RunningService, run_name: str) -> None:
        bad = histogram_value("", [1.0, 2.0], [1.0]).SerializeToString()
        block = {"counter": "c", "tag": "h", "steps": np.array([1], "<i8").tobytes(), "values": [bad]}
        answer = service.report_bytes(run_name, msgspec.msgpack.encode({"events": [block]}))
        assert (answer.status, answer.json()["field"]) == (422, "$.events[0].values[0]")

    def test_too_many_events(self, service: RunningService, run_name: str) -> None:
        answer = post_events(service, run_name, *(b"",) * (limits.ROWS_PER_BATCH_MAX + 1))
        assert (answer.status, answer.json()["field"]) == (422, "$.events")
        answer = post(service, run_name, framed(*(b"",) * (limits.ROWS_PER_BATCH_MAX + 1)))
        assert (answer.status, "more than 100000 records" in answer.json()["detail"]) == (422, True)

    def test_too_large_a_value(self, service: RunningService, run_name: str) -> None:
        image = summary_pb2.Summary.Value(tag="i")
        image.image.encoded_image_string = b"x" * limits.BLOB_BYTES_MAX
        answer = post_events(service, run_name, event(1, image))
        assert (answer.status, answer.json()["field"]) == (422, "$.events[0]")
        image.image.encoded_image_string = b"x" * (limits.BLOB_BYTES_MAX - 100)
        assert post_events(service, run_name, event(1, image)).status == 200
        assert len(blob(service, run_name, "i").image.encoded_image_string) == limits.BLOB_BYTES_MAX - 100

    def test_the_contract_holds(self, service: RunningService, run_name: str) -> None:
        post_events(service, run_name, event(5, image_value("i", 1), scalar_value("loss", 1.0)))
        good, bad = event(6, scalar_value("loss", 1.0)), event(6, scalar_value("i", 1.0))
        answer = post_events(service, run_name, good, bad)
        assert (answer.status, answer.json()["code"]) == (409, "reports_refused")
        (refusal,) = answer.json()["refused"]
        assert (refusal["row"], refusal["counter"], refusal["reason"]) == (1, "tag:i", "tag_of_other_kind")
        answer = post_events(service, run_name, good, event(4, image_value("i", 2)), partial=True)
        assert answer.json()["stored"] == 1
        assert [(r["row"], r["reason"]) for r in answer.json()["refused"]] == [(1, "step_decreased")]

    def test_a_query_belongs_to_records_only(self, service: RunningService, run_name: str) -> None:
        body = msgspec.msgpack.encode({"events": [event(1, scalar_value("x", 1.0))]})
        answer = post(service, run_name, body, MSGPACK, "?counter=c")
        assert (answer.status, answer.json()["code"]) == (422, "invalid_query")
        assert post(service, run_name, body, TFRECORDS, "?count=c").json()["code"] == "invalid_query"
        assert post(service, run_name, body, TFRECORDS, "?seq=1").json()["field"] == "$.seq"
        answer = post(service, run_name, body, "image/png")
        assert answer.status == 415
        assert TFRECORDS in answer.json()["detail"]

    def test_mutated_records_do_no_harm(self, service: RunningService, run_name: str) -> None:
        """Whatever is sent, the service answers, and goes on answering."""
        chance = random.Random(7)
        events = [
            event(step, image_value("i", step), text_value("t", "x"), scalar_value("s", 1.0)) for step in range(3)
        ]
        statuses = set()
        for _ in range(150):
            if chance.random() < 0.5:
                body = bytearray(framed(*events))
                for _ in range(chance.randint(1, 4)):
                    body[chance.randrange(len(body))] = chance.randrange(256)
            else:  # well framed, but the events are not what they should be
                changed = [bytearray(data) for data in events]
                for data in changed:
                    data[chance.randrange(len(data))] = chance.randrange(256)
                body = bytearray(framed(*map(bytes, changed)))
            statuses.add(post(service, run_name, bytes(body), query="?partial=1").status)
        assert statuses <= {200, 409, 422}
        assert 422 in statuses
        assert service.request("GET", "/healthz").status == 200


class TestLife:
    def test_they_reach_the_event_file_and_pass_verification(self, start_service: StartService, tmp_path: Path) -> None:
        service = start_service(export_interval_s=0.05, export_sync_interval_s=0.05)
        write_every_kind(tmp_path / "stock")
        (file,) = (tmp_path / "stock").iterdir()
        post(service, "a/b", file.read_bytes())
        found: Any = verify(service, "a/b")["report"]
        assert found["ok"], found["differences"]
        assert sum(attempt["in_file"] for attempt in found["attempts"]) == 29
        rewound = service.send("POST", "/rewind/a/b", {"next_steps": {"tag:*": 2}})
        assert rewound.status == 200
        found = verify(service, "a/b")["report"]
        assert found["ok"], found["differences"]

    def test_deleting_a_run_removes_them_all(self, start_service: StartService) -> None:
        service = start_service()
        events = [event(step, image_value("i", step, 200)) for step in range(100)]
        assert post_events(service, "a/b", *events).status == 200
        with service.parts.store.snapshot() as snapshot:
            state = snapshot.load("a/b")
            assert state is not None
            assert len(snapshot.blob_page(state.id, after=None, bytes_max=2**30)) == 100
        assert service.request("DELETE", "/api/v1/runs/a/b").status == 204

        def gone() -> bool:
            with service.parts.store.snapshot() as snapshot:
                return not snapshot.blob_page(state.id, after=None, bytes_max=1)

        assert until(gone)

    def test_repeated_values_are_kept_once(self, service: RunningService, run_name: str) -> None:
        post_events(service, run_name, *(event(step, image_value("i", 1), image_value("j", 1)) for step in range(50)))
        with service.parts.store.snapshot() as snapshot:
            state = snapshot.load(run_name)
            assert state is not None
            assert len(snapshot.blob_page(state.id, after=None, bytes_max=2**30)) == 1

    def test_backups_hold_them(self, start_service: StartService, tmp_path: Path) -> None:
        service = start_service()
        post_events(service, "a/b", event(1, image_value("i", 1)))
        answer = service.get("/backup")
        assert answer.status == 200
        (tmp_path / "copy").write_bytes(answer.body)
        copy = apsw.Connection(str(tmp_path / "copy"), flags=apsw.SQLITE_OPEN_READONLY)
        assert copy.execute("SELECT count(*) FROM blobs").get == 1
        copy.close()

    def test_times_are_those_of_the_events(self, service: RunningService, run_name: str) -> None:
        post_events(service, run_name, event(3, scalar_value("x", 1.0)))
        series = service.get(f"/scalars?run={quote(run_name)}&tag=x").json()["series"][0]
        assert series["points"]["wall_time"] == [WALL_TIME + 3]
