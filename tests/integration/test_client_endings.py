"""How jobs end before their time, or begin without a service: each is a script of its own against a real one."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import urllib3

import tallyboard
from tests.cli_process import served
from tests.client_script import LIMIT_S, Script
from tests.faults.proxy import proxied
from tests.service import RunningService

NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def script(tmp_path: Path, service: RunningService, run_name: str, spool: Path) -> Script:
    environ = {"TALLYBOARD_URL": service.url, "TALLYBOARD_RUN": run_name, "TALLYBOARD_SPOOL_DIR": str(spool)}
    return Script(tmp_path / "train.py", environ)


def told(service: RunningService, run: str) -> tuple[str, dict[str, str]]:
    answer = service.get(f"/runs/{run}").json()
    return str(answer["status"]), answer["summary"]


TRAINING = """
    import time, tallyboard
    run = tallyboard.init()
    for step in range(100):
        run.log({"loss": float(step)}, step)
    print("training", flush=True)
    time.sleep(60)
"""


# ── signals and exits ────────────────────────────────────────────────────────────────────────────────────────────


def test_sigterm_sends_what_there_is_and_then_ends_the_process(
    script: Script, service: RunningService, run_name: str
) -> None:
    with script.started(TRAINING) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == -signal.SIGTERM
    assert len(service.points(run_name, "loss")) == 100
    status, summary = told(service, run_name)
    assert status == "running"
    assert summary["preempted"].startswith("SIGTERM on ")


def test_sigterm_without_a_service_keeps_everything_on_disk(script: Script, spool: Path) -> None:
    with script.started(TRAINING.replace("init()", "init(exit_timeout_s=1.0)"), TALLYBOARD_URL=NOBODY) as process:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=LIMIT_S)
        assert process.returncode == -signal.SIGTERM
    assert "100 reports kept on disk; send them with: tallyboard sync" in errors
    assert len(list(spool.rglob("*.seg"))) == 1


def test_a_handler_of_the_programs_own_stays_and_may_hand_over(
    script: Script, service: RunningService, run_name: str
) -> None:
    before = script.run("""
        import os, signal, sys, tallyboard
        signal.signal(signal.SIGTERM, lambda *_: print("mine"))
        run = tallyboard.init()
        os.kill(os.getpid(), signal.SIGTERM)
        run.log({"loss": 1.0})
    """)
    assert (before.returncode, before.stdout) == (0, "mine\n")
    after = script.run("""
        import os, signal, sys, tallyboard
        run = tallyboard.init(os.environ["TALLYBOARD_RUN"] + "/chained")
        run.log({"loss": 1.0})
        previous = signal.getsignal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, lambda *args: (print("mine too", flush=True), previous(*args)))
        os.kill(os.getpid(), signal.SIGTERM)
        print("not reached")
    """)
    assert (after.returncode, after.stdout) == (-signal.SIGTERM, "mine too\n")
    assert told(service, run_name)[0] == "finished"
    assert told(service, f"{run_name}/chained")[0] == "running"
    assert service.points(f"{run_name}/chained", "loss") == [(1, 1.0)]


def test_sigterm_while_the_run_is_being_finished_loses_nothing(script: Script, spool: Path) -> None:
    with script.started(
        """
        import tallyboard
        run = tallyboard.init(exit_timeout_s=30.0)
        run.log({"loss": 1.0})
        print("finishing", flush=True)
        run.finish()
        """,
        TALLYBOARD_URL=NOBODY,
    ) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == -signal.SIGTERM
    assert len(list(spool.rglob("*.seg"))) == 1


SIGNAL_BESIDE_MAIN = """
    import signal, threading, tallyboard
    run = tallyboard.init()
    run.log({"loss": 1.0})
    {finish}
    def beside():  # what a signal is that comes just before the main thread begins to wait: it does not end the wait
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    threading.Timer(0.3, beside).start()
    released_by_nobody = threading.Lock()
    released_by_nobody.acquire()
    released_by_nobody.acquire()
