"""One run of a logdir on its way to the service: its files in order, from where they were left to where they end."""

import os
import socket
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

from tallyboard.logdir import positions
from tallyboard.logdir.chunk import Chunk, Decoder
from tallyboard.logdir.files import FoundFile, file_key
from tallyboard.logdir.mends import Kind, Mends
from tallyboard.logdir.positions import Position
from tallyboard.logdir.scan import Lengths
from tallyboard.logdir.sessions import Draft, Session, Timeline
from tallyboard.logdir.shipping import RunStoppedError, RunView, Service, Stream
from tallyboard.logdir.tags import CounterRule, Tags
from tallyboard.wire import Batch, InvalidBatchError, Open, Rewind, Status, check_document, implicit_counter
from tallyboard.wire.limits import MIB

CHUNK_BYTES: Final = 4 * MIB
"""Read at a time; more only if one record is longer."""
_LOOK_AHEAD: Final = 8
"""Of a file that goes on, the last eighth of each piece is read again with the next: so far, steps are put in order."""
_HELD_MAX: Final = 4
"""Looks at a growing file after which steps that keep going back are sent as they are."""
_REASON: Final = "went back in a new event file or session"


@dataclass(slots=True)
class File:
    """An event file in reading.

    settled: bytes it had when it was last looked at; what is younger may still have to be put in order, and waits for
    the next look. held: how many looks in a row nothing could be sent for that. replayed: the session is known up to
    the position. told: what was said of it, which is said once.
    """

    key: str
    path: Path
    position: Position = field(default_factory=Position)
    session: Session = field(default_factory=Session)
    settled: int = 0
    waits: bool = False
    held: int = 0
    replayed: bool = True
    lost: bool = False
    told: set[str] = field(default_factory=set)


