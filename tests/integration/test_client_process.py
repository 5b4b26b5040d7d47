"""How runs end with their process: each test is a script of its own against a real service."""

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.client_script import LIMIT_S, Script
from tests.service import RunningService


@pytest.fixture
def script(tmp_path: Path, service: RunningService, run_name: str) -> Script:
    return Script(tmp_path / "train.py", {"TALLYBOARD_URL": service.url, "TALLYBOARD_RUN": run_name})


def status(service: RunningService, run: str) -> str:
    return str(service.get(f"/runs/{run}").json()["status"])


def test_a_script_that_just_ends_has_sent_everything(script: Script, service: RunningService, run_name: str) -> None:
    done = script.run("""
        import tallyboard
        run = tallyboard.init()
        for step in range(1000):
            run.log({"loss": 1.0 / (step + 1)}, step)
    """)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.splitlines() == [
        f"tallyboard: run {run_name} · {service.url}/?run={run_name}",
        f"tallyboard: run {run_name}: 1,000 reports sent, 0 refused, 0 dropped · {service.url}/?run={run_name}",
    ]
    assert len(service.points(run_name, "loss")) == 1000
    assert status(service, run_name) == "finished"


def test_an_exception_that_nobody_catches_fails_the_run(script: Script, service: RunningService, run_name: str) -> None:
    done = script.run("""
        import sys, tallyboard
        seen = []
        sys.excepthook = lambda *args: (seen.append(1), sys.__excepthook__(*args))
        run = tallyboard.init()
        run.log({"loss": 1.0})
        raise RuntimeError("CUDA out of memory")
    """)
    assert done.returncode == 1
    assert "RuntimeError: CUDA out of memory" in done.stderr
    told = service.get(f"/runs/{run_name}").json()
    assert told["status"] == "failed"
    assert told["summary"]["exception"].endswith("RuntimeError: CUDA out of memory")
    assert service.points(run_name, "loss") == [(1, 1.0)]


def test_ctrl_c_sends_what_there_is(script: Script, service: RunningService, run_name: str) -> None:
    script.path.write_text(
        textwrap.dedent("""
        import time, tallyboard
        run = tallyboard.init()
        run.log({"loss": 1.0})
        print("training", flush=True)
        time.sleep(60)
    """)
    )
    process = subprocess.Popen(
        [sys.executable, str(script.path)], env=script.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"training\n"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=LIMIT_S)
    assert status(service, run_name) == "failed"
    assert service.points(run_name, "loss") == [(1, 1.0)]


def test_a_forked_child_neither_hangs_nor_sends(script: Script, service: RunningService, run_name: str) -> None:
    done = script.run("""
        import os, sys, threading, tallyboard
        run = tallyboard.init()
        stop = threading.Event()
        def busy():  # holds the recorder's lock as often as it can while forks happen
            step = 0
            while not stop.is_set():
                run.log({"busy": 1.0}, step, counter="busy")
                step += 1
        thread = threading.Thread(target=busy)
        thread.start()
        for i in range(5):
            run.log({"loss": float(i)}, i)
            child = os.fork()
            if child == 0:
                run.log({"loss": -1.0}, 100 + i)
                run.counter("other").increment()
                run.summary["child"] = True
                run.flush()
                run.finish()
                sys.exit(0)
            assert os.waitpid(child, 0)[1] == 0
        stop.set()
        thread.join()
    """)
    assert done.returncode == 0, done.stderr
    assert service.points(run_name, "loss") == [(i, float(i)) for i in range(5)]
    told = service.get(f"/runs/{run_name}").json()
    assert (told["status"], told["summary"]) == ("finished", {})
    assert "forked" in done.stderr


def test_workers_of_a_pool_may_have_runs_of_their_own(script: Script, service: RunningService, run_name: str) -> None:
    done = script.run("""
        import multiprocessing, os, tallyboard
        def work(i):
            with tallyboard.init(f"{os.environ['TALLYBOARD_RUN']}/worker{i}") as run:
                run.log({"loss": float(i)})
            return run.stats().accepted
        if __name__ == "__main__":
            run = tallyboard.init()
            with multiprocessing.get_context("fork").Pool(2) as pool:
                assert pool.map(work, range(3)) == [1, 1, 1]
            run.log({"loss": 9.0})
    """)
    assert done.returncode == 0, done.stderr
    assert service.points(run_name, "loss") == [(1, 9.0)]
    for i in range(3):
        assert service.points(f"{run_name}/worker{i}", "loss") == [(1, float(i))]


def test_a_child_forked_while_the_sender_warns_may_write_to_stderr(script: Script) -> None:
    done = script.run(
        """
        import os, sys, threading, time, tallyboard
        from tallyboard import notices
        reader, writer = os.pipe()
        run = tallyboard.init()
        shown, sys.stderr = sys.stderr, os.fdopen(writer, "w", buffering=1)
        sender = threading.Thread(target=notices.Notices().warn, args=("x" * 200_000,))
        sender.start()
        time.sleep(0.2)  # it has filled the pipe, and waits in the middle of its line
        def read():
            time.sleep(0.2)
            while os.read(reader, 65536):
                pass
        threading.Thread(target=read, daemon=True).start()
        child = os.fork()
        if child == 0:
            print("from the child", file=sys.stderr)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        sender.join()
        sys.stderr = shown
        """,
        TALLYBOARD_MODE="offline",
    )
    assert done.returncode == 0, done.stderr


