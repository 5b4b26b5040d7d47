"""Alerts reach their webhook though the service is killed between raising and sending them."""

from pathlib import Path

import pytest

from tests.kill.server import Server
from tests.service import until
from tests.webhooks import receiving


@pytest.mark.timeout(120)
def test_what_was_raised_is_sent_by_the_next_process_and_told_once(tmp_path: Path) -> None:
    with receiving() as receiver:
        variables = {"TALLYBOARD_WEBHOOK_URL": receiver.url}
        server = Server(tmp_path)
        server.start(variables=variables)
        try:
            service = server.service
            service.post("/scalars/p/run", {"step": 1, "scalars": {"loss": "NaN"}}, dict)
            assert until(lambda: service.get("/incidents", dict)["incidents"] != [])
            server.kill()  # within the seconds in which notices are put together
            assert receiver.came == []
            server.start(variables=variables)
            assert until(lambda: len(receiver.came) == 1)
            assert receiver.titles() == ["loss is NaN"]
            assert len(service.get("/alerts/p/run", dict)["alerts"]) == 1
            assert len(service.get("/incidents", dict)["incidents"]) == 1
        finally:
            server.stop()
