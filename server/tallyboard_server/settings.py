"""The service's settings: read once from TALLYBOARD_* and the command line into one frozen object.

Nothing below `app` reads the environment.
"""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, InstanceOf, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from tallyboard.wire.limits import (
    ATTEMPTS_PER_COUNTER_MAX,
    BODY_BYTES_MAX,
    COUNTERS_PER_RUN_MAX,
    KIB,
    MIB,
    PRODUCERS_PER_RUN_MAX,
    TAGS_PER_RUN_MAX,
)
from tallyboard_server.logs import LogFormat, LogLevel
from tallyboard_server.notify.webhook import check_url
from tallyboard_server.objecturl import ObjectUrl, parse_logdir

LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
"""What a Host header may say, without its port, while the service listens on loopback only."""

WORKERS_MAX: Final = 64
_ROOT_PATH: Final = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*")
_PORT_MAX: Final = 2**16 - 1


def is_postgresql(url: str) -> bool:
    """Whether it is written as the URL of a PostgreSQL database."""
    return url.startswith(("postgresql://", "postgres://"))


def without_password(url: str) -> str:
    """A database's URL for people: without user, password and options."""
    parts = urlsplit(url)
    return f"{parts.scheme}:{'//' if '://' in url else ''}{parts.netloc.rpartition('@')[2]}{parts.path}"


def _logdir(value: object) -> object:
    """What may stand for a logdir: text, a path, or what it was parsed to."""
    return parse_logdir(value) if isinstance(value, str) else value


