"""A batch frozen for its way: bytes that no longer change, but for the number it gets when it is sent."""

from dataclasses import dataclass
from typing import Final

import msgspec

from tallyboard.wire import Batch, Open, encode_batch

_FIXMAP: Final = 0x80
_FIXMAP_KEYS_MAX: Final = 15
_MAP16: Final = 0xDE
_MAP16_KEYS_MAX: Final = 2**16 - 1
"""MessagePack's two heads of a map: its keys counted in the byte itself, or in the two that follow, big-endian."""
_pack = msgspec.msgpack.Encoder().encode


@dataclass(slots=True, frozen=True)
class Parcel:
    """`body` is the batch in MessagePack, without producer and seq (see `numbered`).

    closes: the number of sections that are delivered as a whole with this batch; 0 if it is not the last of one.
    opens: it is how the run begins. claims: it rewinds counters, or takes them over from another writer.
    """

    body: bytes
    reports: int = 0
    closes: int = 0
    opens: bool = False
    claims: bool = False


def freeze(batch: Batch, closes: int = 0) -> Parcel:
    """A batch without a number as a parcel."""
    return Parcel(
        encode_batch(batch),
        reports=sum(map(len, batch.columns)),
        closes=closes,
        opens=batch.open is not None and batch.open.uid is not None,
        claims=batch.rewind is not None or (batch.open is not None and _takes(batch.open)),
    )


def numbered(body: bytes, producer: str, seq: int) -> bytes:
    """The body with its number: the same three give the same bytes, in any process.

    So a batch whose answer was lost, by a cut line or a crash, goes out again as it was.
    """
    if _FIXMAP < body[0] <= _FIXMAP + _FIXMAP_KEYS_MAX - 2:
        head, rest = bytes((body[0] + 2,)), memoryview(body)[1:]
    elif body[0] == _MAP16 and 0 < (keys := int.from_bytes(body[1:3], "big")) <= _MAP16_KEYS_MAX - 2:
        head, rest = bytes((_MAP16,)) + (keys + 2).to_bytes(2, "big"), memoryview(body)[3:]
    else:
        raise ValueError("not the body of a batch without a number")
    return b"".join((head, _pack("producer"), _pack(producer), _pack("seq"), _pack(seq), rest))


def _takes(opening: Open) -> bool:
    if opening.take_over is None:
        return opening.resume != "new"
    return bool(opening.take_over)