class LogdirRun:
    """A run, its files, and what of them is on the service.

    service: None reads without sending anything. logdir: said in the provenance, with the host.
    """

    def __init__(
        self,
        name: str,
        service: Service | None,
        rules: Sequence[CounterRule],
        lengths: Lengths,
        origin: dict[str, str],
    ) -> None:
        self.name = name
        self.mends = Mends()
        self.points_read = 0
        self.bytes_read = 0
        self._service = service
        self._origin = origin
        self._tags = Tags(rules, self.mends)
        self._decoder = Decoder(self._tags, lengths)
        self._timeline = Timeline(self._tags, self.mends)
        self._files: dict[str, File] = {}
        self._stored: dict[str, Position] = {}
        self._all_read_before = ""
        self._existed = False
        self.status: str | None = None
        self._stream = None if service is None else Stream(name, service, self.mends)

    @property
    def points_stored(self) -> int:
        """Points that the service has taken from this process, or had already."""
        return 0 if self._stream is None else self._stream.shipped.points

    @property
    def settled(self) -> bool:
        """Whether all files were read at a size that they had before: nothing waits only for being put in order."""
        return not any(file.waits for file in self._files.values())

    def begin(self, files: Sequence[FoundFile], *, recreate: bool) -> None:
        """Find out what the service has of the run. Raises AwayError, RunStoppedError.

        recreate: a run that was deleted is begun again.
        """
        if self._service is None:
            return
        view = self._service.look(self.name)
        if view is None or (view.deleted and recreate):
            return
        if view.deleted:
            raise RunStoppedError("the run was deleted; `tallyboard import` would create it again")
        self._check_origin(view, files)
        self._existed = True
        self._stored = positions.read_positions(view.provenance)
        older = view.provenance.get(positions.OLDER_KEY)
        self._all_read_before = older if isinstance(older, str) else ""
        self.status = view.status
        own = {implicit_counter(tag): value for tag, value in view.tag_counters.items()}
        shown = view.counters | own
        self._timeline.sure = {counter for counter, value in shown.items() if value.attempt == 1}
        for counter, value in shown.items():
            if value.last_step is not None:
                self._timeline.last[counter] = value.last_step
        for tag, kind in view.kinds.items():
            self._tags.know(tag, kind)

    def turn(self, files: Sequence[FoundFile], *, final: bool) -> Generator[int]:
        """Read what the files hold beyond their positions, and send it; yields the bytes read after each piece.

        final: they do not grow any more. Raises AwayError (call it again), RunStoppedError, ForgottenError; what can't
        be read is told among the mends.
        """
        if self._stream is not None:
            self._stream.send()
        for found in files:
            file = self._file(found)
            if file is None:
                continue
            try:
                yield from self._read(file, final=final)
            except OSError as error:
                self._tell(file, "failed", f"{file.path} can't be read: {error.strerror or error}")
        self._miss(files)
        if self._stream is not None:
            self._stream.send()

    def end(self, status: Status) -> None:
        """Say how the run stands, if there is one and it stands otherwise. Raises as `turn` does."""
        stream = self._stream
        if stream is not None and (stream.begun or self._existed) and self.status != status:
            stream.add(Batch(open=self._open(stream), status=status))
            self.status = status
            stream.send()

    def _check_origin(self, view: RunView, files: Sequence[FoundFile]) -> None:
        """Raise RunStoppedError if the run did not come from this logdir."""
        has_points = bool(view.counters or view.tag_counters)
        stored = positions.read_positions(view.provenance)
        if not stored:
            if has_points:
                raise RunStoppedError("there is such a run, which came from no logdir; choose another --project")
            return
        if view.provenance.get(positions.LOGDIR_KEY) == self._origin.get(positions.LOGDIR_KEY):
            return
        for found in files:
            known = stored.get(file_key(found.name))
            if known is not None and known.bytes and known.matches(_head(found.path)):
                return
        raise RunStoppedError(
            f"there is such a run from another logdir ({view.provenance.get(positions.LOGDIR_KEY)}); "
            "choose another --project"
        )

    def _file(self, found: FoundFile) -> File | None:
        """The file in reading; None if it was read whole long ago."""
        file = self._files.get(found.name)
        if file is None:
            key = file_key(found.name)
            stored = self._stored.get(key)
            if stored is None and key < self._all_read_before:
                return None
            file = File(key, found.path, stored or Position())
            file.replayed = file.position.bytes == 0
            self._files[found.name] = file
        return file

    def _read(self, file: File, *, final: bool) -> Iterator[int]:
        """Read a file from its position to its end."""
        size = file.path.stat().st_size
        if file.lost or size == file.position.bytes:
            file.settled, file.waits = size, False
            return
        with file.path.open("rb") as stream:
            head = stream.read(positions.HEAD_BYTES)
            if not self._is_same(file, head, size):
                return
            if not file.replayed:
                self._replay(file, stream)
            file.waits = not final and file.settled != size
            limit = file.settled if file.waits else size
            while (found := self._chunk(file, stream, size)) is not None:
                chunk, goes_on = found
                before = file.position.bytes
                sendable = _sendable(chunk, limit - before, goes_on=goes_on)
                force = goes_on or not file.waits or file.held >= _HELD_MAX
                yield from self._take(file, chunk, head, sendable, force=force)
                file.held = file.held + 1 if sendable and file.position.bytes == before else 0
                if chunk.damage and file.position.bytes == before + chunk.end:
                    file.lost = True
                    detail = f"{file.path} from byte {file.position.bytes} on: {chunk.damage}"
                    self.mends.add("lost", size - file.position.bytes, detail)
                if file.lost or file.position.bytes == before:
                    break
            if final and not file.lost and file.position.bytes < size:
                rest = size - file.position.bytes
                self._tell(file, "unfinished", f"{file.path}: the last {rest} bytes")
        file.settled = size

    def _take(self, file: File, chunk: Chunk, head: bytes, sendable: int, *, force: bool) -> Iterator[int]:
        """Send the chunk's first records and move the position along."""
        base = file.position.bytes
        for draft in self._timeline.drafts(chunk, file.session, sendable, str(file.path), force=force):
            before = file.position.bytes
            file.position = file.position.moved(base + int(chunk.ends[draft.end - 1]), head)
            self.points_read += draft.points
            self.bytes_read += file.position.bytes - before
            if self._stream is not None:
                self._queue(self._stream, file, draft)
                self._stream.send(all_of_it=False)
            yield file.position.bytes - before

    def _queue(self, stream: Stream, file: File, draft: Draft) -> None:
        """Make batches of a draft; the last one carries the file's new position, which covers all of them."""
        rewind = Rewind(next_steps=draft.next_steps, reason=_REASON) if draft.next_steps else None
        for columns in draft.columns[:-1]:
            stream.add(Batch(open=self._open(stream), rewind=rewind, columns=tuple(columns)))
            rewind = None
        self._stored[file.key] = file.position
        provenance = positions.patch(file.key, self._stored)
        opening = self._open(stream, provenance, self._config(draft))
        stream.add(Batch(open=opening, rewind=rewind, columns=tuple(draft.columns[-1])))
        self.status = None

    def _open(
        self, stream: Stream, provenance: Mapping[str, Any] | None = None, config: dict[str, Any] | None = None
    ) -> Open:
        """An Open for the next batch; the first one takes over what is there, and says where it comes from."""
        if stream.begun:
            return Open(resume="continue", take_over=(), provenance={**(provenance or {})}, config=config or {})
        return Open(resume="continue", provenance={**self._origin, **(provenance or {})}, config=config or {})

    def _config(self, draft: Draft) -> dict[str, Any]:
        try:
            check_document(draft.config, "$.config")
        except InvalidBatchError as error:
            self.mends.add("hyperparameters", 1, str(error))
            return {}
        return draft.config

    def _chunk(self, file: File, stream: BinaryIO, end: int) -> tuple[Chunk, bool] | None:
        """What the file holds from its position on, at least one record, and whether there may be more of it.

        None if there is no whole record.
        """
        size = CHUNK_BYTES
        while True:
            at = file.position.bytes
            stream.seek(at)
            data = stream.read(min(size, end - at))
            chunk = self._decoder.decode(data)
            if len(chunk) or chunk.damage:
                return chunk, at + len(data) < end
            if not chunk.needed or chunk.needed > end - at or chunk.needed <= len(data):
                return None
            size = chunk.needed

    def _replay(self, file: File, stream: BinaryIO) -> None:
        """Read what an earlier process has sent, to know the session that goes on."""
        target, at = file.position.bytes, 0
        seen = File(file.key, file.path, session=file.session)
        while at < target and (found := self._chunk(seen, stream, target)) is not None and len(found[0]):
            self._timeline.replay(found[0], file.session)
            at += found[0].end
            seen.position = Position(at)
        file.replayed = True

    def _is_same(self, file: File, head: bytes, size: int) -> bool:
        """Whether the file is the one that was read, and holds more; if it is another, it begins anew."""
        if not file.position.matches(head):
            self.mends.add("replaced", 1, str(file.path))
            file.position, file.session, file.replayed, file.lost = Position(), Session(), True, False
        elif size < file.position.bytes:
            self._tell(file, "gone", f"{file.path} has {size} bytes; {file.position.bytes} had been read")
            return False
        return True

    def _miss(self, files: Sequence[FoundFile]) -> None:
        """Tell of files that were read and are gone."""
        for name in self._files.keys() - {found.name for found in files}:
            file = self._files.pop(name)
            self._tell(file, "gone", str(file.path))

    def _tell(self, file: File, kind: Kind, text: str) -> None:
        if text not in file.told:
            file.told.add(text)
            self.mends.add(kind, 1, text)


def _sendable(chunk: Chunk, settled: int, *, goes_on: bool) -> int:
    """How many of the chunk's records may be sent: those that are settled, and of a file that goes on, not the last."""
    count = int((chunk.ends <= settled).sum())
    if goes_on and count == len(chunk):
        count -= count // _LOOK_AHEAD
    return count


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(positions.HEAD_BYTES)
    except OSError:
        return b""


def origin(logdir: Path) -> dict[str, str]:
    """What a run's provenance says of where it came from."""
    path = os.fsencode(logdir.resolve()).decode("utf-8", "backslashreplace")
    return {positions.LOGDIR_KEY: path[:1000], "host": socket.gethostname()}
