"""What the service logs: lines of text or of JSON, each with the id of the request that it belongs to."""

import json
import logging
import sys
import time
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final, Literal, TextIO

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

REQUEST_ID: Final[ContextVar[str]] = ContextVar("tallyboard_request_id", default="")
"""The id of the request that is being answered here, "" outside any. Threads that work for it have it, too."""
FIELDS: Final = "tallyboard_fields"
"""The attribute of a record that holds fields of its own for JSON: `extra={FIELDS: {…}}`."""

_NO_SUCH: Final = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))} | {
    0x2028: "\\u2028", 0x2029: "\\u2029",
}  # fmt: skip
"""What ends a line or commands a terminal, as it is written instead: nobody forges a line by what is logged of it."""


class TextFormatter(logging.Formatter):
    """One line a record; those of a traceback are indented below it."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """As logging's, with the request's id, and without control characters."""
        line = f"{self.formatTime(record)} {record.levelname} {record.name}: {escaped(record.getMessage())}"
        if request_id := REQUEST_ID.get():
            line += f" [{request_id}]"
        if (told := _exception(self, record)) is not None:
            line += "".join(f"\n    {escaped(part)}" for part in told.splitlines())
        return line


class JsonFormatter(logging.Formatter):
    """One object a line: time (RFC 3339, UTC), level, logger, message, and request_id, exception, own fields if any."""

    def format(self, record: logging.LogRecord) -> str:
        """A record as JSON, in ASCII."""
        whole, part = divmod(record.created, 1)
        said: dict[str, Any] = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{int(part * 1e6):06d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := REQUEST_ID.get():
            said["request_id"] = request_id
        if (told := _exception(self, record)) is not None:
            said["exception"] = told
        own: Mapping[str, Any] = getattr(record, FIELDS, {})
        return json.dumps(said | dict(own), default=str)


def configure(form: LogFormat = "text", level: LogLevel = "info", stream: TextIO | None = None) -> None:
    """Have everything logged to a stream (stderr) from a level on; for the whole process, in place of what was."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # TensorBoard tells at each look at its page how long every plugin took: a dozen lines that help nobody here.
    logging.getLogger("tensorboard").setLevel(logging.WARNING if level == "info" else logging.NOTSET)


def escaped(text: str) -> str:
    """Text on one line, with control characters written as \\x1b."""
    return text if text.isprintable() else text.translate(_NO_SUCH)


def _exception(formatter: logging.Formatter, record: logging.LogRecord) -> str | None:
    """The traceback of a record, if it has one."""
    if record.exc_info and record.exc_info[0] is not None:
        return formatter.formatException(record.exc_info)
    return record.exc_text or None
