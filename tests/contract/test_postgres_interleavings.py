"""Two services and one run: wherever in the one's transaction the other's falls, it is as if one came after the other.

Every statement of each operation is such a place. What should have come of it, SQLite says, where they do come one
after the other.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tallyboard.wire import Batch, Columns, Open, Rewind
from tallyboard_server.ingest.commands import Append, Command, Delete, Patch
from tallyboard_server.store.protocol import Store
from tests.contract.two_services import Outcome, carried, interleaved, shown
from tests.stores import SQLITE, Stores, on

pytestmark = on("postgres")

STATEMENTS_MAX = 60
Case = Callable[[str], tuple[list[Command], Command, Command]]
"""Of a run's name: what happened before, and the two commands that meet."""


def report(name: str, step: int, tag: str = "loss", counter: str = "step", **parts: Any) -> Append:
    columns = Columns(
        counter, (tag,), np.arange(step, step + 2), np.full(2, 1e9), np.full((2, 1), float(step)), block=0
    )
    return Append(name, Batch(columns=(columns,), **{"partial": True} | parts))


def opening(name: str, **open_: Any) -> Append:
    return Append(name, Batch(open=Open(**open_)), explicit=True)


def steps_of_one_counter(run: str) -> tuple[list[Command], Command, Command]:
    """The contract's first rule, at its edge: of two reports of overlapping steps, the later must see the earlier."""
    return [report(run, 1)], report(run, 10), report(run, 9)


def all_or_nothing(run: str) -> tuple[list[Command], Command, Command]:
    return [report(run, 1)], report(run, 10, partial=False), report(run, 4, partial=False)


def one_tag_on_two_counters(run: str) -> tuple[list[Command], Command, Command]:
    return [report(run, 1, "other")], report(run, 5, "loss", "epoch"), report(run, 5, "loss", "tokens")


def a_run_that_both_create(run: str) -> tuple[list[Command], Command, Command]:
    return [], report(run, 3), report(run, 4)


def a_new_run_of_one_name(run: str) -> tuple[list[Command], Command, Command]:
    return [], opening(run, uid=f"{run}/1", resume="new"), opening(run, uid=f"{run}/2", resume="new")


def another_new_run_of_a_name_that_is_taken(run: str) -> tuple[list[Command], Command, Command]:
    _, first, second = a_new_run_of_one_name(run)
    return [report(run, 1)], first, second


def one_uid_for_one_name(run: str) -> tuple[list[Command], Command, Command]:
    """As when an init's first request is sent again, to another service."""
    return [], opening(run, uid=run, resume="new"), opening(run, uid=run, resume="new")


def one_uid_for_two_names(run: str) -> tuple[list[Command], Command, Command]:
    return [], opening(f"{run}/a", uid=run), opening(f"{run}/b", uid=run)


def one_batch_twice(run: str) -> tuple[list[Command], Command, Command]:
    """As when a batch is sent again because its answer was lost, to another service."""
    again = report(run, 5, producer="p", seq=2, checksum=7)
    return [report(run, 1, producer="p", seq=1)], again, again


def a_rewind_and_a_report(run: str) -> tuple[list[Command], Command, Command]:
    back = Append(run, Batch(producer="b", seq=1, rewind=Rewind(next_steps={"step": 4})))
    return [report(run, 1), report(run, 7)], back, report(run, 9)


def a_deletion_and_a_report(run: str) -> tuple[list[Command], Command, Command]:
    return [report(run, 1)], Delete(run), report(run, 9)


def a_deletion_and_a_new_beginning(run: str) -> tuple[list[Command], Command, Command]:
    return [report(run, 1)], Delete(run), opening(run)


def two_patches(run: str) -> tuple[list[Command], Command, Command]:
    return [report(run, 1)], Patch(run, {"config": {"a": 1}}), Patch(run, {"config": {"b": 2}, "notes": "n"})


CASES = [
    steps_of_one_counter, all_or_nothing, one_tag_on_two_counters, a_run_that_both_create, a_new_run_of_one_name,
    another_new_run_of_a_name_that_is_taken, one_uid_for_one_name, one_uid_for_two_names, one_batch_twice,
    a_rewind_and_a_report, a_deletion_and_a_report, a_deletion_and_a_new_beginning, two_patches,
]  # fmt: skip


@pytest.fixture(scope="module")
def two(stores: Stores, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Store]]:
    """The stores of two services: one database, a cache of states each."""
    folder = tmp_path_factory.mktemp("shared")
    opened = stores.open(folder), stores.open(folder)
    yield opened
    for store in opened:
        store.close()
    stores.remove(folder)


@pytest.mark.parametrize("halted", [0, 1])
@pytest.mark.parametrize("case", CASES)
def test_one_comes_after_the_other(two: tuple[Store, Store], tmp_path: Path, case: Case, halted: int) -> None:
    """halted: which of the two has the other's transaction fall into its own."""
    allowed = [one_after_the_other(tmp_path / order, case, order) for order in ("12", "21")]
    for number in range(1, STATEMENTS_MAX):
        run = f"p/{case.__name__}-{halted}-{number:02}"
        before, *both = case(run)
        for command in before:
            carried(two[number % 2], command)  # so that either may know an older state
        outcomes, was_halted = interleaved(
            number,
            lambda command=both[halted]: carried(two[0], command),  # type: ignore[misc]
            lambda command=both[1 - halted]: carried(two[1], command),  # type: ignore[misc]
        )
        found = plain(run, outcomes[:: -1 if halted else 1], shown(two[1], run))
        assert found in allowed, "\n".join(
            [f"at statement {number}", *found, "is none of", *allowed[0], "or", *allowed[1]]
        )
        assert plain(run, outcomes[:: -1 if halted else 1], shown(two[0], run)) == found
        if not was_halted:
            assert number > 5, "it has more statements than that"
            return
    raise AssertionError(f"more than {STATEMENTS_MAX} statements")


def one_after_the_other(folder: Path, case: Case, order: str) -> list[str]:
    """What comes of it in a given order."""
    run = f"p/{case.__name__}"
    before, *both = case(run)
    with SQLITE.opened(folder) as store:
        for command in before:
            carried(store, command)
        outcomes = {number: carried(store, both[int(number) - 1]) for number in order}
        return plain(run, (outcomes["1"], outcomes["2"]), shown(store, run))


def plain(run: str, outcomes: tuple[Outcome, ...], found: dict[str, Any]) -> list[str]:
    """All of it, as lines of text, whatever the run's name."""
    lines = [part for outcome in outcomes for part in outcome]
    lines += [f"{name} {what} {value!r}" for name, whole in found.items() for what, value in whole.items()]
    return [line.replace(run, "RUN") for line in lines]
