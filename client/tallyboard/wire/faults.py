"""Where a body went wrong, in words that name the culprit; called only once decoding has failed."""

import math
import re
from typing import Any, Final, get_args

import msgspec

from tallyboard.wire.messages import Level, Resume, Status

_TOKEN: Final = re.compile(r"\.(\w+)|\[(\d+)\]|(\[\.\.\.\])")
_FIELD: Final = re.compile(r"(?:unknown|required) field `([^`]*)`")
_NON_FINITE: Final = ("NaN", "Infinity", "-Infinity")
_HOW_NON_FINITE: Final = 'non-finite ones are the strings "NaN", "Infinity", "-Infinity"'
_BARE_NON_FINITE: Final = re.compile(rb"[:,\[]\s*-?(?:NaN|Infinity)\b")
_SNIPPET_BYTES: Final = 40
_CHOICES: Final = {"level": get_args(Level), "resume": get_args(Resume), "status": get_args(Status)}
"""What fields may be that are one of a few words."""


_decode_json: Final = msgspec.json.Decoder(float_hook=float).decode
_decode_msgpack: Final = msgspec.msgpack.Decoder().decode


def untyped(body: bytes, *, json: bool) -> Any:
    """The body as plain objects, whatever it says; raises what msgspec raises if it can't be decoded at all."""
    return _decode_json(body) if json else _decode_msgpack(body)


def describe(error: msgspec.ValidationError, document: Any) -> tuple[str, str]:
    """(path of the culprit, what is wrong with it) for a document of the right form and the wrong types.

    `document` is the body decoded without types: msgspec leaves out keys of mappings (`$.at[...]`), which are
    looked up there.
    """
    detail, _, at = str(error).rpartition(" - at ")
    if not detail:
        detail, at = at, "$"
    in_key = at.startswith("`key`")
    path, value, known = _resolve(at.removeprefix("`key` in ").strip("`"), document)
    if (named := _FIELD.search(detail)) is not None:
        return f"{path}.{named[1]}", f"{detail[0].lower()}{detail[1:]}"
    if in_key:
        return path, f"{detail} as a key"
    if detail.startswith("Number out of range"):
        return path, "a number that a float64 can't hold"
    if ".scalars." in path and known:
        return path, f"{_shown(value)} is not a number; {_HOW_NON_FINITE}"
    if detail.startswith("Invalid enum value") and (choices := _CHOICES.get(path.rpartition(".")[2])) is not None:
        return path, f"{_shown(value)} is none of {', '.join(choices)}"
    return path, detail


def json_hint(body: bytes) -> str:
    """What to add if a body that is no JSON holds what Python's json.dumps makes of NaN; mostly nothing."""
    return f"; of the numbers, {_HOW_NON_FINITE}" if _BARE_NON_FINITE.search(body) else ""


def describe_utf8(error: UnicodeDecodeError) -> str:
    """What is wrong with a text that is not UTF-8, and which one it is."""
    start = max(0, error.start - _SNIPPET_BYTES)
    return f"not valid UTF-8: {error.reason} in {bytes(error.object[start : error.start + _SNIPPET_BYTES])!r}"


def _resolve(path: str, document: Any) -> tuple[str, Any, bool]:
    """The path with the keys that msgspec left out, the value there, and whether they could be told."""
    found, value, last = "$", document, ""
    for name, index, _ in _TOKEN.findall(path):
        if name:
            found, last = f"{found}.{name}", name
            value = value.get(name) if isinstance(value, dict) else None
        elif index:
            found = f"{found}[{index}]"
            value = value[int(index)] if isinstance(value, list) and int(index) < len(value) else None
        else:
            items = value.items() if isinstance(value, dict) else ()
            key, value = next(((k, v) for k, v in items if not _fits(last, v)), ("*", None))
            found = f"{found}.{key}"
    return found, value, not found.endswith(".*")


def _fits(mapping: str, value: Any) -> bool:
    """Whether a value is what a mapping of that name holds."""
    if isinstance(value, bool) or value is None:
        return False
    match mapping:
        case "scalars":
            return _is_number(value) or value in _NON_FINITE
        case "at":
            return _is_number(value) or isinstance(value, bytes)
        case "counters":
            return isinstance(value, dict) and all(
                key == "total" and (total is None or isinstance(total, int)) for key, total in value.items()
            )
        case _:
            return isinstance(value, int)


def _is_number(value: Any) -> bool:
    """Whether it is a number that a float64 holds: JSON may write larger ones."""
    try:
        return isinstance(value, (int, float)) and math.isfinite(float(value))
    except OverflowError:
        return False


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 2 * _SNIPPET_BYTES else f"{text[: 2 * _SNIPPET_BYTES]}…"
