"""What was amiss in a logdir and what was done about it, counted, with a few examples of each."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

Kind = Literal[
    "run_renamed",
    "tag_renamed",
    "restarted",
    "reordered",
    "repeated",
    "hyperparameters",
    "warned",
    "not_data",
    "unfinished",
    "gone",
    "replaced",
    "checksum",
    "lost",
    "left_out",
    "refused",
    "failed",
]

EXAMPLES_MAX: Final = 5


class Said(NamedTuple):
    """How a kind of mend is told: `loss` if something of the logdir is not in the service."""

    text: str
    loss: bool = False


TEXTS: Final[dict[Kind, Said]] = {
    "run_renamed": Said("runs were given another name"),
    "tag_renamed": Said("tags were given another name"),
    "restarted": Said("counters went back after a new file or session start, and were rewound"),
    "reordered": Said("points out of order within a file were put in order"),
    "repeated": Said("points were there already, with the same value"),
    "hyperparameters": Said("hyperparameters could not become config"),
    "warned": Said("warnings of the service"),
    "not_data": Said("records hold log messages, run metadata, meta graphs or nothing, which are not kept"),
    "unfinished": Said("files end within a record"),
    "gone": Said("files are gone, or shorter than what was read of them"),
    "replaced": Said("files were replaced by others of the same name, and read from their beginning"),
    "checksum": Said("records with a wrong checksum were left out", loss=True),
    "lost": Said("bytes follow a record whose length can't be believed, and were left out", loss=True),
    "left_out": Said("values or records that can't be taken were left out", loss=True),
    "refused": Said("points were refused by the service, whose first ones stay", loss=True),
    "failed": Said("runs could not be sent", loss=True),
}


@dataclass(slots=True)
class Mend:
    """So many of a kind; examples say where and why, no two alike."""

    count: int = 0
    examples: list[str] = field(default_factory=list)


class Mends:
    """All mends of a logdir, or of one run."""

    def __init__(self) -> None:
        self.found: dict[Kind, Mend] = {}

    def add(self, kind: Kind, count: int = 1, example: str = "") -> None:
        """Count some."""
        if not count:
            return
        mend = self.found.setdefault(kind, Mend())
        mend.count += count
        if example and len(mend.examples) < EXAMPLES_MAX and example not in mend.examples:
            mend.examples.append(example)

    def count(self, kind: Kind) -> int:
        """How many of a kind there were."""
        return self.found[kind].count if kind in self.found else 0

    def merge(self, other: "Mends", where: str) -> None:
        """Take in those of one run; examples are told with its name."""
        for kind, mend in other.found.items():
            self.add(kind, mend.count)
            for example in mend.examples:
                self._example(kind, f"{where}: {example}")

    @property
    def lossless(self) -> bool:
        """Whether everything that the logdir holds is in the service."""
        return not any(TEXTS[kind].loss for kind in self.found)

    def lines(self) -> Iterator[str]:
        """One line a kind, and its examples indented."""
        for kind, said in TEXTS.items():
            if (mend := self.found.get(kind)) is None:
                continue
            yield f"{mend.count:,} {said.text}"
            for example in mend.examples:
                yield f"    {example}"

    def _example(self, kind: Kind, example: str) -> None:
        mend = self.found[kind]
        if len(mend.examples) < EXAMPLES_MAX and example not in mend.examples:
            mend.examples.append(example)
