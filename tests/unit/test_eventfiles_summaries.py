"""Event files with points that are no scalars: what stands in them, in what order, however they came about."""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tensorboardX.proto import event_pb2

from tallyboard.wire import Rewind
from tallyboard.wire.summaries import plain_metadata
from tallyboard_server.eventfiles import blobpages, opening, read_event_file, reading
from tallyboard_server.eventfiles.columns import PointColumns, read_columns
from tallyboard_server.eventfiles.files import tails
from tallyboard_server.eventfiles.files.storage import DiskFiles
from tallyboard_server.eventfiles.reader import BlobPoint
from tallyboard_server.series.blobs import read_blob_points, read_blobs, sample
from tests.eventfiles_kit import Service, settle
from tests.summary_kit import columns_of, event, framed, histogram_value, image_value, records, scalar_value, text_value
from tests.verify_kit import merge, told, verify

RUN = "p/try1"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with Service(tmp_path) as running:
        yield running


def step_of(step: int, size: int = 8) -> bytes:
    return event(
        step,
        scalar_value("loss", step),
        image_value("image", step, size),
        text_value("text", str(step % 2)),
        histogram_value("histogram", [1.0], [float(step)]),
    )


def shown(service: Service) -> dict[str, list[tuple[int, float]]]:
    """(step, key) of all visible blobs by tag, as the store has them."""
    found = {}
    with service.store.snapshot() as view:
        state = view.load(RUN)
        assert state is not None
        for tag in state.tags:
            points = read_blob_points(view, state, tag, at_most=10_000)
            if points is not None and len(points.steps):
                assert points.total == len(points.steps)
                assert None not in read_blobs(view, state, points.keys.tolist())
                found[tag] = list(zip(points.steps.tolist(), points.keys.tolist(), strict=True))
    return found


def in_file(service: Service) -> dict[str, list[tuple[int, float]]]:
    """(step, key) of the blobs in the newest event file by tag, in file order."""
    found: dict[str, list[tuple[int, float]]] = {}
    for point in service.live_file(RUN).blobs:
        found.setdefault(point.tag, []).append((point.step, point.key))
    return found


def test_a_file_holds_what_the_store_shows(service: Service) -> None:
    engine = service.engine()
    for step in range(4):
        service.batch(RUN, columns=columns_of(step_of(step), counter="global_step"))
        settle(engine)
    assert in_file(service) == shown(service)
    assert in_file(service).keys() == {"image", "text", "histogram"}
    steps = [e.step for e in map(event_pb2.Event.FromString, records(service.event_files(RUN)[0].read_bytes()))]
    assert steps[2:] == sorted(steps[2:])  # in order, scalars and others together
    engine.close()


def test_every_record_tells_what_its_tag_is(service: Service) -> None:
    engine = service.engine()
    service.batch(RUN, columns=columns_of(*map(step_of, range(3))))
    settle(engine)
    for data in records(service.event_files(RUN)[0].read_bytes()):
        for value in event_pb2.Event.FromString(data).summary.value:
            assert value.metadata.SerializeToString() == (plain_metadata("text") if value.tag == "text" else b"")
    engine.close()


def test_rows_of_a_batch_are_interleaved_by_step(service: Service) -> None:
    """Blocks of one batch may overlap: two of the same tag, and one of scalars."""
    engine = service.engine()
    service.batch(RUN, columns=columns_of(step_of(0), counter="global_step"))
    settle(engine)
    even, odd = (columns_of(*map(step_of, steps), counter="global_step") for steps in (range(2, 9, 2), range(1, 9, 2)))
    service.batch(RUN, columns=(*even, *(replace(columns, block=9 + columns.block) for columns in odd)))
    settle(engine)
    assert in_file(service) == shown(service)
    assert [step for step, _ in in_file(service)["image"]] == list(range(9))
    assert [p.step for p in service.live_file(RUN).points] == list(range(9))
    engine.close()


def test_openings_are_read_in_bounded_pages(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "SLICE_BYTES", 2_000)
    monkeypatch.setattr(blobpages, "_ROWS_MAX", 3)
    for begin in (0, 20):
        batch = columns_of(*(step_of(step, size=16) for step in range(begin, begin + 20)), counter="global_step")
        service.batch(RUN, columns=batch)
    merge(service, RUN)
    engine = service.engine()
    settle(engine)
    assert in_file(service) == shown(service)
    assert len(in_file(service)["image"]) == 40
    assert verify(service, RUN).ok
    engine.close()