"""


@pytest.mark.parametrize(("finish", "status"), [("", "running"), ("run.finish()", "finished")])
def test_a_signal_that_the_main_thread_would_sleep_through_is_obeyed(
    script: Script, service: RunningService, run_name: str, finish: str, status: str
) -> None:
    done = script.run(SIGNAL_BESIDE_MAIN.replace("{finish}", finish))
    assert done.returncode == -signal.SIGTERM, done.stderr
    assert service.points(run_name, "loss") == [(1, 1.0)]
    assert told(service, run_name)[0] == status


def test_a_second_sigterm_does_not_cut_short_what_the_first_began(script: Script, spool: Path) -> None:
    with script.started(TRAINING, TALLYBOARD_URL=NOBODY) as process:
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)  # it is trying to send
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=LIMIT_S)
        assert process.returncode == -signal.SIGTERM
    assert "100 reports kept on disk" in errors


def test_so_is_one_to_a_worker_and_its_parent_hears_nothing_of_it(
    script: Script, service: RunningService, run_name: str
) -> None:
    work = textwrap.indent(textwrap.dedent(SIGNAL_BESIDE_MAIN.replace("{finish}", "")), " " * 4)
    done = script.run(f"""
import multiprocessing, os, time, tallyboard
def work():
    os.environ["TALLYBOARD_RUN"] += "/worker"
{work}
if __name__ == "__main__":
    run = tallyboard.init()
    worker = multiprocessing.get_context("fork").Process(target=work)
    worker.start()
    worker.join()
    time.sleep(1)  # longer than it takes to repeat a signal
    run.log({{"loss": 2.0}})
    print(worker.exitcode)
