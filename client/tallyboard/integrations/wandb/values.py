"""What one call of wandb's `log` holds: numbers, texts and pictures by key; nested keys are joined by a dot."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tallyboard.collect.reports import as_scalars
from tallyboard.integrations.wandb.media import Histogram, Image, Table
from tallyboard.integrations.wandb.telling import Absent, tell

DEPTH_MAX: Final = 20
IMAGES_MAX: Final = 108
"""Of one key, as wandb has it."""
_ARRAY_SIZE: Final = 32
"""Arrays of more numbers than this become histograms of as many bins, as in wandb."""

Value = float | str | Image | Histogram


@dataclass(slots=True)
class Sorted:
    """By key: what is reported, and what nobody can make a number of."""

    values: dict[str, Value] = field(default_factory=dict)
    odd: dict[str, Any] = field(default_factory=dict)


def sort(data: Mapping[str, Any]) -> Sorted:
    """Read all values at once: the training goes on to change them. None is no value, as in wandb's charts."""
    found = Sorted()
    for key, value in flat(data):
        if value is None:
            continue
        if isinstance(value, str | Image | Histogram):
            found.values[key] = value
        elif _draws(value):
            found.values[key] = Image(value)
        elif isinstance(value, Absent | Table | list | tuple | set | bytes):
            tell(f"wandb.log: {key!r} is left out: {type(value).__name__} is not kept here")
        elif _size(value) > _ARRAY_SIZE:
            found.values[key] = Histogram(value, num_bins=_ARRAY_SIZE)
        else:
            numbers, _ = as_scalars({key: value})
            found.values.update(numbers)
            if not numbers:
                found.odd[key] = value
    return found


def flat(data: Mapping[Any, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[Any, Any]]:
    """Keys and values of nested mappings, and of lists of images: `{"a": {"b": 1}}` has `a.b`."""
    for key, value in data.items():
        name = f"{prefix}{key}" if prefix else key
        if isinstance(value, Mapping) and depth < DEPTH_MAX:
            yield from flat(value, f"{name}.", depth + 1)
        elif isinstance(value, list | tuple) and value and all(isinstance(one, Image) or _draws(one) for one in value):
            if len(value) > IMAGES_MAX:
                tell(f"wandb.log: of {name!r} the first {IMAGES_MAX} images are kept")
            yield from ((f"{name}/{i}", one) for i, one in enumerate(value[:IMAGES_MAX]))
        else:
            yield name, value


def _draws(value: Any) -> bool:
    """Whether it is a figure of matplotlib, or its pyplot, or an image of Pillow."""
    module = getattr(value, "__name__", "") if not isinstance(value, type) else ""
    return type(value).__module__.startswith(("matplotlib.figure", "PIL.")) or module == "matplotlib.pyplot"


def _size(value: Any) -> int:
    """How many numbers are in an array or tensor; 0 if it is none."""
    size = 1
    for length in getattr(value, "shape", ()):
        size *= int(length)
    return size
