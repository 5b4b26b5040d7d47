"""The sender when things go wrong: outages onto disk, gaps, streams that must not be sent, what others left behind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tallyboard.delivery.forerunners import Forerunner, find
from tallyboard.delivery.sender import HEARTBEAT_S, TICK_S, Brought
from tallyboard.delivery.transport import Answer, UnreachableError
from tallyboard.outbox.cursor import Progress
from tallyboard.outbox.diskspool import DiskSpool
from tallyboard.outbox.parcel import freeze
from tallyboard.outbox.spool import SPILL_AFTER_S, Place
from tallyboard.outbox.spooldir import SpoolDir
from tallyboard.outbox.stream import Stream
from tallyboard.wire import Batch, CounterValue, Open, Rewind
from tests.unit.client_kit import Inline, Scripted, Sending, a_stream, problem, sending, taken

GONE = UnreachableError("Connection refused")


def opened(s: Sending, resume: str = "new") -> Sending:
    """With the first batch, that opens the run, sent."""
    s.recorded.recorder.open(Open(uid="u1", resume=resume, take_over=None if resume == "new" else ()))  # type: ignore[arg-type]
    s.sender.turn()
    return s


def steps(batches: list[Batch]) -> list[int]:
    return [int(step) for batch in batches for c in batch.columns for step in c.steps]


def waiting(root: Path, uid: str = "u1") -> int:
    """Batches in a stream's folder."""
    return DiskSpool(SpoolDir(root / uid), a_stream(), None, Progress()).survey().batches  # type: ignore[arg-type]


# ── outages ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_outage_goes_to_disk_and_comes_back_in_order(tmp_path: Path) -> None:
    s = opened(sending(taken(), *[GONE] * 100, place=Place(tmp_path)))
    for step in range(40):
        s.recorded.log({"loss": 1.0}, step)
        s.turns(TICK_S)
        if step == 20:
            s.recorded.run.rewind({"global_step": 10})
    assert waiting(tmp_path) >= 38
    assert s.spool.in_memory == 0
    s.transport.script.clear()
    s.drain()
    assert steps(s.transport.batches) == [*range(21), *range(21, 40)]
    rewound = [i for i, batch in enumerate(s.transport.batches) if batch.rewind is not None]
    assert steps(s.transport.batches[: rewound[0]]) == list(range(21))
    assert [batch.seq for batch in s.transport.batches] == list(range(1, len(s.transport.batches) + 1))


def test_a_service_that_hangs_keeps_nothing_from_the_disk(tmp_path: Path) -> None:
    s = opened(sending(place=Place(tmp_path)))
    s.sender._carrier = hanging = Hanging()
    for step in range(1, 10):
        s.recorded.log({"loss": 1.0}, step)
        s.turns(SPILL_AFTER_S / 2)
    assert hanging.errands == 1
    assert waiting(tmp_path) == 9


class Hanging(Inline):
    """Goes on an errand and does not come back."""

    errands = 0

    @property
    def busy(self) -> bool:
        return self.errands > 0

    def carry(self, errand: Callable[[], Brought]) -> None:
        self.errands += 1


@pytest.mark.parametrize("status", [401, 404, 410])
def test_a_final_answer_stops_the_sending_and_not_the_spooling(tmp_path: Path, status: int) -> None:
    s = opened(sending(taken(), problem(status), place=Place(tmp_path)))
    for step in range(10):
        s.recorded.log({"loss": 1.0}, step)
        s.turns(1.0)
    assert len(s.transport.sent) == 2
    assert waiting(tmp_path) == 10
    (said,) = s.recorded.ears.heard
    assert "kept on this machine" in said
    assert s.sender.flush(99, 0.0) is False


def test_offline_nothing_is_ever_sent_and_flush_means_the_disk(tmp_path: Path) -> None:
    s = opened(sending(place=Place(tmp_path, sends=False), online=False))
    for step in range(10):
        s.recorded.log({"loss": 1.0}, step)
    s.sender._hurried = True
    s.sender.turn()
    assert s.sender._kept == s.recorded.recorder.mark()
    s.turns(3 * HEARTBEAT_S)
    assert (s.transport.sent, s.transport.heartbeats) == ([], 0)
    assert waiting(tmp_path) == 2
    taken_over = DiskSpool.take(SpoolDir(tmp_path / "u1"))  # while the job is there
    assert taken_over is not None
    taken_over.close()


