"""The counter of the machine's figures stands aside: of the training's history it is no part."""

from tallyboard.wire import CounterValue, Open
from tallyboard.wire.names import SYSTEM_COUNTER
from tests.unit.client_kit import recorded, sending, taken


def test_no_other_report_says_where_it_stands_and_its_own_say_where_they_do() -> None:
    mine = recorded(strict=True)
    for i in range(3):
        mine.log({"gpu": 0.5 + i}, counter=SYSTEM_COUNTER)
        mine.log({"loss": 1.0 - i}, 10 * (i + 1))
    mine.run.log_text("note", "done", 30)
    mine.log({"acc": 0.5}, 1, counter="epoch")
    mine.log({"gpu": 9.0}, counter=SYSTEM_COUNTER)
    rows = mine.rows()
    assert [(step, at) for counter, step, _, at in rows if counter == SYSTEM_COUNTER] == [
        (1, {}), (2, {"global_step": 10}), (3, {"global_step": 20}), (4, {"global_step": 30, "epoch": 1}),
    ]  # fmt: skip
    assert [at for counter, _, _, at in rows if counter != SYSTEM_COUNTER] == [{}, {}, {}, {}, {"global_step": 30}]


def test_its_first_report_sends_no_other_through_the_slow_path() -> None:
    mine = recorded(strict=True)
    mine.log({"loss": 1.0}, 1)
    lanes = dict(mine.recorder._fast)
    mine.log({"gpu": 0.5}, counter=SYSTEM_COUNTER)
    mine.run.counter(SYSTEM_COUNTER).increment()
    assert lanes.items() <= mine.recorder._fast.items()


def test_checkpoints_leave_it_out_and_leave_it_alone() -> None:
    mine = recorded(strict=True)
    run = mine.run
    mine.log({"loss": 1.0}, 10)
    for _ in range(5):
        mine.log({"gpu": 0.5}, counter=SYSTEM_COUNTER)
    state = run.state_dict()
    assert state.keys() == {"global_step"}
    mine.recorder.take()
    state[SYSTEM_COUNTER] = {"value": 2, "next_step": 3, "moved": True}  # of whatever made it
    run.load_state_dict(state)
    run.load_state_dict({SYSTEM_COUNTER: state[SYSTEM_COUNTER]})
    (section,) = mine.recorder.take()
    assert section.rewind is not None
    assert section.rewind.next_steps == {"global_step": 11}
    mine.log({"gpu": 0.5}, counter=SYSTEM_COUNTER)
    assert mine.rows() == [(SYSTEM_COUNTER, 6, {"gpu": 0.5}, {"global_step": 10})]


def test_of_a_continued_run_it_goes_on_where_the_server_says() -> None:
    mine = sending(
        taken(counters={"global_step": CounterValue(5, 1), SYSTEM_COUNTER: CounterValue(57, 1)}), resumed=True
    )
    recorder = mine.recorded.recorder
    assert not recorder.is_placed(SYSTEM_COUNTER)
    assert recorder.counters() == {}  # asking makes none
    recorder.open(Open(uid="u1", resume="continue", take_over=()))
    mine.drain()
    assert recorder.is_placed(SYSTEM_COUNTER)
    mine.recorded.log({"gpu": 0.5}, counter=SYSTEM_COUNTER)
    assert mine.recorded.rows() == [(SYSTEM_COUNTER, 58, {"gpu": 0.5}, {"global_step": 5})]
    assert mine.recorded.ears.heard == []


def test_where_a_counter_stands_is_known_once_somebody_has_said_so() -> None:
    assert recorded().recorder.is_placed(SYSTEM_COUNTER)
    none_yet = recorded(resumed=True)
    none_yet.recorder.adopt({"global_step": CounterValue(5, 1)})
    assert none_yet.recorder.is_placed(SYSTEM_COUNTER)
    by_hand = recorded(resumed=True)
    by_hand.run.rewind({"global_step": 5})
    assert by_hand.recorder.is_placed("global_step")
    assert not by_hand.recorder.is_placed(SYSTEM_COUNTER)


def test_a_training_that_names_one_so_reports_as_ever() -> None:
    mine = recorded(strict=True)
    c = mine.run.counter(SYSTEM_COUNTER, total=3)
    for _ in range(3):
        c.increment()
        c.log({"pressure": 1.0})
    mine.run.rewind({SYSTEM_COUNTER: 2})
    mine.log({"pressure": 2.0}, 2, counter=SYSTEM_COUNTER, at={"epoch": 1})
    assert [(step, at) for _, step, _, at in mine.rows()] == [(1, {}), (2, {}), (3, {}), (2, {"epoch": 1})]


def test_a_rewind_that_leaves_it_where_it_is_is_no_news() -> None:
    behind = {SYSTEM_COUNTER: CounterValue(57, 1), "epoch": CounterValue(3, 1)}
    mine = sending(taken(not_rewound=behind), taken(not_rewound={SYSTEM_COUNTER: CounterValue(57, 1)}))
    for _ in range(2):
        mine.recorded.run.rewind({"global_step": 3})
        mine.drain()
    assert mine.recorded.ears.heard == ["not rewound, and so where they were: epoch (at 3)"]