def test_a_tail_of_large_blobs_is_read_in_parts(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = service.engine()
    service.batch(RUN, columns=columns_of(step_of(0)))
    settle(engine)
    monkeypatch.setattr(reading, "READ_BYTES", 10_000)
    for step in range(1, 20):
        service.batch(RUN, columns=columns_of(step_of(step, size=64)))
    largest = 0
    read = tails.Tails.read

    def measured(self: tails.Tails, *args: object) -> reading.Tail[DiskFiles] | None:
        nonlocal largest
        tail = read(self, *args)  # type: ignore[arg-type]
        largest = max(largest, tail.nbytes if tail is not None else 0)
        return tail

    monkeypatch.setattr(tails.Tails, "read", measured)
    settle(engine)
    assert 4_096 < largest < 12_000
    assert in_file(service) == shown(service)
    engine.close()


def test_a_rewind_begins_a_file_without_what_it_hid(service: Service) -> None:
    engine = service.engine()
    service.batch(RUN, columns=columns_of(*map(step_of, range(6)), event(5, image_value("late", 1))))
    settle(engine)
    service.batch(RUN, rewind=Rewind(next_steps={"tag:*": 3}))
    service.batch(RUN, columns=columns_of(step_of(4)))
    service.pass_time(60)
    settle(engine)
    assert shown(service)["image"] == [(0, *key(0)), (1, *key(1)), (2, *key(2)), (4, *key(4))]
    found = in_file(service)
    assert found.pop("late")[0][0] == 0  # a point that shows nothing
    assert found == shown(service)
    report = verify(service, RUN)
    assert report.ok, report.differences
    engine.close()


def key(step: int) -> tuple[float]:
    (columns,) = columns_of(event(step, image_value("image", step)))
    return (float(columns.values[0, 0]),)


def test_columns_are_read_back_with_blobs_between(service: Service) -> None:
    engine = service.engine()
    service.batch(RUN, columns=columns_of(*map(step_of, range(50)), counter="global_step"))
    settle(engine)
    data = service.event_files(RUN)[0].read_bytes()
    parts = list(read_columns(io.BytesIO(data), len(data)))
    blobs = [part for part in parts if isinstance(part, BlobPoint)]
    assert len(blobs) == 150
    assert sum(part.values.size for part in parts if isinstance(part, PointColumns)) == 50
    assert blobs == read_event_file(service.event_files(RUN)[0]).blobs
    engine.close()


class TestVerify:
    @pytest.fixture
    def written(self, service: Service) -> Service:
        engine = service.engine()
        service.batch(RUN, columns=columns_of(*map(step_of, range(8)), counter="global_step"))
        settle(engine)
        engine.close()
        return service

    def test_all_is_well(self, written: Service) -> None:
        report = verify(written, RUN)
        assert report.ok, report.differences
        assert [(a.sent, a.stored, a.visible, a.in_file) for a in report.attempts] == [(32, 32, 32, 32)]
        merge(written, RUN)
        assert verify(written, RUN).ok

    def test_a_changed_blob_in_the_file_is_found(self, written: Service) -> None:
        path = written.event_files(RUN)[0]
        found = []
        for data in records(path.read_bytes()):
            made = event_pb2.Event.FromString(data)
            for value in made.summary.value:
                if value.tag == "image" and made.step == 5:
                    value.image.encoded_image_string = value.image.encoded_image_string[::-1]
            found.append(made.SerializeToString())
        path.write_bytes(framed(*found))
        report = verify(written, RUN)
        assert told(report) == [("event_file", "global_step", 1, "image", 5, 5)]
        assert "1 changed" in report.differences[0].detail

    def test_a_blob_that_the_store_lost_or_changed_is_found(self, written: Service) -> None:
        assert written.sqlite._writer.execute(
            "UPDATE blobs SET data = substr(data, 2) WHERE key IN (SELECT key FROM blobs LIMIT 2)"
        )
        assert written.sqlite._writer.execute("DELETE FROM blobs WHERE key IN (SELECT max(key) FROM blobs)")
        report = verify(written, RUN)
        assert [d.kind for d in report.differences] == ["store", "store"]
        assert "2 images, texts, histograms, … are not what was acknowledged" in report.differences[0].detail
        assert "1 images, texts, histograms, … are missing" in report.differences[1].detail


def test_a_blob_that_is_gone_is_a_trouble_of_its_run_alone(service: Service) -> None:
    engine = service.engine()
    service.batch(RUN, columns=columns_of(step_of(1)))
    service.batch("p/other", columns=columns_of(step_of(1)))
    service.sqlite._writer.execute("DELETE FROM blobs WHERE run_id = 1")
    for _ in range(10):
        engine.turn(force=True)
    assert engine.in_trouble
    assert any("is gone from the store" in warning for warning in engine.warnings())
    assert service.event_files("p/other")
    engine.close()


class TestSamples:
    @pytest.mark.parametrize(
        ("count", "at_most", "expected"),
        [
            (0, 5, []),
            (3, 5, [0, 1, 2]),
            (5, 5, [0, 1, 2, 3, 4]),
            (9, 1, [8]),
            (9, 0, []),
            (9, 2, [0, 8]),
            (9, 3, [0, 4, 8]),
        ],
    )
    def test_they_are_spread_and_end_with_the_last(self, count: int, at_most: int, expected: list[int]) -> None:
        assert sample(count, at_most).tolist() == expected

    def test_points_of_a_range(self, service: Service) -> None:
        service.batch(RUN, columns=columns_of(*map(step_of, range(20)), counter="global_step"))
        with service.store.snapshot() as view:
            state = view.load(RUN)
            assert state is not None
            points = read_blob_points(view, state, "image", at_most=3, first=4, last=11)
            assert points is not None
            assert (points.steps.tolist(), points.total, points.kind) == ([4, 7, 11], 8, "images")
            assert points.wall_times.tolist() == [1.7e9 + step for step in (4, 7, 11)]
            assert read_blob_points(view, state, "loss", at_most=3) is None
            assert read_blob_points(view, state, "none", at_most=3) is None
