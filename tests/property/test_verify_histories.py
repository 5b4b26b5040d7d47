"""Any accepted history verifies: merged and exported halfway, growing while it is checked, and after each restart."""

from collections.abc import Iterator

import pytest
from hypothesis import strategies as st

from tallyboard_server.verify import stored
from tests.eventfiles_kit import Service, settle
from tests.examples import given_on_engines
from tests.histories import Action, histories
from tests.stores import Stores, on
from tests.verify_kit import merge, verify

pytestmark = on("sqlite", "postgres")

RUN = "any/run"


@pytest.fixture(autouse=True, scope="module")
def small_pages() -> Iterator[None]:
    """Read attempts a few rows at a time, so that short histories meet every cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored, "PAGE_BYTES", 150)
        yield


@given_on_engines(
    40, elsewhere=5, history=histories, merging=st.sets(st.integers(0, 15)), exporting=st.sets(st.integers(0, 15))
)
def test_any_history_verifies(
    stores: Stores,
    tmp_path_factory: pytest.TempPathFactory,
    history: list[Action],
    merging: set[int],
    exporting: set[int],
) -> None:
    with Service(tmp_path_factory.mktemp("run"), stores=stores) as service:
        engine = service.engine()
        for index, action in enumerate(history):
            action(service, RUN)
            if index in exporting:
                settle(engine)
            if index in merging and exists(service):
                merge(service, RUN)
        if exists(service):
            settle(engine)
            report = verify(service, RUN)
            assert report.ok, report.differences


@given_on_engines(25, elsewhere=5, before=histories, during=histories)
def test_a_history_that_goes_on_meanwhile_shows_no_difference_but_lag(
    stores: Stores, tmp_path_factory: pytest.TempPathFactory, before: list[Action], during: list[Action]
) -> None:
    with Service(tmp_path_factory.mktemp("run"), stores=stores) as service:
        engine = service.engine()
        for action in before:
            action(service, RUN)
        if not exists(service):
            return
        settle(engine)
        actions: Iterator[Action] = iter(during)

        def between() -> None:
            if (action := next(actions, None)) is not None:
                action(service, RUN)
                settle(engine)
                merge(service, RUN)

        report = verify(service, RUN, between)
        assert report.ok, report.differences


def exists(service: Service) -> bool:
    with service.store.snapshot() as view:
        return view.load(RUN) is not None
