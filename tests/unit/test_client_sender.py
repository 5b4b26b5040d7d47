"""The way from recorder to service, turn by turn: order, numbers, retries, answers of every kind."""

import json
import random

import msgspec
import pytest

from tallyboard.delivery.sender import HEARTBEAT_S, TICK_S
from tallyboard.delivery.transmit import BACKOFF_S_MAX, Later, Letter, Seen, Transmitter
from tallyboard.delivery.transport import (
    EXCERPT_CHARS_MAX,
    Answer,
    Meaning,
    UnreachableError,
    meaning,
    problem_of,
)
from tallyboard.errors import CounterTakenError, RunNotFoundError
from tallyboard.outbox.parcel import freeze, numbered
from tallyboard.outbox.spool import Place
from tallyboard.wire import Batch, CounterValue, Open, Refusal
from tests.unit.client_kit import ScriptedTransport, Sending, problem, sending, taken

GONE = UnreachableError("Connection refused")


def opened(s: Sending) -> Sending:
    """With the first batch, that opens the run, delivered."""
    s.recorded.recorder.open(Open(uid="u1", resume="new"))
    s.sender.turn()
    return s


def letter(run: str = "r") -> Letter:
    return Letter(run, "p1", 1, numbered(freeze(Batch(status="running")).body, "p1", 1))


def steps(s: Sending) -> list[list[int]]:
    return [[int(x) for c in batch.columns for x in c.steps] for batch in s.transport.batches]


# ── order and numbers ────────────────────────────────────────────────────────────────────────────────────────────


def test_reports_wait_a_tick_for_company() -> None:
    s = opened(sending())
    for step in (1, 2, 3):
        s.recorded.log({"loss": 1.0}, step)
    s.clock.advance(TICK_S / 2)
    assert s.sender.turn() == pytest.approx(TICK_S / 2)
    s.clock.advance(TICK_S / 2)
    s.sender.turn()
    assert steps(s) == [[], [1, 2, 3]]


def test_a_full_section_waits_for_nobody() -> None:
    s = opened(sending())
    for step in range(50_000):
        s.recorded.log({"loss": 1.0}, step)
    s.sender.turn()
    assert len(steps(s)[1]) > 40_000


def test_batches_are_numbered_by_producer_and_the_run_name_is_settled_by_the_first_receipt() -> None:
    s = sending(taken("digits/try1-2"), taken("digits/try1-2"))
    s.recorded.recorder.open(Open(uid="u1", resume="new"))
    s.sender.turn()
    s.recorded.log({"loss": 1.0}, 1)
    s.drain()
    assert [(b.producer, b.seq, b.partial) for b in s.transport.batches] == [("p1", 1, True), ("p1", 2, True)]
    assert [path for path, _ in s.transport.sent] == ["/api/v1/scalars/digits/try1", "/api/v1/scalars/digits/try1-2"]
    assert s.sender.run_name == "digits/try1-2"
    assert s.recorded.ears.heard == ["run digits/try1 exists; this one is digits/try1-2"]


def test_names_travel_percent_encoded() -> None:
    transport = ScriptedTransport(taken("a b/ü?#%"))
    transmitter = Transmitter(transport, random.Random(1))
    transmitter.deliver(letter(run="a b/ü?#%"), lambda: 0.0)
    assert transport.sent[0][0] == "/api/v1/scalars/a%20b/%C3%BC%3F%23%25"


def test_a_batch_is_frozen_when_it_is_first_sent() -> None:
    s = opened(sending(taken(), GONE, problem(503), GONE))
    s.recorded.log({"loss": 1.0}, 1)
    s.clock.advance(TICK_S)
    s.sender.turn()
    s.recorded.log({"loss": 1.0}, 2)
    s.drain()
    bodies = [body for _, body in s.transport.sent[1:]]
    assert bodies[0] == bodies[1] == bodies[2] == bodies[3]
    assert steps(s) == [[], [1], [2]]
    assert [b.seq for b in s.transport.batches] == [1, 2, 3]


