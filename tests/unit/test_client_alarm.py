"""The alarm that wakes the sender."""

import threading

from tallyboard.delivery.alarm import Alarm


def test_a_ring_before_the_wait_is_not_missed_and_counts_once() -> None:
    alarm = Alarm()
    for _ in range(3):
        alarm.ring()
    assert alarm.wait(60.0) is True
    assert alarm.wait(0.0) is False


def test_it_wakes_another_thread() -> None:
    alarm, woke = Alarm(), list[bool]()
    thread = threading.Thread(target=lambda: woke.append(alarm.wait(60.0)))
    thread.start()
    alarm.ring()
    thread.join(30.0)
    assert woke == [True]
