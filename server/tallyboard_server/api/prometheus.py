"""The Prometheus text format, version 0.0.4."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX: Final = "tallyboard_"
_HISTOGRAM_PARTS: Final = ("_bucket", "_sum", "_count")


@dataclass(slots=True, frozen=True)
class Sample:
    """One figure: its name (without prefix), value and labels."""

    name: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


def exposition(samples: Iterable[Sample]) -> str:
    """The samples as text. A name that ends in _total is a counter, one with buckets a histogram, else a gauge."""
    grouped: dict[str, list[Sample]] = {}
    found = list(samples)
    histograms = {s.name.removesuffix("_bucket") for s in found if s.name.endswith("_bucket")}
    for sample in found:
        grouped.setdefault(_family(sample.name, histograms), []).append(sample)
    lines: list[str] = []
    for family, members in grouped.items():
        kind = "histogram" if family in histograms else "counter" if family.endswith("_total") else "gauge"
        lines.append(f"# TYPE {_PREFIX}{family} {kind}")
        lines.extend(f"{_PREFIX}{s.name}{_labels(s.labels)} {_number(s.value)}" for s in members)
    return "\n".join(lines) + "\n"


def _family(name: str, histograms: set[str]) -> str:
    for part in _HISTOGRAM_PARTS:
        if (base := name.removesuffix(part)) != name and base in histograms:
            return base
    return name


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if float(value).is_integer() else repr(float(value))