# ── retries ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_backoff_doubles_to_a_bound_and_starts_again_after_a_success() -> None:
    transport = ScriptedTransport(*[GONE] * 10, taken(), GONE)
    rng = random.Random(3)
    transmitter = Transmitter(transport, rng)
    batch = letter()
    waits = []
    for _ in range(10):
        outcome = transmitter.deliver(batch, lambda: 100.0)
        assert isinstance(outcome, Later)
        waits.append(outcome.at_s - 100.0)
    for n, wait_s in enumerate(waits):
        full_s = min(BACKOFF_S_MAX, 0.25 * 2**n)
        assert full_s / 2 <= wait_s <= full_s
    assert len({round(wait_s / min(BACKOFF_S_MAX, 0.25 * 2**n), 6) for n, wait_s in enumerate(waits)}) > 5  # jitter
    transmitter.deliver(batch, lambda: 100.0)
    again = transmitter.deliver(batch, lambda: 100.0)
    assert isinstance(again, Later)
    assert again.at_s - 100.0 <= 0.25


def test_retry_after_is_honoured() -> None:
    s = opened(sending(taken(), problem(503, "overloaded", "too much waits", retry_after_s=20.0)))
    s.recorded.log({"loss": 1.0}, 1)
    s.clock.advance(TICK_S)
    s.sender.turn()
    s.turns(19.9)
    assert len(s.transport.sent) == 2
    s.turns(0.2)
    assert steps(s) == [[], [1]]


def test_a_whole_night_away_costs_few_requests_and_loses_nothing() -> None:
    s = opened(sending(taken(), *[GONE] * 1_000))
    s.recorded.log({"loss": 1.0}, 1)
    s.turns(8 * 3600)
    assert 8 * 3600 / BACKOFF_S_MAX <= len(s.transport.sent) <= 1_000
    s.transport.script.clear()
    s.drain()
    assert steps(s) == [[], [1]]


def test_an_outage_is_said_once_and_its_end() -> None:
    s = opened(sending(taken(), GONE, GONE, GONE))
    s.recorded.log({"loss": 1.0}, 1)
    s.drain()
    first, last = s.recorded.ears.heard
    assert "http://tally takes nothing at the moment (no answer: Connection refused)" in first
    assert "TALLYBOARD_URL" in first
    assert "answers again" in last


def test_a_single_failure_is_no_news() -> None:
    s = opened(sending(taken(), GONE))
    s.recorded.log({"loss": 1.0}, 1)
    s.drain()
    assert s.recorded.ears.heard == []


def test_outages_that_come_and_go_are_not_said_each_time() -> None:
    script = [taken()]
    for _ in range(20):
        script += [GONE, GONE, taken()]  # type: ignore[list-item]
    s = opened(sending(*script))
    for step in range(20):
        s.recorded.log({"loss": 1.0}, step)
        s.drain()
    assert len([said for said in s.recorded.ears.heard if "nothing at the moment" in said]) == 1
    assert len([said for said in s.recorded.ears.heard if "answers again" in said]) == 1


def test_with_the_spool_full_the_recorder_keeps_the_rest() -> None:
    s = opened(sending(taken(), *[GONE] * 50, place=Place(memory_bytes_max=10_000)))
    for step in range(2_000):
        s.recorded.log({"loss": 1.0}, step)
        if step % 100 == 99:
            s.clock.advance(TICK_S)
            s.sender.turn()
    assert s.recorded.tally.stats().dropped_reports == 0
    s.transport.script.clear()
    s.drain()
    assert [step for batch in steps(s) for step in batch] == list(range(2_000))


@pytest.mark.parametrize("trouble", [GONE, problem(503, "overloaded", retry_after_s=60.0), Answer(403, b"sign in")])
def test_a_machine_that_slept_for_a_night_goes_on_where_it_was(trouble: Answer | UnreachableError) -> None:
    s = opened(sending(taken(), trouble))
    s.recorded.log({"loss": 1.0}, 1)
    s.clock.advance(TICK_S)
    s.sender.turn()
    s.clock.advance(8 * 3600.0)
    s.recorded.log({"loss": 1.0}, 2)
    s.sender.turn()
    s.drain()
    assert steps(s) == [[], [1], [2]]
    assert s.transport.heartbeats <= 1
    assert s.sender.stopped is None


@pytest.mark.parametrize("jump_s", [-3600.0, 3600.0])
def test_a_wall_clock_that_jumps_changes_wall_times_and_nothing_else(jump_s: float) -> None:
    s = opened(sending())
    for step in range(6):
        s.recorded.log({"loss": 1.0}, step)
        if step == 2:
            s.recorded.clock.advance(jump_s)
    s.drain()
    assert steps(s) == [[], [0, 1, 2, 3, 4, 5]]
    times = s.transport.batches[1].columns[0].wall_times
    assert list(times) == [1000.0] * 3 + [1000.0 + jump_s] * 3
    assert s.recorded.ears.heard == []


