"""GET /live on a real service: what changes is heard of, and streams are in nobody's way."""

import time
from contextlib import ExitStack

from tallyboard_server.api.changes import KEPT_MAX
from tallyboard_server.settings import Settings
from tests.conftest import StartService
from tests.service import RunningService, serving, until
from tests.sse import Stream, listening


def said_hello(stream: Stream) -> str:
    name, data = stream.event()
    assert name == "hello"
    assert set(data) == {"version", "boot"}
    return str(data["boot"])


def test_a_commit_is_heard_of_within_a_second(service: RunningService, run_name: str) -> None:
    with listening(service) as stream:
        assert "200" in stream.head.splitlines()[0]
        assert "content-type: text/event-stream" in stream.head
        assert "cache-control: no-store" in stream.head
        assert "x-accel-buffering: no" in stream.head
        said_hello(stream)
        began = time.monotonic()
        service.report(run_name, {"step": 1, "scalars": {"loss": 1.0}})
        assert stream.event() == ("changed", {"runs": [run_name], "deleted": [], "resync": False})
        assert time.monotonic() - began < 1.0
        service.send("PATCH", f"/runs/{run_name}", {"notes": "seen"})
        assert stream.event()[1]["runs"] == [run_name]
        service.request("DELETE", f"/api/v1/runs/{run_name}")
        assert stream.event() == ("changed", {"runs": [], "deleted": [run_name], "resync": False})


def test_refused_and_repeated_reports_and_other_projects_are_not_told(service: RunningService, run_name: str) -> None:
    project = run_name.partition("/")[0]
    batch = {"producer": "p", "seq": 1, "reports": [{"step": 1, "scalars": {"loss": 1.0}}]}
    service.report(run_name, batch)
    with listening(service, f"?project={project}") as stream:
        said_hello(stream)
        service.report(run_name, batch)
        service.report(f"{project}-other/run", {"step": 1, "scalars": {"loss": 1.0}})
        service.send("POST", f"/heartbeat/{run_name}", {"producer": "p"})
        service.report(f"{run_name}/last", {"step": 1, "scalars": {"loss": 1.0}})
        assert stream.event()[1]["runs"] == [f"{run_name}/last"]


def test_what_retention_thins_out_is_told(service: RunningService, run_name: str) -> None:
    service.report(run_name, {"step": 1, "scalars": {"loss": 1.0}})
    with service.parts.store.snapshot() as view:
        state = view.load(run_name)
    assert state is not None
    with listening(service) as stream:
        said_hello(stream)
        service.parts.pruner.thinned(state.id)
        assert stream.event() == ("changed", {"runs": [run_name], "deleted": [], "resync": False})
        service.parts.pruner.thinned(2**40)  # of a run that was deleted meanwhile


def test_a_burst_is_few_events_and_too_many_runs_are_no_names(service: RunningService, run_name: str) -> None:
    with listening(service) as stream:
        said_hello(stream)
        begun, heard, events = time.monotonic(), set[str](), 0
        names = {f"{run_name}/{i}" for i in range(300)}
        for name in sorted(names):
            service.report(name, {"step": 1, "scalars": {"loss": 1.0}})
        while heard != names:
            heard.update(stream.event()[1]["runs"])
            events += 1
        assert events <= 2 + (time.monotonic() - begun) / 0.25
        service.parts.live._changes.add((f"{run_name}/many{i}", False) for i in range(KEPT_MAX + 1))
        service.report(run_name, {"step": 1, "scalars": {"loss": 1.0}})
        assert stream.event() == ("changed", {"runs": [], "deleted": [], "resync": True})


def test_streams_are_bounded_and_whoever_left_is_forgotten(start_service: StartService) -> None:
    service = start_service(live_clients_max=2)
    with ExitStack() as stack:
        boots = {said_hello(stack.enter_context(listening(service))) for _ in range(2)}
        assert len(boots) == 1
        refused = service.get("/live")
        assert (refused.status, refused.json()["code"]) == (503, "too_busy")
        assert refused.headers["retry-after"] == "30"
        assert "TALLYBOARD_LIVE_CLIENTS_MAX" in refused.json()["detail"]
        assert service.parts.live.stats()["live_clients"] == 2
        assert "tallyboard_live_clients 2" in service.request("GET", "/metrics").body.decode()
    assert until(lambda: service.parts.live.listeners == 0)
    with listening(service) as stream:
        said_hello(stream)


def test_streams_do_not_count_as_requests_in_flight(start_service: StartService) -> None:
    service = start_service(requests_in_flight_max=2)
    with ExitStack() as stack:
        for _ in range(10):
            said_hello(stack.enter_context(listening(service)))
        assert service.parts.traffic.in_flight == 0
        assert service.get("/runs").status == 200
    assert until(lambda: service.parts.live.listeners == 0)
    assert service.parts.traffic.in_flight == 0


def test_a_reader_that_does_not_read_holds_up_nobody(service: RunningService, run_name: str) -> None:
    with listening(service), listening(service) as reading:
        said_hello(reading)
        for i in range(20):
            assert service.report(f"{run_name}/{'long' * 40}/{i}", {"step": 1, "scalars": {"loss": 1.0}}).status == 200
        heard: set[str] = set()
        while len(heard) < 20:
            heard.update(reading.event()[1]["runs"])
    assert heard == {f"{run_name}/{'long' * 40}/{i}" for i in range(20)}


def test_the_service_stops_at_once_with_streams_open(start_service: StartService) -> None:
    first = start_service()
    settings = Settings(data_dir=first.parts.settings.data_dir / "second", port=0)
    with ExitStack() as stack:
        with serving(settings) as service:
            streams = [stack.enter_context(listening(service)) for _ in range(5)]
            boots = {said_hello(stream) for stream in streams}
            assert boots != {first.parts.live.boot}
            began = time.monotonic()
        assert time.monotonic() - began < 3.0
        assert [stream.event() for stream in streams] == [("", None)] * 5


def test_a_misspelt_parameter_is_refused(service: RunningService) -> None:
    refused = service.get("/live?projekt=a")
    assert (refused.status, refused.json()["code"], refused.json()["field"]) == (422, "invalid_query", "projekt")