def test_heartbeats_go_while_the_service_wants_no_data() -> None:
    s = opened(sending(taken(), *[problem(503, "overloaded", retry_after_s=200.0)] * 3))
    s.recorded.log({"loss": 1.0}, 1)
    s.turns(4 * HEARTBEAT_S + 2.0)
    assert len(s.transport.sent) == 2
    assert s.transport.heartbeats == 4


# ── a service that forgot ────────────────────────────────────────────────────────────────────────────────────────


def view(**counters: list[dict[str, Any]]) -> dict[str, Any]:
    return {"run": "digits/try1", "counters": {name: {"attempts": each} for name, each in counters.items()}}


def forgetful(s: Sending, run: dict[str, Any] | None) -> Sending:
    """Five batches taken; then the service says that it has but two."""
    for step in range(4):
        s.recorded.log({"loss": 1.0}, step)
        s.drain()
    s.transport.view = run
    s.transport.script.append(problem(409, "seq_gap", "send 3", expected_seq=3))
    s.recorded.log({"loss": 1.0}, 4)
    s.drain()
    return s


@pytest.mark.parametrize("holder", ["p1", "an older job"])
def test_after_a_gap_a_new_producer_goes_on_with_the_run_and_the_loss_is_said(tmp_path: Path, holder: str) -> None:
    s = forgetful(
        opened(sending(place=Place(tmp_path, "always"))),
        view(global_step=[{"writer": holder, "began_at": 900.0, "last_seen": 5000.0}]),
    )
    again, last = s.transport.batches[-2:]
    assert again.open is not None
    assert (again.producer, again.seq) == ("p2", 1)
    assert (again.open.uid, again.open.resume, again.open.take_over) == ("u1", "new", ("global_step",))
    assert (last.producer, last.seq, steps([last])) == ("p2", 2, [4])
    (said,) = s.recorded.ears.heard
    assert "no longer has 3 batches of run digits/try1 that it had acknowledged" in said
    assert s.sender.stopped is None
    s.recorded.log({"loss": 1.0}, 5)
    s.drain()
    assert s.transport.batches[-1].seq == 3


def test_a_continued_run_is_continued_again(tmp_path: Path) -> None:
    s = forgetful(opened(sending(resumed=True), "continue"), view(global_step=[{"writer": "p1"}]))
    again = s.transport.batches[-2].open
    assert again is not None
    assert (again.resume, again.take_over) == ("continue", ("global_step",))


@pytest.mark.parametrize("newer", [{"began_at": 1001.0}, {"last_seen": 1001.0, "host": "gpu8", "pid": 7}])
def test_after_a_gap_nothing_is_taken_from_a_job_that_went_on_meanwhile(newer: dict[str, Any]) -> None:
    s = forgetful(opened(sending()), view(global_step=[{"writer": "p1"}, {"writer": "b", **newer}]))
    again = s.transport.batches[-2].open
    assert again is not None
    assert (again.resume, again.take_over) == ("new", ())
    assert again.uid != "u1"


def test_a_service_that_lost_the_run_gets_it_again() -> None:
    s = forgetful(opened(sending()), None)
    assert s.transport.looked == ["/api/v1/runs/digits/try1"]
    assert steps(s.transport.batches[-1:]) == [4]


def test_a_crash_amid_a_new_beginning_begins_it_again(tmp_path: Path) -> None:
    s = opened(sending(place=Place(tmp_path, "always")))
    s.recorded.log({"loss": 1.0}, 1)
    s.drain()
    s.transport.script.extend([problem(409, "seq_gap", expected_seq=1), *[GONE] * 9])
    s.recorded.log({"loss": 1.0}, 2)
    s.turns(TICK_S + 0.1)
    s.spool._disk.close()  # type: ignore[union-attr] # killed
    again = DiskSpool.take(SpoolDir(tmp_path / "u1"))
    assert again is not None
    assert again.stream.reopening is not None
    assert (again.stream.producer, again.progress.seq) == ("p2", 0)
    again.close()


def test_a_gap_at_the_first_number_is_no_reason_to_begin_for_ever() -> None:
    s = opened(sending(*[problem(409, "seq_gap", expected_seq=1)] * 50))
    assert s.sender.stopped is not None
    assert len(s.transport.sent) == 1


# ── counters of a run that is continued ──────────────────────────────────────────────────────────────────────────


