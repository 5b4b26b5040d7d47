"""The row of the training kit: what a step with a counter, a schedule and a report costs the training loop."""

import time
from typing import Final

import numpy as np

from tests.bench.client_rows import Logged
from tests.bench.plan import Bench
from tests.bench.readback import Sent, read_back
from tests.bench.result import Goal, Row
from tests.bench.service import Span, serving
from tests.bench.workers import in_process

_TIMEOUT_S: Final = 180.0
_FLUSH_TIMEOUT_S: Final = 60.0
_RUN: Final = "bench/kit-step"
_TAGS: Final = ("loss", "learning_rate")
_DECAY: Final = (0.1, 1_000, 0.96)
"""Learning rate at the beginning, and what it is multiplied by in so many steps."""
_GOAL: Final = 1 / 20


def step(bench: Bench) -> Row:
    """increment, a schedule's value and run.log of two scalars, against the same by hand with tensorboardX."""
    steps = bench.sizes.client_calls
    by_hand_s = in_process(_TIMEOUT_S, steps_by_hand, str(bench.new_folder()), steps)
    with bench.data_folder() as folder, serving(folder, bench.sizes.settings) as service:
        before = service.figures()
        logged = in_process(_TIMEOUT_S, steps_with_the_kit, service.url, steps)
        span = Span(logged.begun, logged.ended, before, service.figures(), logged.cpu_s)
        usage = service.usage(span)
        stored = read_back(service, [Sent(_RUN, "global_step", _TAGS, logged.reports)])
    share = logged.mean_s / by_hand_s
    return Row(
        "kit-step",
        f"increment, schedule, run.log of two scalars, {logged.reports:,} steps, the sender at work beside it",
        rate=1 / logged.mean_s,
        unit="steps/s",
        usage=usage,
        stored=stored,
        goals=[Goal("≤ 1/20 of tensorboardX and a formula", f"1/{1 / share:.0f}", share <= _GOAL)],
        notes=[f"{logged.mean_s * 1e6:.2f} µs a step; by hand {by_hand_s * 1e6:.1f} µs"],
        details={"mean_s": logged.mean_s, "by_hand_s": by_hand_s, "dropped": logged.dropped},
    )


def steps_with_the_kit(url: str, steps: int) -> Logged:
    """A training loop that does nothing but count, read its learning rate and log."""
    import tallyboard
    from tallyboard.schedules import exponential_decay

    with tallyboard.init(_RUN, url=url, strict=True) as run:
        global_step = run.counter("global_step")
        learning_rate = exponential_decay(*_DECAY).bind(global_step)
        cpu_then = time.process_time()
        begun = time.perf_counter()
        for i in range(steps):
            global_step.increment()
            run.log({"loss": 0.5 + i, "learning_rate": learning_rate.value})
        mean_s = (time.perf_counter() - begun) / steps
        delivered = run.flush(_FLUSH_TIMEOUT_S)
        ended = time.perf_counter()
        cpu_s = time.process_time() - cpu_then
        dropped = run.stats().dropped_reports
    if not delivered:
        raise TimeoutError("the client could not deliver in time")
    return Logged(_RUN, steps, dropped, mean_s, np.zeros(0), begun, ended, cpu_s)


def steps_by_hand(folder: str, steps: int) -> float:
    """The same loop with tensorboardX and the formula written out; seconds of a step."""
    from tensorboardX import SummaryWriter

    initial, decay_steps, decay_rate = _DECAY
    with SummaryWriter(folder) as writer:
        begun = time.perf_counter()
        for i in range(steps):
            global_step = i + 1
            learning_rate = initial * decay_rate ** (global_step / decay_steps)
            writer.add_scalar("loss", 0.5 + i, global_step)
            writer.add_scalar("learning_rate", learning_rate, global_step)
        return (time.perf_counter() - begun) / steps