def test_no_thread_of_its_own_imports_anything(script: Script, service: RunningService, run_name: str) -> None:
    code = """
        import sys, threading
        class Finder:
            def find_spec(self, name, path=None, target=None):
                if threading.current_thread() is not threading.main_thread():
                    print(name)
        sys.meta_path.insert(0, Finder())
        import tallyboard
        run = tallyboard.init(exit_timeout_s=1.0)
        for step in range(5):
            run.log({"loss": 1.0}, step)
            run.flush(timeout_s=0.5)
    """
    for url in (service.url, "http://127.0.0.1:9"):
        done = script.run(code, TALLYBOARD_URL=url, TALLYBOARD_SPOOL_DIR=str(script.path.parent / "spool"))
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert len(service.points(run_name, "loss")) == 5


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_worker_process_that_just_ends_has_sent_everything(
    script: Script, service: RunningService, run_name: str, method: str
) -> None:
    done = script.run(f"""
        import multiprocessing, tallyboard
        def work():
            run = tallyboard.init()
            for _ in range(100):
                run.log({{"loss": 1.0}})
        if __name__ == "__main__":
            process = multiprocessing.get_context("{method}").Process(target=work)
            process.start()
            process.join()
    """)
    assert done.returncode == 0, done.stderr
    assert "100 reports sent" in done.stderr
    assert len(service.points(run_name, "loss")) == 100
    assert status(service, run_name) == "finished"


def test_ranks_but_the_first_report_nothing_and_count_alike(
    script: Script, service: RunningService, run_name: str
) -> None:
    code = """
        import tallyboard
        run = tallyboard.init()
        step = run.counter(total=10)
        while step.value < step.total:
            step.increment()
            run.log({"loss": 1.0})
            if step.every(5):
                print(step.value)
        run.flush()
    """
    third = script.run(code, RANK="3")
    assert third.returncode == 0, third.stderr
    assert third.stderr == ("tallyboard: rank 3 reports nothing; ranks='all' would give it a run of its own\n")
    assert service.get(f"/runs/{run_name}").status == 404
    first = script.run(code, RANK="0")
    assert first.stdout == third.stdout == "1\n6\n"
    assert len(service.points(run_name, "loss")) == 10


def test_all_ranks_may_report_to_runs_of_their_own(script: Script, service: RunningService, run_name: str) -> None:
    code = """
        import tallyboard
        tallyboard.init(ranks="all").log({"loss": 1.0})
    """
    for rank in ("0", "7"):
        assert script.run(code, RANK=rank).returncode == 0
    assert service.points(f"{run_name}/rank00", "loss") == service.points(f"{run_name}/rank07", "loss") == [(1, 1.0)]


def test_the_end_is_bounded_when_the_service_hangs(script: Script) -> None:
    with Mute() as mute:
        began = time.monotonic()
        done = script.run(
            """
            import tallyboard
            from tallyboard import start
            start.OPEN_TIMEOUT_S = 0.5
            run = tallyboard.init(exit_timeout_s=1.0)
            run.log({"loss": 1.0})
            """,
            TALLYBOARD_URL=mute.url,
        )
        took_s = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    assert "1 reports kept on disk" in done.stderr
    assert took_s < LIMIT_S / 2  # neither the 30 s of a request, nor for ever


class Mute:
    """Takes connections and never says a word."""

    def __enter__(self) -> "Mute":
        import socket

        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(8)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()


def test_logging_set_up_by_the_program_gets_the_notices_once(script: Script, run_name: str) -> None:
    done = script.run("""
        import logging, tallyboard
        logging.basicConfig(format="LOG %(name)s %(message)s")
        with tallyboard.init() as run:
            run.log({"loss": "bad"})
    """)
    lines = [line for line in done.stderr.splitlines() if "tallyboard" in line]
    assert len(lines) == 3
    assert all(line.startswith("LOG tallyboard ") for line in lines)


def test_strict_comes_from_the_environment(script: Script) -> None:
    done = script.run(
        """
        import tallyboard
        run = tallyboard.init()
        run.log({"loss": 1.0}, 2)
        run.log({"loss": 1.0}, 1)
        """,
        TALLYBOARD_STRICT="1",
    )
    assert done.returncode == 1
    assert "StepDecreasedError" in done.stderr
    assert 'run.log({"loss": 1.0}, 1)' in done.stderr


def test_disabled_needs_no_service(script: Script) -> None:
    done = script.run(
        """
        import sys, tallyboard
        with tallyboard.init(config={"lr": 0.1}) as run:
            run.log({"loss": 1.0})
            assert run.config["lr"] == 0.1 and run.counter().value == 1
        assert "urllib3" not in sys.modules
        """,
        TALLYBOARD_MODE="disabled", TALLYBOARD_URL="http://127.0.0.1:9",
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
