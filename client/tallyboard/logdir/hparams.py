"""The hyperparameters that TensorBoard's HParams plugin keeps in an event file, as a run's config."""

import math
from typing import Any, Final

from tallyboard.wire import protos, summaries
from tallyboard.wire.protos import Field, MalformedError

START_TAG: Final = "_hparams_/session_start_info"
_FIELDS_MAX: Final = 10_000


def read_config(metadata: bytes) -> dict[str, Any]:
    """The hyperparameters in a serialised SummaryMetadata of START_TAG. Raises MalformedError."""
    config: dict[str, Any] = {}
    for plugin in _within(memoryview(metadata), 1, "the metadata"):
        for content in _within(plugin.data, 2, "plugin_data"):
            for start in _within(content.data, 3, "the hyperparameters"):
                for entry in _within(start.data, 1, "the session start"):
                    name, value = _entry(entry.data)
                    config[name] = value
    return config


def has_config(metadata: bytes, tag: str) -> bool:
    """Whether a value's metadata can hold hyperparameters."""
    return tag == START_TAG and summaries.read_metadata(metadata).plugin == summaries.HPARAMS


def _entry(entry: memoryview) -> tuple[str, Any]:
    name, value = "", None
    for field in protos.read_fields(entry, "a hyperparameter", fields_max=_FIELDS_MAX):
        if field.number == 1:
            name = protos.text(field, "a hyperparameter's name")
        elif field.number == 2:
            value = _value(protos.expect(field, protos.SIZED, "a hyperparameter").data)
    return name, value


def _value(value: memoryview) -> Any:
    """A google.protobuf.Value; what JSON has no number for becomes text."""
    found: Any = None
    for field in protos.read_fields(value, "a hyperparameter", fields_max=_FIELDS_MAX):
        match field.number:
            case 2:
                number = protos.float64(field, "a hyperparameter")
                found = number if math.isfinite(number) else str(number)
            case 3:
                found = protos.text(field, "a hyperparameter")
            case 4:
                found = bool(protos.expect(field, protos.VARINT, "a hyperparameter").varint)
            case 5 | 6:
                raise MalformedError("a hyperparameter that is a list or an object")
    return found


def _within(message: memoryview, number: int, what: str) -> list[Field]:
    return [
        protos.expect(field, protos.SIZED, what)
        for field in protos.read_fields(message, what, fields_max=_FIELDS_MAX)
        if field.number == number
    ]