class Settings(BaseSettings):
    """What can be set. Each field is the variable TALLYBOARD_<FIELD>; arguments win over the environment."""

    model_config = SettingsConfigDict(env_prefix="TALLYBOARD_", frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(6007, ge=0, le=_PORT_MAX, description="Port to listen on; 0 takes a free one.")
    data_dir: Path = Field(
        Path("tallyboard-data"),
        description="Where the store lives, which one process owns; with DATABASE_URL what is only for a while.",
    )
    database_url: SecretStr | None = Field(
        None, description="postgresql://user:password@host:5432/name: the store is there, for many services at once."
    )
    workers: int = Field(
        1, ge=1, le=WORKERS_MAX,
        description="Processes that serve the port together, each as a service of its own; takes DATABASE_URL.",
    )  # fmt: skip
    logdir: Annotated[InstanceOf[Path] | InstanceOf[ObjectUrl] | None, BeforeValidator(_logdir)] = Field(
        None,
        description="Where event files go: a directory, or s3://bucket/prefix; <data_dir>/logdir if absent.",
    )
    token: SecretStr | None = Field(None, description="An admin's token, beside those that the service makes.")
    insecure: bool = Field(False, description="Be open to anybody off loopback, too, until a token is made.")
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Public names of the service, comma-separated; checked against Host and Origin.",
    )
    tls_cert: Path | None = Field(None, description="Certificate (chain) in PEM; with TLS_KEY, HTTPS is served.")
    tls_key: Path | None = Field(None, description="The certificate's private key in PEM, without a passphrase.")
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Addresses and networks, comma-separated, whose X-Forwarded-For, -Proto and -Host, and whose "
        "X-Request-Id, are believed.",
    )
    root_path: str = Field("", description="Path below which a proxy shows the service, /tallyboard, taken off or not.")
    log_format: LogFormat = Field("text", description="text, or json: one object a line.")
    log_level: LogLevel = Field("info", description="debug, info, warning or error.")
    access_log: bool = Field(False, description="Log a line for each request.")
    budget_bytes_max: int = Field(
        128 * MIB, ge=2 * BODY_BYTES_MAX, description="Bytes of request bodies held at once; beyond it 503."
    )
    requests_in_flight_max: int = Field(1024, ge=1, description="Requests served at once; beyond it 503.")
    body_timeout_s: float = Field(30.0, gt=0, description="Time a body may take to arrive; beyond it 408.")
    body_bytes_max: int = Field(
        BODY_BYTES_MAX, ge=8 * MIB, le=BODY_BYTES_MAX,
        description="Largest body, before and after decompression; beyond it 413. The Python client has up to 12 MiB.",
    )  # fmt: skip
    connections_max: int = Field(
        4096, ge=1, description="Connections open at once, as far as the system allows so many files; beyond it 503."
    )
    header_timeout_s: float = Field(
        10.0,
        gt=0,
        description="Time from a connection, or a request's first byte, to the end of its headers; then 408.",
    )
    header_bytes_max: int = Field(
        64 * KIB, ge=8 * KIB, description="Bytes of request line and headers together; beyond it 431."
    )
    idle_timeout_s: float = Field(
        75.0, gt=0,
        description="How long a connection stays open without a request; clients beat at least every 30 s.",
    )  # fmt: skip
    send_timeout_s: float = Field(
        60.0, gt=0, description="A client that takes nothing of its answer for so long is disconnected."
    )
    rate_per_token: float = Field(
        2000.0, ge=0,
        description="Requests a second of one token, or without tokens of one address; beyond it 429. 0: no limit.",
    )  # fmt: skip
    run_requests_at_once_max: int = Field(4, ge=1, description="Reports of one run worked on at once; others wait.")
    run_bytes_at_once_max: int = Field(
        MIB, ge=64 * KIB, description="Bytes of such reports; a larger one is worked on alone."
    )
    run_requests_waiting_max: int = Field(32, ge=1, description="Reports of one run that may wait; beyond it 503.")
    runs_per_project_max: int = Field(
        20_000, ge=1, description="Runs that a project (the first part of their names) may have; beyond it 409."
    )
    tags_per_run_max: int = Field(
        TAGS_PER_RUN_MAX, ge=1, le=TAGS_PER_RUN_MAX, description="Tags that a run may have; further ones are refused."
    )
    counters_per_run_max: int = Field(
        COUNTERS_PER_RUN_MAX, ge=1, le=COUNTERS_PER_RUN_MAX,
        description="Counters that a run may have, those of single tags apart; further ones are refused.",
    )  # fmt: skip
    attempts_per_counter_max: int = Field(
        ATTEMPTS_PER_COUNTER_MAX, ge=1, le=ATTEMPTS_PER_COUNTER_MAX,
        description="How often, but for once, a counter may be rewound; beyond it 409.",
    )  # fmt: skip
    producers_per_run_max: int = Field(
        PRODUCERS_PER_RUN_MAX, ge=1, le=PRODUCERS_PER_RUN_MAX,
        description="Producers that a run remembers; beyond it those who hold no counter are forgotten.",
    )  # fmt: skip
    lost_after_s: float = Field(
        300.0, gt=0, description="A running run is shown as lost when its producers were silent for so long."
    )
    export_interval_s: float = Field(
        1.0, gt=0, description="Event files grow at most this often, so that many small reports are written together."
    )
    export_sync_interval_s: float = Field(5.0, gt=0, description="How often event files are synced to disk.")
    segment_interval_s: float = Field(
        20.0, gt=0,
        description="In an object storage a run's event files grow by an object at most this often.",
    )  # fmt: skip
    segment_bytes: int = Field(
        MIB, ge=4 * KIB, description="With so many bytes of journal waiting, an object goes out sooner."
    )
    object_timeout_s: float = Field(
        20.0, gt=0, description="Time that S3 may take to answer a request; it is tried again then, and later."
    )
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

    @field_validator("database_url")
    @classmethod
    def _database_is_postgresql(cls, url: SecretStr | None) -> SecretStr | None:
        if url is None or not url.get_secret_value():
            return None
        if not is_postgresql(url.get_secret_value()):
            raise ValueError("a database's URL looks like postgresql://user:password@host:5432/name")
        return url

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

    @field_validator("allowed_hosts", "trusted_proxies", mode="before")
    @classmethod
    def _split_at_commas(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip().lower() for part in value.split(",") if part.strip())
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for text in networks:
            try:
                ipaddress.ip_network(text, strict=False)
            except ValueError as error:
                raise ValueError(f"{text!r} is no address or network such as 10.0.0.1 or 10.0.0.0/8") from error
        return networks

    @field_validator("root_path")
    @classmethod
    def _is_path(cls, path: str) -> str:
        trimmed = path.rstrip("/")
        if not _ROOT_PATH.fullmatch(trimmed):
            raise ValueError("a path such as /tallyboard: letters, digits, and -._~ between its slashes")
        return trimmed

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("TLS takes both a certificate (--tls-cert) and its key (--tls-key), or none of them")
        return self

    @model_validator(mode="after")
    def _one_process_owns_a_data_directory(self) -> Self:
        if self.workers > 1 and self.database_url is None:
            raise ValueError(
                f"{self.workers} workers need a store for many services (--database-url postgresql://…): one process "
                "owns the store in a data directory"
            )
        return self

    @classmethod
    def secrets(cls) -> frozenset[str]:
        """The fields that nobody is to be shown."""
        return frozenset(name for name, field in cls.model_fields.items() if "SecretStr" in str(field.annotation))

    @property
    def event_file_dir(self) -> Path | ObjectUrl:
        """The logdir that `tensorboard --logdir` is pointed at."""
        return self.logdir or self.data_dir / "logdir"

    @property
    def logdir_shown(self) -> str:
        """The same as text, for whoever is elsewhere."""
        where = self.event_file_dir
        return str(where.resolve() if isinstance(where, Path) else where)

    @property
    def token_text(self) -> str | None:
        """The token in the clear, for comparing; never log it."""
        return None if self.token is None else self.token.get_secret_value()

    @property
    def database_text(self) -> str | None:
        """The database's URL with its password; never log it."""
        return None if self.database_url is None else self.database_url.get_secret_value()

    @property
    def store_name(self) -> str:
        """Where the store is, for people: without the database's user and password."""
        if (url := self.database_text) is None:
            return str(self.data_dir)
        return without_password(url)

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
