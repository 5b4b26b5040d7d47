"""TLS: `serve` with a certificate, every client of ours against it, and what is said when it can't be trusted."""

import asyncio
import re
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import trustme

import tallyboard
from tallyboard_server.cli import main, server
from tallyboard_server.cli.tls import fingerprint
from tests.cli_process import TALLYBOARD, clean
from tests.cli_process import tallyboard as command
from tests.service import until


@dataclass
class Served:
    """A service with a certificate for localhost, and the file of the authority that made it."""

    url: str
    port: int
    ca_file: str
    cert: Path
    log: Path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    made = authority.issue_cert("localhost")
    ca, cert, key = folder / "ca.pem", folder / "cert.pem", folder / "key.pem"
    authority.cert_pem.write_to_path(ca)
    key.write_bytes(made.private_key_pem.bytes())
    cert.write_bytes(b"".join(part.bytes() for part in made.cert_chain_pems))
    state = {"XDG_STATE_HOME": str(folder / "state"), "TALLYBOARD_MODE": "offline"}
    leave = "import tallyboard; r = tallyboard.init('left/behind'); r.log({'loss': 1.0}); r.finish()"
    subprocess.run([TALLYBOARD[0], "-c", leave], check=True, env=clean(state), timeout=60, capture_output=True)
    files = ("--tls-cert", str(cert), "--tls-key", str(key))
    arguments = ("serve", "--port", "0", "--data-dir", str(folder / "data"), *files)
    log = folder / "serve.log"
    with log.open("w") as errors, subprocess.Popen(
        [*TALLYBOARD, *arguments], stdout=subprocess.PIPE, stderr=errors, text=True,
        env=clean({"XDG_STATE_HOME": str(folder / "state")}),
    ) as process:  # fmt: skip
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1].replace("127.0.0.1", "localhost")
        yield Served(url, int(url.rpartition(":")[2]), str(ca), cert, log)
        process.terminate()
        assert process.wait(30) == 0