# ── answers ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (200, "", Meaning.TAKEN), (201, "", Meaning.TAKEN),
        (408, "body_timeout", Meaning.LATER), (425, "c", Meaning.LATER), (429, "c", Meaning.LATER),
        (500, "internal_error", Meaning.LATER), (502, "", Meaning.LATER), (503, "overloaded", Meaning.LATER),
        (507, "store_full", Meaning.LATER), (400, "damaged_body", Meaning.LATER),
        (400, "c", Meaning.BAD_BATCH), (413, "c", Meaning.BAD_BATCH), (415, "c", Meaning.BAD_BATCH),
        (422, "c", Meaning.BAD_BATCH), (409, "run_limit", Meaning.BAD_BATCH),
        (401, "unauthorized", Meaning.STOP), (403, "c", Meaning.STOP), (404, "run_not_found", Meaning.STOP),
        (405, "c", Meaning.STOP), (409, "seq_gap", Meaning.STOP), (409, "seq_reused", Meaning.STOP),
        (410, "run_deleted", Meaning.STOP), (421, "forbidden_host", Meaning.STOP),
    ],
)  # fmt: skip
def test_what_a_status_means(status: int, code: str, expected: Meaning) -> None:
    answer = problem(status, code)
    assert meaning(answer, problem_of(answer)) is expected


@pytest.mark.parametrize("body", [b"<html>no</html>", b"", b'{"detail": "no"}', b"\xff", problem(499, "c").body])
@pytest.mark.parametrize("status", [301, 302, 400, 401, 403, 404, 405, 407, 409, 410, 413, 415, 421, 422, 451, 502])
def test_no_status_means_anything_final_unless_a_tallyboard_says_so(status: int, body: bytes) -> None:
    answer = Answer(status, body)
    assert meaning(answer, problem_of(answer)) is Meaning.LATER


def test_a_rejected_batch_is_counted_said_and_leaves_its_number_to_the_next() -> None:
    s = opened(sending(taken(), problem(422, "invalid_batch", "tag is too long", field="$.blocks[0].tags")))
    s.recorded.log({"loss": 1.0}, 1)
    s.clock.advance(TICK_S)
    s.sender.turn()
    s.recorded.log({"loss": 1.0}, 2)
    s.drain()
    assert steps(s) == [[], [2]]
    assert [b.seq for b in s.transport.batches] == [1, 2]
    assert s.recorded.tally.stats().dropped_reports == 1
    assert s.recorded.ears.heard == ["the server does not take 1 reports: tag is too long ($.blocks[0].tags)"]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (problem(401, "unauthorized", "no token"), "TALLYBOARD_TOKEN"),
        (problem(404, "run_not_found", "there is no run"), "no run digits/try1"),
        (problem(410, "run_deleted", "it was deleted"), "was deleted"),
        (problem(409, "seq_reused", "other bytes"), "in order"),
        (problem(405, "method_not_allowed", "POST"), "their versions fit"),
        (problem(404, "route_not_found", "no route"), "their versions fit"),
        (problem(421, "forbidden_host", "unknown name"), "one of its names"),
    ],
)
def test_a_final_answer_stops_the_sending_and_names_the_remedy(answer: Answer, says: str) -> None:
    s = opened(sending(taken(), answer))
    for step in range(5):
        s.recorded.log({"loss": 1.0}, step)
        s.clock.advance(60.0)
        s.sender.turn()
    assert len(s.transport.sent) == 2
    (said,) = s.recorded.ears.heard
    assert says in said
    assert "training goes on" in said
    assert s.sender.stopped is not None


