"""Settings: where they come from, and which are refused."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from tallyboard_server.cli.serve import read_settings
from tallyboard_server.settings import Settings


def test_the_environment_is_read_and_arguments_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLYBOARD_PORT", "7001")
    monkeypatch.setenv("TALLYBOARD_DATA_DIR", "/srv/tally")
    monkeypatch.setenv("TALLYBOARD_ALLOWED_HOSTS", "Tally.Example, other ,,")
    monkeypatch.setenv("TALLYBOARD_TOKEN", "abc")
    monkeypatch.setenv("TALLYBOARD_URL", "http://elsewhere")  # the client's, not ours
    settings = Settings(port=7002)
    assert (settings.port, settings.data_dir) == (7002, Path("/srv/tally"))
    assert settings.event_file_dir == Path("/srv/tally/logdir")
    assert settings.allowed_hosts == ("tally.example", "other")
    assert settings.token_text == "abc"
    assert Settings(logdir=Path("/logs")).event_file_dir == Path("/logs")


def test_they_are_frozen_and_hide_the_token() -> None:
    settings = Settings(token="abc-secret")
    with pytest.raises(ValidationError):
        settings.port = 1  # type: ignore[misc]
    assert "abc-secret" not in f"{settings!r} {settings} {settings.model_dump()}"


@pytest.mark.parametrize("wrong", [
    {"port": -1}, {"port": 65536}, {"token": "with space"}, {"token": "tökén"}, {"token": "a\nb"},
    {"budget_bytes_max": 1}, {"body_timeout_s": 0}, {"prot": 1},
])  # fmt: skip
def test_what_can_t_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Settings(**wrong)  # type: ignore[arg-type]


def test_an_empty_token_is_none() -> None:
    assert Settings(token="").token is None


@pytest.mark.parametrize(("host", "loopback"), [
    ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
    ("", False), ("10.0.0.1", False), ("localhost.example", False), ("::ffff:10.0.0.1", False),
])  # fmt: skip
def test_what_is_loopback(host: str, loopback: bool) -> None:
    assert Settings(host=host).on_loopback is loopback


def test_what_is_secret_is_not_repeated_when_it_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert Settings.secrets() == {"token", "database_url", "webhook_url"}
    for field, value in (("database_url", "postgres:/u:geheim@db/name"), ("token", "geheim geheim")):
        with pytest.raises(SystemExit):
            read_settings({field: value})
        told = capsys.readouterr().err
        assert field in told
        assert "geheim" not in told