def test_it_says_where_and_speaks_nothing_older_than_1_2(served: Served) -> None:
    assert served.url.startswith("https://")
    context = ssl.create_default_context(cafile=served.ca_file)
    with (
        socket.create_connection(("localhost", served.port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        assert secure.version() in ("TLSv1.2", "TLSv1.3")
        secure.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = b""
        while piece := secure.recv(4096):
            answer += piece
    assert b"strict-transport-security: max-age=15552000\r\n" in answer.lower()
    assert answer.endswith(b"ok")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("localhost", served.port), timeout=10) as plain, pytest.raises(OSError):
        context.wrap_socket(plain, server_hostname="localhost")


def test_whoever_begins_no_handshake_is_given_up(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HANDSHAKE_TIMEOUT_S", 0.1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(served.cert, served.cert.with_name("key.pem"))

    async def until_closed() -> bytes:
        serving = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=context)
        async with serving, asyncio.timeout(10):
            reader, writer = await asyncio.open_connection(*serving.sockets[0].getsockname())
            try:
                return await reader.read()
            finally:
                writer.close()

    with asyncio.Runner(loop_factory=server.Loop) as runner:
        assert runner.run(until_closed()) == b""


def test_the_client_reports_reads_and_syncs(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tallyboard.init("tls/try1", url=served.url, ca_file=served.ca_file, spool_dir=tmp_path / "a", strict=True)
    for step in range(3):
        run.log({"loss": step / 2}, step=step)
    run.finish()
    found = tallyboard.read("tls/try1", url=served.url, ca_file=served.ca_file)
    assert np.asarray(found["value"]).tolist() == [0.0, 0.5, 1.0]
    offline = tallyboard.init("tls/try2", mode="offline", spool_dir=tmp_path / "b")
    offline.log({"loss": 1.0})
    offline.finish()
    monkeypatch.setenv("TALLYBOARD_CA_FILE", served.ca_file)
    (synced,) = tallyboard.sync(tmp_path / "b", url=served.url)
    assert synced.done


def test_the_command_line_and_curl_get_in(served: Served, tmp_path: Path) -> None:
    environment = {"TALLYBOARD_URL": served.url, "TALLYBOARD_CA_FILE": served.ca_file}
    shown = command("runs", "--columns", "status", service=None, **environment)
    assert shown.returncode == 0, shown.stderr
    folder = tmp_path / "logdir" / "one"
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        writer.add_scalar("loss", 0.5, 1)
    imported = command("import", str(tmp_path / "logdir"), "--project", "tls-imported", service=None, **environment)
    assert imported.returncode == 0, imported.stderr
    if shutil.which("curl") is None:
        pytest.skip("there is no curl here")
    asked = ["curl", "--silent", "--fail", "--cacert", served.ca_file, f"{served.url}/api/v1/runs"]
    said = subprocess.run(asked, check=True, capture_output=True, timeout=30).stdout
    assert b"tls-imported/one" in said


def test_it_takes_in_what_was_left_on_its_machine(served: Served) -> None:
    """Over TLS to itself, by its own certificate, which is for another name."""
    read = tallyboard.read

    def is_there() -> bool:
        try:
            return len(read("left/behind", url=served.url, ca_file=served.ca_file)["value"]) == 1
        except tallyboard.RunNotFoundError:
            return False

    assert until(is_there), served.log.read_text()


def test_an_untrusted_certificate_is_said_and_harms_nothing(served: Served, tmp_path: Path) -> None:
    said = command("runs", TALLYBOARD_URL=served.url)
    assert (said.returncode, said.stderr.count("\n")) == (3, 1)
    assert "its certificate is not trusted" in said.stderr
    assert "TALLYBOARD_CA_FILE" in said.stderr
    with pytest.raises(tallyboard.ReadError, match="TALLYBOARD_CA_FILE"):
        tallyboard.read("tls/*", url=served.url)
    script = (
        "import tallyboard; r = tallyboard.init('tls/unsent', exit_timeout_s=0.2); r.log({'loss': 1.0}); r.finish()"
    )
    environment = {"TALLYBOARD_URL": served.url, "XDG_STATE_HOME": str(tmp_path)}
    job = subprocess.run(
        [TALLYBOARD[0], "-c", script], capture_output=True, text=True, timeout=60, env=clean(environment)
    )
    assert job.returncode == 0
    assert "its certificate is not trusted" in job.stderr
    assert "TALLYBOARD_CA_FILE" in job.stderr
    (synced,) = tallyboard.sync(tmp_path / "tallyboard" / "spool", url=served.url, ca_file=served.ca_file)
    assert (synced.done, synced.reports) == (True, 1)  # it was kept


def test_another_certificate_than_the_one_named_is_refused(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallyboard.syncing.sync.FIRST_PATIENCE_S", 0.1)
    for index, (pin, state) in enumerate(((fingerprint(served.cert), "sent"), ("0" * 64, "away"))):
        offline = tallyboard.init(f"tls/pinned{index}", mode="offline", spool_dir=tmp_path / str(index))
        offline.log({"loss": 1.0})
        offline.finish()
        (synced,) = tallyboard.sync(tmp_path / str(index), url=served.url, fingerprint=pin)
        assert synced.state == state


@pytest.mark.parametrize(("content", "said"), [(None, "can't be read"), ("nothing", "holds no certificate")])
def test_a_file_of_authorities_that_is_none_is_said_at_once(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(tallyboard.ConfigurationError, match=f"TALLYBOARD_CA_FILE .*{said}"):
        tallyboard.init("a/b", url="https://localhost:1", ca_file=path)
    told = command("runs", TALLYBOARD_URL="https://localhost:1", TALLYBOARD_CA_FILE=str(path))
    assert (told.returncode, told.stderr.count("\n")) == (3, 1)
    assert said in told.stderr


def test_files_that_can_t_serve_are_said_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = trustme.CA().issue_cert("localhost"), trustme.CA().issue_cert("localhost")
    cert, key, wrong, junk = (tmp_path / name for name in ("cert.pem", "key.pem", "wrong.pem", "junk.pem"))
    one.cert_chain_pems[0].write_to_path(cert)
    one.private_key_pem.write_to_path(key)
    other.private_key_pem.write_to_path(wrong)
    junk.write_text("nothing")
    absent = tmp_path / "absent.pem"
    for options, said in (
        ((cert, None), "TLS takes both a certificate"), ((None, key), "TLS takes both"),
        ((absent, key), "--tls-cert: .*absent.pem can't be read: No such file"),
        ((cert, absent), "--tls-key: .*absent.pem can't be read"),
        ((cert, wrong), "is not the key of the certificate"),
        ((junk, key), "--tls-cert: .*holds no certificate in PEM"),
        ((cert, junk), "--tls-key: .*holds no private key in PEM"),
    ):  # fmt: skip
        given = [part for name, path in zip(("cert", "key"), options, strict=True) if path is not None
                 for part in (f"--tls-{name}", str(path))]  # fmt: skip
        monkeypatch.setattr(sys, "argv", ["tallyboard", "serve", "--data-dir", str(tmp_path / "data"), *given])
        with pytest.raises(SystemExit, match="1"):
            main()
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert re.search(said, error), error
        assert not (tmp_path / "data").exists()