PAGE = b"<html>\n<title>Who are you?</title>" + b"x" * 200


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Answer(401, PAGE), "check TALLYBOARD_TOKEN and TALLYBOARD_URL"),
        (Answer(403, PAGE), "check TALLYBOARD_TOKEN and TALLYBOARD_URL"),
        (Answer(404, PAGE), "check TALLYBOARD_URL"),
        (Answer(421, PAGE), "check TALLYBOARD_URL"),
        (Answer(200, PAGE), "check TALLYBOARD_URL"),
        (Answer(204, b""), "(status 204: an empty body)"),
        (Answer(200, b'{"ok": true}'), '(status 200: {"ok": true})'),
        (Answer(302, PAGE), "redirects"),
        (Answer(413, PAGE), "let it take larger bodies"),
    ],
)
def test_what_is_no_tallyboards_answer_is_said_once_and_tried_again(answer: Answer, says: str) -> None:
    s = opened(sending(taken(), *[answer] * 7))
    for step in range(5):
        s.recorded.log({"loss": 1.0}, step)
        s.clock.advance(60.0)
        s.sender.turn()
    (said,) = s.recorded.ears.heard
    assert says in said
    assert f"http://tally does not answer as a Tallyboard does (status {answer.status}: " in said
    assert "<title>" not in said or said.count("x") < EXCERPT_CHARS_MAX
    assert "Training goes on" in said
    s.drain()
    assert list(dict.fromkeys(step for batch in steps(s) for step in batch)) == list(range(5))
    assert s.recorded.ears.heard[1:] == ["http://tally answers again; what waited is being sent"]
    assert s.recorded.tally.stats().dropped_reports == 0


def test_a_busy_load_balancer_is_an_outage_like_others() -> None:
    s = opened(sending(taken(), *[Answer(502, b"<h1>Bad\x1b Gateway</h1>")] * 3))
    s.recorded.log({"loss": 1.0}, 1)
    s.drain()
    assert "takes nothing at the moment (status 502: <h1>Bad? Gateway</h1>)" in s.recorded.ears.heard[0]


def test_no_foreign_404_makes_a_run_forgotten() -> None:
    s = opened(sending(taken(), problem(409, "seq_gap", expected_seq=1)))
    seen = iter([Answer(404, PAGE), Answer(200, PAGE), problem(404, "run_not_found")])
    s.transport.get = lambda path: next(seen)  # type: ignore[method-assign]
    transmitter, late = Transmitter(s.transport, random.Random(1)), Letter("r", "p1", 2, letter().body)
    assert isinstance(transmitter.deliver(late, s.clock), Later)
    assert isinstance(transmitter.look("r", s.clock), Later)
    assert transmitter.look("r", s.clock) == Seen(None)


def test_an_opening_that_is_rejected_stops_the_sending() -> None:
    s = opened(sending(problem(422, "invalid_batch", "notes are too long", field="$.open.notes")))
    assert s.sender.stopped is not None
    assert "notes are too long" in s.recorded.ears.heard[0]


def test_resume_must_of_an_absent_run_is_told_apart() -> None:
    s = opened(sending(problem(404, "run_not_found", "there is no run 'digits/try1'")))
    assert isinstance(s.sender.not_found(), RunNotFoundError)
    assert opened(sending(problem(401))).sender.not_found() is None
    assert opened(sending()).sender.not_found() is None


def refusal(reason: str = "counter_taken", counter: str = "global_step") -> Refusal:
    return Refusal(
        block=0, row=0, counter=counter, step=1, last_step=9, tags=["loss"], reason=reason,  # type: ignore[arg-type]
        detail=f"{counter} is ada's",
    )  # fmt: skip


def test_refusals_are_said_once_per_counter_and_reason_and_counted() -> None:
    receipt = taken(accepted=0, refused_count=1, refused=[refusal()])
    s = opened(sending(taken(), receipt, receipt))
    for step in (1, 2):
        s.recorded.log({"loss": 1.0}, step)
        s.drain()
    assert s.recorded.ears.heard == ["the server refused a report: global_step is ada's"]
    assert s.recorded.tally.stats().refused == 2


def test_what_the_client_warned_of_itself_is_not_said_again() -> None:
    s = opened(sending(taken(), taken(refused_count=1, refused=[refusal("step_decreased")])))
    s.recorded.log({"loss": 1.0}, 9)
    s.recorded.log({"loss": 1.0}, 1)
    s.drain()
    assert len(s.recorded.ears.heard) == 1
    assert "goes back" in s.recorded.ears.heard[0]


