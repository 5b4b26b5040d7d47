"""Config and summary: dictionaries of a run whose changes are sent, made of nothing but JSON."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, Final

_DEPTH_MAX: Final = 20
_INT64: Final = range(-(2**63), 2**63)


class Document(MutableMapping[str, Any]):
    """A dictionary whose changes are sent. Values are copied as JSON when they are set.

    fits: whether the service would take such a document (says so if not, and then the change is left out).
    send: hands on a change, as a merge patch (RFC 7396).
    """

    def __init__(self, fits: Callable[[dict[str, Any]], bool], send: Callable[[dict[str, Any]], None]) -> None:
        self._values: dict[str, Any] = {}
        self._fits = fits
        self._send = send

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def __delitem__(self, key: str) -> None:
        del self._values[key]
        self._send({key: None})

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._values!r})"

    def update(self, other: Any = (), /, **values: Any) -> None:
        """Set several at once, from a mapping, an argparse.Namespace or a dataclass, and keywords."""
        changes = as_document(other) | as_document(values)
        changed = self._values | changes
        if changes and self._fits(changed):
            before, self._values = self._values, changed
            self._send(merge_patch(before, changes))


class Config(Document):
    """Hyperparameters and settings of the run."""


class Summary(Document):
    """Results of the run: one value per name, the newest counts."""


def merge_patch(before: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The patch (RFC 7396) after which the keys of `changes` hold just what it says.

    There null removes a key; a None that is a value (`dropout=None`) travels as the text "None".
    """
    patch: dict[str, Any] = {}
    for key, value in changes.items():
        if isinstance(value, dict):
            held = before.get(key)
            old = held if isinstance(held, dict) else {}
            patch[key] = merge_patch(old, value) | {gone: None for gone in old if gone not in value}
        else:
            patch[key] = "None" if value is None else value
    return patch


def as_document(source: Any) -> dict[str, Any]:
    """A JSON object from a mapping, namespace or dataclass. Raises TypeError for anything else."""
    if isinstance(source, Mapping):
        fields: Mapping[Any, Any] = source
    elif dataclasses.is_dataclass(source) and not isinstance(source, type):
        fields = {field.name: getattr(source, field.name) for field in dataclasses.fields(source)}
    elif source == ():
        fields = {}
    else:
        try:
            fields = vars(source)
        except TypeError as error:
            raise TypeError(f"{type(source).__name__} is no mapping, namespace or dataclass") from error
    return {str(key): plain(value) for key, value in fields.items()}


def plain(value: Any, depth: int = 0) -> Any:
    """The value as JSON can hold it: numbers of numpy and torch as numbers, what JSON lacks as text.

    Non-finite numbers become the strings NaN, Infinity and -Infinity, as everywhere on the wire.
    """
    if value is None or isinstance(value, bool | str):
        return value if not isinstance(value, str) else _text(value)
    if isinstance(value, int):
        return int(value) if value in _INT64 else str(value)
    if isinstance(value, float):
        return _number(value)
    if depth >= _DEPTH_MAX:
        return _text(str(value))
    if isinstance(value, Mapping):
        return {_text(str(key)): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item, depth + 1) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name), depth + 1) for field in dataclasses.fields(value)}
    to_list = getattr(value, "tolist", None)  # numpy, torch and jax arrays and scalars
    if callable(to_list):
        return plain(to_list(), depth + 1)
    return _text(str(value))


def _number(value: float) -> float | str:
    if math.isfinite(value):
        return float(value)
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def _text(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