""")
    assert (done.returncode, done.stdout.strip()) == (0, str(-signal.SIGTERM)), done.stderr
    assert service.points(run_name, "loss") == [(1, 2.0)]
    assert service.points(f"{run_name}/worker", "loss") == [(1, 1.0)]


def test_forked_workers_die_of_sigterm_as_ever(script: Script, service: RunningService, run_name: str) -> None:
    done = script.run("""
        import os, signal, time, tallyboard
        run = tallyboard.init()
        run.log({"loss": 1.0})
        child = os.fork()
        if child == 0:
            time.sleep(60)
        os.kill(child, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
        run.log({"loss": 2.0})
    """)
    assert done.returncode == 0, done.stderr
    assert service.points(run_name, "loss") == [(1, 1.0), (2, 2.0)]
    assert told(service, run_name) == ("finished", {})


@pytest.mark.parametrize(
    ("leave", "status", "why"),
    [
        ("sys.exit(3)", "failed", "SystemExit: 3"),
        ("sys.exit('no data')", "failed", "SystemExit: no data"),
        ("sys.exit(0)", "finished", None),
        ("sys.exit()", "finished", None),
        ("import threading; t = threading.Thread(target=sys.exit, args=(1,)); t.start(); t.join()", "finished", None),
        ("\ntry: sys.exit(2)\nexcept SystemExit: run.log({'loss': 2.0})", "finished", None),
    ],
)
def test_how_the_process_exits_is_how_the_run_ended(
    script: Script, service: RunningService, run_name: str, leave: str, status: str, why: str | None
) -> None:
    script.run(f"import sys, tallyboard\nrun = tallyboard.init()\nrun.log({{'loss': 1.0}})\n{leave}")
    assert told(service, run_name) == (status, {} if why is None else {"exception": why})


def test_a_job_stopped_in_the_middle_of_its_end_ends_as_if_it_had_not_been(
    script: Script, service: RunningService, run_name: str
) -> None:
    with proxied(service.port, faults=()) as proxy:
        proxy.cut()
        with script.started(
            """
            import tallyboard
            run = tallyboard.init(exit_timeout_s=3.0)
            run.log({"loss": 1.0})
            print("ending", flush=True)
            run.finish()
            """,
            TALLYBOARD_URL=proxy.url,
        ) as process:
            time.sleep(0.5)
            process.send_signal(signal.SIGSTOP)
            time.sleep(4.0)  # longer than finish may take
            proxy.mend()
            process.send_signal(signal.SIGCONT)
            _, errors = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0
    assert "1 reports sent, 0 refused, 0 dropped" in errors
    assert "kept on disk" not in errors
    assert service.points(run_name, "loss") == [(1, 1.0)]


# ── without a service ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_job_needs_no_service_and_the_line_it_prints_sends_everything_later(
    script: Script, service: RunningService, run_name: str, spool: Path
) -> None:
    done = script.run(
        """
        import tallyboard
        run = tallyboard.init(config={"lr": 0.1}, exit_timeout_s=0.5)
        for step in range(1000):
            run.log({"loss": float(step)}, step)
        run.rewind({"global_step": 500})
        run.log({"loss": -1.0}, 500)
        """,
        TALLYBOARD_URL=NOBODY,
    )
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "tallyboard sync" in line]
    folder = line.rpartition("tallyboard sync ")[2]
    synced = subprocess.run(
        [sys.executable, "-m", "tallyboard", "sync", folder, "--url", service.url],
        capture_output=True, text=True, timeout=LIMIT_S, check=False, env=script.environ,
    )  # fmt: skip
    assert (synced.returncode, synced.stderr) == (0, "")
    assert synced.stdout == f"{run_name}: sent: 1,001 reports sent, checked and removed here\n"
    assert service.points(run_name, "loss") == [(i, float(i)) for i in range(500)] + [(500, -1.0)]
    assert service.get(f"/runs/{run_name}").json()["config"] == {"lr": 0.1}
    assert told(service, run_name)[0] == "finished"
    assert list(spool.iterdir()) == []


def test_names_that_are_taken_meanwhile_settle_when_it_is_sent(
    script: Script, service: RunningService, run_name: str
) -> None:
    code = """
        import tallyboard
        with tallyboard.init() as run:
            run.log({"loss": 1.0})
    """
    for _ in range(2):
        assert script.run(code, TALLYBOARD_MODE="offline").returncode == 0
    assert script.run(code).returncode == 0
    results = tallyboard.sync(script.environ["TALLYBOARD_SPOOL_DIR"], url=service.url)
    assert [(result.run, result.done) for result in results] == [(f"{run_name}-2", True), (f"{run_name}-3", True)]
    assert [service.points(f"{run_name}{suffix}", "loss") for suffix in ("", "-2", "-3")] == [[(1, 1.0)]] * 3


def test_a_later_serve_on_this_machine_takes_it_in(script: Script, run_name: str, tmp_path: Path, spool: Path) -> None:
    code = """
        import tallyboard
        with tallyboard.init(exit_timeout_s=0.1) as run:
            run.log({"loss": 1.0})
    """
    assert (
        script.run(code, TALLYBOARD_URL="", TALLYBOARD_RUN=f"{run_name}/a", TALLYBOARD_MODE="offline").returncode == 0
    )
    assert script.run(code, TALLYBOARD_URL=NOBODY, TALLYBOARD_RUN=f"{run_name}/b").returncode == 0
    with served(tmp_path, "--host", "0.0.0.0", TALLYBOARD_SPOOL_DIR=str(spool)) as service:  # which needs a token
        assert urllib3.request("GET", f"{service.url}/api/v1/runs").status == 401
        (token,) = re.findall(r"^  token +(tb_\S+)$", (tmp_path / "serve.log").read_text(), re.MULTILINE)
        taken_in = wait_for_points(service.url, f"{run_name}/a", token)
    assert taken_in == 1
    assert "taken in from this machine's spool" in (tmp_path / "serve.log").read_text()
    assert len([path for path in spool.iterdir() if (path / "stream.json").exists()]) == 1  # meant for another service


def wait_for_points(url: str, run: str, token: str) -> int:
    """How many points the run's loss has once it has any."""
    for _ in range(200):
        answer = urllib3.request(
            "GET",
            f"{url}/api/v1/scalars?run={run}&tag=loss",
            headers={"Authorization": f"Bearer {token}"},
            retries=False,
        )
        series = answer.json().get("series", [])
        if series:
            return int(series[0]["count"])
        time.sleep(0.05)
    raise AssertionError("nothing was taken in")


def test_a_forked_child_does_not_keep_the_parents_spool_locked(script: Script, service: RunningService) -> None:
    done = script.run(
        """
        import os, signal, time, tallyboard
        run = tallyboard.init(exit_timeout_s=0.1)
        run.log({"loss": 1.0})
        time.sleep(3)  # until it went to disk
        child = os.fork()
        if child == 0:
            os.close(1), os.close(2)  # so that nobody waits for its output
            signal.pause()
        print(child, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        TALLYBOARD_URL=NOBODY,
    )
    child = int(done.stdout)
    try:
        (result,) = tallyboard.sync(script.environ["TALLYBOARD_SPOOL_DIR"], url=service.url)
    finally:
        os.kill(child, signal.SIGKILL)
    assert (result.state, result.reports) == ("sent", 1)
