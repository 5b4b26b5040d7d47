"""A server of the S3 protocol (moto's) on loopback, with a bucket, and faults in front of it."""

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

BUCKET = "event-files"
KEY, SECRET = "AKIATALLYBOARDTEST00", "t0p-s3cret-t0p-s3cret"  # pragma: allowlist secret


@dataclass
class Faulty:
    """WSGI in front of the server: answers by itself while `status` is set (only: what has that in its query), and lets
    requests wait until `hold` is set. seen: method and path of each."""

    app: Any
    status: int | None = None
    only: str = ""
    code: str = "InternalError"
    hold: threading.Event | None = None
    seen: list[tuple[str, str]] = field(default_factory=list)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        self.seen.append((environ["REQUEST_METHOD"], f"{environ['PATH_INFO']}?{environ['QUERY_STRING']}"))
        if self.hold is not None:
            self.hold.wait(30)
        if self.status is not None and self.only in environ["QUERY_STRING"]:
            body = f"<Error><Code>{self.code}</Code><Message>made up</Message></Error>".encode()
            start_response(f"{self.status} made up", [("Content-Type", "text/xml"), ("Content-Length", str(len(body)))])
            return [body]
        answer: Iterable[bytes] = self.app(environ, start_response)
        return answer


@dataclass
class S3:
    """Where it is, and what is in it."""

    endpoint: str
    faults: Faulty
    client: Any

    @property
    def environment(self) -> dict[str, str]:
        """What makes clients talk to it: the service, TensorBoard with boto3, TensorBoard with s3fs."""
        return {
            "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint, "S3_ENDPOINT": self.endpoint,
            "FSSPEC_S3": json.dumps({"use_listings_cache": False}),
        }  # fmt: skip

    def keys(self, prefix: str = "") -> list[str]:
        """The keys in the bucket, sorted."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return sorted(entry["Key"] for page in pages for entry in page.get("Contents", ()))


@contextmanager
def s3_server() -> Iterator[S3]:
    """One that is empty but for its bucket."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        inner: Any = server._server
        inner.RequestHandlerClass.log_request = lambda *_: None
        faults = inner.app = Faulty(inner.app)
        endpoint = f"http://{host}:{port}"
        client = boto3.client(
            "s3", endpoint_url=endpoint, aws_access_key_id=KEY, aws_secret_access_key=SECRET, region_name="us-east-1"
        )
        client.create_bucket(Bucket=BUCKET)
        yield S3(endpoint, faults, client)
    finally:
        server.stop()


def without_boto3(directory: Path) -> dict[str, str]:
    """An environment in which boto3 can't be imported, so that TensorBoard takes to fsspec."""
    directory.mkdir(exist_ok=True)
    (directory / "boto3.py").write_text('raise ImportError("as if it were not installed")\n', encoding="utf-8")
    return {"PYTHONPATH": str(directory)}
