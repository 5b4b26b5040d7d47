"""The service's settings: read once from TALLYBOARD_* and the command line into one frozen object.

Nothing below `app` reads the environment.
"""

import ipaddress
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from tallyboard.wire.limits import BODY_BYTES_MAX, MIB
from tallyboard_server.notify.webhook import check_url

LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
"""What a Host header may say, without its port, while the service listens on loopback only."""

_PORT_MAX: Final = 2**16 - 1


class Settings(BaseSettings):
    """What can be set. Each field is the variable TALLYBOARD_<FIELD>; arguments win over the environment."""

    model_config = SettingsConfigDict(env_prefix="TALLYBOARD_", frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(6007, ge=0, le=_PORT_MAX, description="Port to listen on; 0 takes a free one.")
    data_dir: Path = Field(Path("tallyboard-data"), description="Where the store lives; one process owns it.")
    logdir: Path | None = Field(None, description="Where event files go; <data_dir>/logdir if absent.")
    token: SecretStr | None = Field(None, description="An admin's token, beside those that the service makes.")
    insecure: bool = Field(False, description="Be open to anybody off loopback, too, until a token is made.")
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Public names of the service, comma-separated; checked against Host and Origin.",
    )
    budget_bytes_max: int = Field(
        128 * MIB, ge=2 * BODY_BYTES_MAX, description="Bytes of request bodies held at once; beyond it 503."
    )
    requests_in_flight_max: int = Field(1024, ge=1, description="Requests served at once; beyond it 503.")
    body_timeout_s: float = Field(30.0, gt=0, description="Time a body may take to arrive; beyond it 408.")
    lost_after_s: float = Field(
        300.0, gt=0, description="A running run is shown as lost when its producers were silent for so long."
    )
    export_interval_s: float = Field(
        1.0, gt=0, description="Event files grow at most this often, so that many small reports are written together."
    )
    export_sync_interval_s: float = Field(5.0, gt=0, description="How often event files are synced to disk.")
    export_backlog_bytes_max: int = Field(
        512 * MIB, ge=16 * MIB, description="How far event files may lag behind before reports are answered by 503."
    )
    points_per_answer_max: int = Field(
        250_000, ge=1, description="Most points in one answer of GET /scalars; about 25 MB of JSON."
    )
    take_in_spools: bool = Field(
        True, description="Once up, take in what this user's jobs left on this machine's disk while no service ran."
    )
    tensorboard: bool = Field(True, description="Show TensorBoard itself below /tensorboard/.")
    watchdogs: bool = Field(True, description="Watch runs, and raise an alert when one needs somebody.")
    webhook_url: SecretStr | None = Field(
        None, description="Where alerts of all projects are sent, but of those that have a webhook of their own."
    )
    webhook_format: Literal["json", "slack"] = Field("json", description="How they look there.")
    public_url: str | None = Field(None, description="Where people reach the dashboard, for links in notices.")
    live_clients_max: int = Field(100, ge=1, description="Streams of GET /live open at once; beyond it 503.")
    chart_reads_at_once_max: int = Field(4, ge=1, description="Answers of GET /scalars made at the same time.")

    retention_superseded_days: float | None = Field(
        None, ge=0, description="Superseded points go when nothing was heard of a run for so many days."
    )
    retention_thin_days: float | None = Field(
        None,
        ge=0,
        description="Long curves are thinned when nothing was heard of a run for so many days.",
    )
    retention_thin_points: int = Field(10_000, ge=100, description="To about how many points a tag they are thinned.")
    retention_runs_days: float | None = Field(
        None, ge=0, description="Runs are deleted when nothing was heard of them for so many days."
    )

    @field_validator("token")
    @classmethod
    def _token_fits_a_header(cls, token: SecretStr | None) -> SecretStr | None:
        if token is None or not token.get_secret_value():
            return None
        text = token.get_secret_value()
        if not text.isascii() or not text.isprintable() or " " in text:
            raise ValueError("a token travels in a header: printable ASCII without spaces")
        return token

    @field_validator("webhook_url")
    @classmethod
    def _webhook_can_be_asked(cls, url: SecretStr | None) -> SecretStr | None:
        if url is None or not url.get_secret_value():
            return None
        check_url(url.get_secret_value())
        return url

    @field_validator("public_url")
    @classmethod
    def _public_url_can_be_followed(cls, url: str | None) -> str | None:
        return check_url(url) if url else None

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split_at_commas(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip().lower() for part in value.split(",") if part.strip())
        return value

    @property
    def event_file_dir(self) -> Path:
        """The logdir that `tensorboard --logdir` is pointed at."""
        return self.logdir or self.data_dir / "logdir"

    @property
    def token_text(self) -> str | None:
        """The token in the clear, for comparing; never log it."""
        return None if self.token is None else self.token.get_secret_value()

    @property
    def webhook_text(self) -> str | None:
        """The webhook's URL in the clear; never log it."""
        return None if self.webhook_url is None else self.webhook_url.get_secret_value()

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can connect."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