@pytest.mark.parametrize(
    ("reason", "tags", "told"),
    [
        ("step_decreased", ["loss"], 0),  # as it comes after the rows that were logged later
        ("step_decreased", ["acc"], 1),
        ("counter_taken", ["loss"], 1),
    ],
)
def test_of_what_travels_apart_only_what_the_client_could_not_know_is_said(
    reason: str, tags: list[str], told: int
) -> None:
    found = msgspec.structs.replace(refusal(reason), tags=tags)
    s = opened(sending(taken(), taken(), taken(refused_count=1, refused=[found])))
    s.recorded.log({"acc": 1.0, "loss": 1.0}, 9)
    s.recorded.log({"loss": 2.0}, 9)
    s.drain()
    assert "'loss' was reported at global_step 9 already" in s.recorded.ears.heard[0]
    assert s.recorded.ears.heard[1:] == ["the server refused a report: global_step is ada's"] * told


def test_a_strict_run_raises_them_at_its_next_call() -> None:
    s = opened(sending(taken(), taken(refused_count=1, refused=[refusal()]), strict=True))
    s.recorded.log({"loss": 1.0}, 1)
    s.drain()
    with pytest.raises(CounterTakenError, match="ada"):
        s.recorded.log({"loss": 1.0}, 2)


def test_counters_of_a_continued_run_are_adopted_and_of_a_new_one_not() -> None:
    receipt = taken(counters={"global_step": CounterValue(500, 1), "epoch": CounterValue(7, 1)})
    s = sending(receipt, resumed=True)
    s.recorded.recorder.open(Open(resume="continue"))
    s.sender.turn()
    assert s.recorded.run.counter().value == 500
    new = opened(sending(receipt))
    assert new.recorded.run.counter().value == 0


def test_a_resume_with_rewind_keeps_its_own_values() -> None:
    s = sending(taken(counters={"global_step": CounterValue(500, 1)}), resumed=True)
    s.recorded.recorder.open(Open(resume="continue"))
    s.recorded.recorder.rewind({"global_step": 0}, "", {})
    s.drain()
    assert s.recorded.run.counter().value == 0


def test_warnings_that_differ_in_numbers_alone_are_said_once() -> None:
    s = opened(sending(taken(), *(taken(warnings=[f"{n} reports lie beyond the cut"]) for n in range(1, 4))))
    for step in range(3):
        s.recorded.log({"loss": 1.0}, step)
        s.drain()
    assert s.recorded.ears.heard == ["1 reports lie beyond the cut"]


def test_counters_that_were_not_rewound_are_named() -> None:
    s = opened(sending(taken(), taken(not_rewound={"epoch": CounterValue(7, 1)}, warnings=["one more thing"])))
    s.recorded.recorder.rewind({"global_step": 3}, "", {})
    s.clock.advance(TICK_S)
    s.sender.turn()
    assert s.recorded.ears.heard == ["one more thing", "not rewound, and so where they were: epoch (at 7)"]


def test_a_heartbeat_when_nothing_was_sent_for_long() -> None:
    s = opened(sending())
    s.drain()
    for _ in range(int(4 * HEARTBEAT_S / TICK_S)):
        s.clock.advance(s.sender.turn())
    assert s.transport.heartbeats in (3, 4)
    s.recorded.log({"loss": 1.0}, 1)
    s.drain()
    beats = s.transport.heartbeats
    s.clock.advance(HEARTBEAT_S - 2 * TICK_S)
    s.sender.turn()
    assert s.transport.heartbeats == beats


def test_every_report_is_accounted_for() -> None:
    receipt = taken(accepted=1, stored=1, refused_count=1, refused=[refusal()])
    s = opened(sending(taken(), receipt, problem(413, "too_large", "too large")))
    for step in (1, 2):
        s.recorded.log({"loss": 1.0}, step)
    s.drain()
    s.recorded.log({"loss": 1.0}, 3)
    s.drain()
    s.recorded.log({"loss": 1.0}, 4)
    s.recorded.recorder.mark()
    stats = s.recorded.tally.stats()
    assert (stats.reports, stats.accepted, stats.refused, stats.dropped_reports, stats.waiting) == (4, 1, 1, 1, 1)
    assert stats.counters["global_step"].scalars == 4


def test_problems_of_others_are_read_as_far_as_they_go() -> None:
    assert problem_of(Answer(502, b"<h1>Bad\r\n Gateway</h1>")).detail == "<h1>Bad Gateway</h1>"
    assert problem_of(Answer(500, b"\xff\xfe")).status == 500
    assert problem_of(Answer(404, json.dumps({"detail": "Not Found"}).encode())).status == 404
