"""Which runs changed: the log of changes against a plain list of them, and streams that read it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallyboard.wire import Receipt
from tallyboard_server.api import listeners
from tallyboard_server.api.changes import Changes
from tallyboard_server.api.listeners import Live
from tallyboard_server.contract import new_run
from tallyboard_server.ingest.commands import Done

NAMES = st.sampled_from(["a/1", "a/2", "ab/1", "b/1", "b/2", "b/3"])


@given(
    st.lists(st.lists(st.tuples(NAMES, st.booleans()), max_size=5), max_size=12),
    st.integers(0, 40), st.sampled_from(["", "a/", "b/", "c/"]), st.integers(1, 6),
)  # fmt: skip
def test_changes_since_a_number_are_what_a_list_of_all_of_them_says(
    groups: list[list[tuple[str, bool]]], number: int, prefix: str, kept_max: int
) -> None:
    changes = Changes(kept_max)
    told: list[tuple[str, bool]] = []
    for group in groups:
        changes.add(group)
        told += group
    number = min(number, len(told))
    news = changes.since(number, prefix)
    assert news.number == changes.newest == len(told)
    last = {name: deleted for name, deleted in told[number:] if name.startswith(prefix)}
    missed = len({name for name, _ in told[number:]}) > kept_max
    if missed:
        assert news.resync
    if news.resync:
        assert (news.changed, news.deleted) == ((), ())
        assert len({name for name, _ in told}) > kept_max, "nothing was forgotten"
        return
    assert set(news.changed) == {name for name, deleted in last.items() if not deleted}
    assert set(news.deleted) == {name for name, deleted in last.items() if deleted}
    assert bool(news) == bool(last)


def done(name: str, *, deleted: bool = False, replayed: bool = False) -> Done:
    return Done(Receipt(run=name, replayed=replayed), new_run(1, name, now=0.0), deleted=deleted)


def told(event: bytes) -> tuple[str, dict[str, object]]:
    """An event's name and data."""
    fields = dict(line.split(": ", 1) for line in event.decode().strip().splitlines())
    return fields["event"], msgspec.json.decode(fields["data"])


def played(story: Callable[[Live], Awaitable[None]], *, kept_max: int = 2_000) -> None:
    """Carry out a story on a loop with a hub of its own."""

    async def main() -> None:
        async with asyncio.timeout(20):
            await story(Live(Changes(kept_max)))

    asyncio.run(main())


async def begun(live: Live, prefix: str = "") -> AsyncIterator[bytes]:
    """A stream whose hello was read."""
    stream = live.events(prefix)
    name, data = told(await anext(stream))
    assert (name, data["boot"]) == ("hello", live.boot)
    return stream


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "PAUSE_S", 0.0)


def test_a_thousand_runs_that_changed_are_one_event() -> None:
    async def story(live: Live) -> None:
        with live.listening():
            stream = await begun(live)
            for i in range(1_000):
                live.committed([done(f"a/{i}"), done(f"a/{i}")])
            live.committed([done("a/5", deleted=True), done("a/6", replayed=True)])
            name, data = told(await anext(stream))
        assert name == "changed"
        runs = data["runs"]
        assert isinstance(runs, list)
        assert sorted(runs) == sorted(f"a/{i}" for i in range(1_000) if i != 5)
        assert (data["deleted"], data["resync"]) == (["a/5"], False)
        assert live.stats() == {"live_clients": 0, "live_events_total": 1}

    played(story)


def test_a_waiting_stream_is_woken_from_another_thread_and_others_projects_are_not_its_own() -> None:
    async def story(live: Live) -> None:
        with live.listening():
            stream = await begun(live, "a/")
            waiting = asyncio.ensure_future(anext(stream))
            for name in ("b/1", "ab/1", "a/1"):
                await asyncio.to_thread(live.committed, [done(name)])
            assert told(await waiting) == ("changed", {"runs": ["a/1"], "deleted": [], "resync": False})

    played(story)


def test_who_missed_too_much_is_told_to_look_at_everything() -> None:
    async def story(live: Live) -> None:
        with live.listening():
            stream = await begun(live)
            live.committed([done(f"a/{i}") for i in range(11)])
            assert told(await anext(stream)) == ("changed", {"runs": [], "deleted": [], "resync": True})
            live.changed("a/1")
            assert told(await anext(stream)) == ("changed", {"runs": ["a/1"], "deleted": [], "resync": False})

    played(story, kept_max=10)


def test_without_anybody_who_listens_nothing_is_kept() -> None:
    async def story(live: Live) -> None:
        live.committed([done("a/1")])
        live.changed("a/2")
        with live.listening():
            stream = await begun(live)
            live.committed([done("a/3")])
            assert told(await anext(stream))[1]["runs"] == ["a/3"]

    played(story)


def test_a_silent_stream_is_kept_alive_by_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "KEEP_ALIVE_S", 0.0)

    async def story(live: Live) -> None:
        stream = await begun(live)
        assert await anext(stream) == b": nothing new\n\n"
        assert await anext(stream) == b": nothing new\n\n"

    played(story)


def test_streams_end_with_the_service_those_that_wait_and_those_that_come() -> None:
    async def story(live: Live) -> None:
        waiting = [asyncio.ensure_future(anext(await begun(live), b"the end")) for _ in range(3)]
        await asyncio.sleep(0)
        live.stop()
        assert await asyncio.gather(*waiting) == [b"the end"] * 3
        late = await begun(live)
        assert await anext(late, b"the end") == b"the end"

    played(story)