def test_counting_before_it_is_known_where_the_run_stands_is_not_sent(tmp_path: Path) -> None:
    stands = taken(counters={"global_step": CounterValue(500, 1)})
    s = opened(sending(GONE, GONE, GONE, stands, resumed=True, place=Place(tmp_path)), "continue")
    counter = s.recorded.run.counter()
    for _ in range(3):
        counter.increment()
        counter.log({"loss": 1.0})
        s.turns(1.0)
    assert "global_step counts from 0, as the server has not said yet" in " ".join(s.recorded.ears.heard)
    s.turns(60.0)
    assert s.sender.stopped is not None
    assert "this job counted global_step from 0" in s.recorded.ears.heard[-1]
    assert steps(s.transport.batches) == []
    s.sender._keep()
    s.spool.close()
    kept = DiskSpool.take(SpoolDir(tmp_path / "u1"))
    assert kept is not None
    assert "counted global_step from 0" in kept.stream.held
    assert kept.survey().reports == 3
    kept.close()


def test_a_run_that_turns_out_to_be_new_is_counted_from_0() -> None:
    s = opened(sending(GONE, GONE, resumed=True), "continue")
    for _ in range(3):
        s.recorded.run.counter().increment()
        s.recorded.run.counter().log({"loss": 1.0})
        s.turns(1.0)
    s.drain()
    assert s.sender.stopped is None
    assert steps(s.transport.batches) == [1, 2, 3]


@pytest.mark.parametrize("how", ["rewind", "set", "explicit"])
def test_who_says_where_the_job_stands_is_believed(how: str) -> None:
    stands = taken(counters={"global_step": CounterValue(500, 1)})
    s = opened(sending(GONE, GONE, stands, resumed=True), "continue")
    run = s.recorded.run
    match how:
        case "rewind":
            run.rewind({"global_step": 400})
            run.counter().increment()
            run.log({"loss": 1.0})
        case "set":
            run.counter().set(600)
            run.log({"loss": 1.0})
        case "explicit":
            run.log({"loss": 1.0}, 600)
    s.turns(3.0)
    s.drain()
    assert s.sender.stopped is None
    assert steps(s.transport.batches) == [400 if how == "rewind" else 600]


def test_a_counter_is_taken_over_with_its_first_report_unless_it_was_rewound() -> None:
    stands = {"global_step": CounterValue(500, 1), "epoch": CounterValue(5, 1), "eval": CounterValue(5, 1)}
    s = opened(sending(taken(counters=stands), resumed=True), "continue")
    s.recorded.run.rewind({"global_step": 400})
    for step in (400, 401):
        s.recorded.log({"loss": 1.0}, step)
        s.recorded.log({"val": 1.0}, step, counter="epoch")
    s.drain()
    opens = [batch.open for batch in s.transport.batches if batch.open is not None]
    assert [(o.resume, o.take_over) for o in opens] == [("continue", ()), ("new", ("epoch",))]
    assert [batch.rewind is not None for batch in s.transport.batches] == [False, True, False]


@pytest.mark.parametrize("claim", ["rewind", "report"])
@pytest.mark.parametrize("newer", [True, False])
def test_a_claim_that_waited_takes_nothing_from_a_job_that_went_on_meanwhile(claim: str, newer: bool) -> None:
    s = opened(sending(taken(counters={"global_step": CounterValue(9, 1)}), GONE, GONE, resumed=True), "continue")
    if claim == "rewind":
        s.recorded.run.rewind({"global_step": 5})
    else:
        s.recorded.log({"loss": 1.0}, 10)
    s.transport.view = view(
        global_step=[{"writer": "b", "began_at": 1001.0 if newer else 999.0, "host": "h", "pid": 7}]
    )
    s.turns(5.0)
    assert len(s.transport.looked) == (1 if newer else 2)  # once after each failure
    if newer:
        assert s.sender.stopped is not None
        assert len(s.transport.batches) == 1
        assert "process 7 on h began later and has gone on with global_step, while this" in s.recorded.ears.heard[-1]
    else:
        s.drain()
        assert s.sender.stopped is None
        assert len(s.transport.batches) == 2


# ── what earlier processes left ──────────────────────────────────────────────────────────────────────────────────


