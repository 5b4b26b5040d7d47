"""What the exporter knows of one run's event files, and what follows from it."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Final, Protocol

from tallyboard_server.eventfiles.encoder import ENCODER_VERSION
from tallyboard_server.eventfiles.layout import file_name
from tallyboard_server.eventfiles.opening import Opening
from tallyboard_server.model import RunState
from tallyboard_server.store.protocol import Generation

BUILDING: Final = "building"
LIVE: Final = "live"
RETIRED: Final = "retired"


class Sink(Protocol):
    """Where an opening is written to. After `finish` or `discard` nothing else is called."""

    def write(self, data: bytes) -> None:
        """Write on. OSError, or what the storage raises."""
        ...

    def finish(self) -> None:
        """Return once all of it stands under its final name, to stay."""
        ...

    def discard(self) -> None:
        """Let go of what is held; nothing is raised. Something may stay behind, which the storage removes."""
        ...


@dataclass(slots=True, eq=False)
class Build:
    """A generation on its way: its opening is being written, or is complete and waits to be recorded as live.

    sink: None before there is one and once it is finished. length: bytes written so far.
    """

    generation: Generation
    opening: Opening | None
    begun_at: float
    sink: Sink | None = None
    length: int = 0

    @property
    def complete(self) -> bool:
        """Whether the file stands under its final name."""
        return self.opening is None

    def discard(self) -> None:
        """Let go of what is held."""
        if self.sink is not None:
            self.sink.discard()
            self.sink = None


@dataclass(eq=False)
class RunFiles(ABC):
    """The event files of a run.

    live: the generation being written; written_pos and written_length: how far that has come, synced or not.
    leftovers: recorded, but never to be completed. damage: why the live file can't be gone on with. settled: (pos,
    epoch) at which nothing was left to do. foreign: event files beside them that are not ours.
    Times are of the monotonic clock.
    """

    run_id: int
    name: str
    live: Generation | None = field(default=None, kw_only=True)
    retired: dict[int, Generation] = field(default_factory=dict, kw_only=True)
    leftovers: list[Generation] = field(default_factory=list, kw_only=True)
    build: Build | None = field(default=None, kw_only=True)
    last_number: int = field(default=0, kw_only=True)
    last_seconds: int = field(default=0, kw_only=True)
    written_pos: int = field(default=0, kw_only=True)
    written_length: int = field(default=0, kw_only=True)
    damage: str | None = field(default=None, kw_only=True)
    settled: tuple[int, int] | None = field(default=None, kw_only=True)
    foreign: frozenset[str] = field(default=frozenset(), kw_only=True)
    next_export_at: float = field(default=0.0, kw_only=True)
    next_generation_at: float = field(default=0.0, kw_only=True)

    @abstractmethod
    def shown(self, file: str) -> str:
        """Where a file beside the run's own is, for people."""

    def wants_generation(self, state: RunState) -> bool:
        """Whether a new file must be begun: the first with the first visible point, others when this one can't grow."""
        if self.live is None:
            return bool(self.retired) or any(c.last_step is not None for c in state.counters.values())
        return self.live.epoch != state.epoch or self.live.encoder != ENCODER_VERSION or self.damage is not None

    def take_up(self, generations: list[Generation]) -> list[Generation]:
        """Know what is recorded of the run; returns generations that were being built."""
        building: list[Generation] = []
        for generation in generations:
            self.last_number = max(self.last_number, generation.number)
            self.last_seconds = max(self.last_seconds, generation.seconds)
            if generation.state == BUILDING:
                building.append(generation)
            elif generation.state == RETIRED:
                self.retired[generation.number] = generation
            else:
                if self.live is not None:
                    self.retired[self.live.number] = self.live
                self.live = generation
                self.written_pos, self.written_length = generation.exported_pos, generation.length
        return building

    def new_generation(self, state: RunState, host: str, now: float, newest: int) -> Generation:
        """The generation to build for a state; its name sorts after all that were recorded, and after `newest`, the
        largest time in the names that are there."""
        seconds = max(int(now), self.last_seconds + 1, newest + 1)
        number = self.last_number + 1
        return Generation(
            run_id=self.run_id,
            number=number,
            file_name=file_name(seconds, host, self.run_id, number),
            seconds=seconds,
            encoder=ENCODER_VERSION,
            epoch=state.epoch,
            first_pos=state.pos,
            exported_pos=state.pos,
            length=0,
            state=BUILDING,
            changed_at=now,
        )