def left(root: Path, uid: str = "u0", *, began_at: float = 500.0, claims: bool = False, **about: Any) -> None:
    """A stream whose process was killed with two batches unsent, the first of them open."""
    stream = msgspec.structs.replace(a_stream(uid, began_at=began_at), producer=f"p-{uid}", **about)
    spool = DiskSpool.create(root, stream, Progress())
    spool.append(freeze(Batch(partial=True, open=Open(uid=uid, take_over=()))))
    rewind = Rewind(next_steps={"global_step": 7}) if claims else None
    spool.append(freeze(Batch(partial=True, rewind=rewind, summary={"left by": uid})))
    spool.close()


def following(root: Path, *script: Scripted, url: str | None = None) -> Sending:
    ids = iter("abc")

    def forerunners() -> list[Forerunner]:
        return find(root, "digits/try1", url, lambda: next(ids))

    return sending(*script, resumed=True, forerunners=forerunners)


def test_what_an_earlier_process_left_goes_first(tmp_path: Path) -> None:
    left(tmp_path, "u0")
    left(tmp_path, "u9", began_at=400.0)
    s = following(tmp_path, GONE)
    s.recorded.recorder.open(Open(uid="u1", resume="continue", take_over=()))
    s.recorded.run.rewind({"global_step": 5})
    s.drain()
    assert [batch.producer for batch in s.transport.batches] == ["p-u9"] * 2 + ["p-u0"] * 2 + ["p1"] * 2
    assert list(tmp_path.iterdir()) == []
    assert sum("process 42 on gpu7 had left of digits/try1 are sent" in said for said in s.recorded.ears.heard) == 2


@pytest.mark.parametrize(
    "about",
    [{"run": "digits/other"}, {"url": "http://elsewhere"}, {"held": "it must not"}],
    ids=["another run", "another service", "held"],
)
def test_what_is_none_of_its_business_stays(tmp_path: Path, about: dict[str, Any]) -> None:
    left(tmp_path, **about)
    s = following(tmp_path)
    s.recorded.recorder.open(Open(uid="u1", resume="continue"))
    s.drain()
    assert [batch.producer for batch in s.transport.batches] == ["p1"]
    assert waiting(tmp_path, "u0") == 2


def test_so_does_what_a_living_process_sends(tmp_path: Path) -> None:
    left(tmp_path)
    other = DiskSpool.take(SpoolDir(tmp_path / "u0"))
    assert other is not None
    s = following(tmp_path)
    s.recorded.recorder.open(Open(uid="u1", resume="continue"))
    s.drain()
    assert [batch.producer for batch in s.transport.batches] == ["p1"]
    other.close()


@pytest.mark.parametrize("claims", [True, False])
def test_what_would_take_a_newer_jobs_points_away_is_left(tmp_path: Path, claims: bool) -> None:
    left(tmp_path, claims=claims)
    s = following(tmp_path)
    s.transport.view = view(global_step=[{"writer": "b", "began_at": 700.0, "host": "gpu8", "pid": 3}])
    s.recorded.recorder.open(Open(uid="u1", resume="continue"))
    s.drain()
    producers = [batch.producer for batch in s.transport.batches]
    assert producers == (["p1"] if claims else ["p-u0", "p-u0", "p1"])
    if claims:
        assert "process 3 on gpu8 began later and has gone on with global_step" in s.recorded.ears.heard[0]
        assert waiting(tmp_path, "u0") == 2


@pytest.mark.parametrize("answer", [problem(401), problem(410), problem(422, field="$.open")])
def test_one_that_cant_be_delivered_holds_nobody_up(tmp_path: Path, answer: Answer) -> None:
    left(tmp_path)
    s = following(tmp_path, answer)
    s.recorded.recorder.open(Open(uid="u1", resume="continue"))
    s.drain()
    assert [batch.producer for batch in s.transport.batches] == ["p1"]
    assert "is left as it is" in s.recorded.ears.heard[0]
    assert waiting(tmp_path, "u0") == 2


def test_in_a_forked_child_the_parents_locks_stay(tmp_path: Path) -> None:
    s = opened(sending(taken(), *[GONE] * 9, place=Place(tmp_path)))
    s.recorded.log({"loss": 1.0}, 1)
    s.turns(SPILL_AFTER_S + 2 * TICK_S)
    stream: Stream = s.spool.stream
    assert DiskSpool.take(SpoolDir(tmp_path / stream.uid)) is None
    s.sender.abandon()
    assert s.spool.path is None
    assert waiting(tmp_path) == 1
