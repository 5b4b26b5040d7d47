"""What one service knows of the store's tokens and sessions: taken over, changed in step with it, read again."""

import logging
import threading
from collections.abc import Callable, Collection
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Final, TypeVar

from tallyboard_server.access.errors import AccessError
from tallyboard_server.access.lookups import Key
from tallyboard_server.access.sessions import Sessions
from tallyboard_server.access.tokens import Book, is_usable
from tallyboard_server.store.protocol import Record, Store, StoreBusyError, StoreError, Transaction

SAVE_EVERY_S: Final = 60.0
"""When tokens were last used is saved at most so often."""
AGAIN_S: Final = 1.0
"""After so long is read again what could not be read."""

T = TypeVar("T")
log = logging.getLogger(__name__)


class Memory:
    """Tokens and sessions of one service; a thread saves and reads again. Any thread may call.

    is_over: whether sessions that were begun with a token, by its id, are good no more. clock: seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float], is_over: Callable[[str], bool]) -> None:
        self.book = Book()
        self.sessions = Sessions(clock)
        self.on_end: Callable[[], None] = lambda: None
        """Called when a token that was good is so no more: streams may outlast theirs."""
        self._clock = clock
        self._is_over = is_over
        self._store: Store | None = None
        self._record: Record | None = None
        self._changing = threading.Lock()
        """Held from before the store is read or changed until that holds here, so that both end with the same."""
        self._used_saved_at = clock()
        self._is_stale = False
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tallyboard-access", daemon=True)

    def open(self, store: Store, record: Record) -> None:
        """Take over what is in the store. Raises StoreError."""
        self._store, self._record = store, record
        self._read()

    def start(self) -> None:
        """Begin to save."""
        self._thread.start()

    def close(self, timeout_s: float) -> None:
        """Save once more, and end."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    @property
    def is_shared(self) -> bool:
        """Whether other services may change what is known here."""
        return self._store is not None and self._store.shared

    def read_soon(self) -> None:
        """Another service has changed something: read it, on a thread of its own. Quick."""
        self._is_stale = True
        self._wake.set()

    def save_soon(self) -> None:
        """Sessions began or ended: tell the store, on a thread of its own. Quick."""
        self._wake.set()

    def decide(self, decide: Callable[[Transaction, Book], T]) -> T:
        """Look at the store's tokens and change them, in one transaction in which nobody else does.

        `decide` puts into the book what it saves; what it raises it raises before it saves anything. It may be called
        again. Raises AccessError, StoreError.
        """
        answer: list[T | AccessError] = []
        books: list[Book] = []

        def work(transaction: Transaction) -> None:
            book = Book(transaction.lock_tokens())
            try:
                answer[:] = [decide(transaction, book)]
            except AccessError as error:  # an answer: for the writer an error would be one of the store's
                answer[:] = [error]
            books[:] = [book]

        with self._changing:
            self.write(work)
            self._take_over(books[0])
            self.sessions.end_of(self._is_over)
        if isinstance(answer[0], AccessError):
            raise answer[0]
        return answer[0]

    def write(self, work: Callable[[Transaction], None]) -> None:
        """Run a function in a transaction. Raises StoreError."""
        if self._record is None:
            raise StoreError("the service does not run")
        try:
            self._record(work)
        except FutureTimeoutError as error:
            raise StoreBusyError("the store did not commit in time; look whether it was done, then retry") from error

    def as_stored(self) -> Book:
        """The tokens as they are, with the last uses that this service knows; read again if others change them.

        Raises StoreError.
        """
        if not self.is_shared or self._store is None:
            return self.book
        with self._store.snapshot() as view:
            book = Book(view.tokens())
        book.used = self.book.used
        return book

    def learn(self, keys: Collection[Key]) -> None:
        """Take over tokens by their ids, and sessions by their hashes, with their tokens. Raises StoreError."""
        hashes = [key for key in keys if isinstance(key, bytes)]
        ids = {key for key in keys if isinstance(key, str)}
        with self._changing:
            if self._store is None:
                return
            with self._store.snapshot() as view:
                sessions = view.sessions(hashes) if hashes else []
                ids |= {session.token for session in sessions}
                unknown = sorted(token_id for token_id in ids if self.book.get(token_id) is None)
                tokens = view.tokens(unknown) if unknown else []
            for token in tokens:
                self.book.put(token)
            self.sessions.learn(sessions)

    def save(self, *, last: bool = False) -> StoreError | None:
        """Tell the store which sessions began and ended, and now and then when tokens were used.

        What could not be saved is tried again by itself, and why is returned. last: there is no later.
        """
        with self._changing:
            now = self._clock()
            is_due = last or now - self._used_saved_at >= SAVE_EVERY_S
            if is_due:
                self.sessions.end_of(self._is_over)
            used = dict(self.book.used) if is_due else {}
            new, gone = self.sessions.unsaved()
            if not (used or new or gone):
                return None

            def work(transaction: Transaction) -> None:
                if used:
                    transaction.touch_tokens(used)
                if gone:
                    transaction.drop_sessions(gone)
                for session in new:
                    transaction.save_session(session)

            self._used_saved_at = now if is_due else self._used_saved_at
            try:
                self.write(work)
            except Exception as error:  # noqa: BLE001 - the next attempt comes by itself
                self.sessions.put_back(new, gone)
                log.warning("sessions and last uses of tokens could not be saved: %s", error)
                return error if isinstance(error, StoreError) else StoreError(str(error))
            self.book.were_saved(used)
            return None

    def _read(self) -> None:
        """Take over all that is in the store. Raises StoreError."""
        with self._changing:
            if self._store is None:
                return
            with self._store.snapshot() as view:
                tokens, sessions = view.tokens(), view.sessions()
            self._take_over(Book(tokens))
            self.sessions.replace(sessions)
            self.sessions.end_of(self._is_over)

    def _take_over(self, book: Book) -> None:
        """These are the tokens from now on."""
        now = self._clock()
        before = {token.id for token in self.book if is_usable(token, now)}
        book.used = self.book.used
        self.book = book
        if before - {token.id for token in book if is_usable(token, now)}:
            self.on_end()

    def _run(self) -> None:
        wait_s = SAVE_EVERY_S
        while not self._stop.is_set():
            woken = self._wake.wait(wait_s)
            self._wake.clear()
            wait_s = SAVE_EVERY_S
            if self.is_shared and (self._is_stale or not woken):  # now and then whatever was told
                self._is_stale = False
                try:
                    self._read()
                except Exception as error:  # noqa: BLE001 - without this thread nothing would be saved any more
                    log.warning("tokens and sessions could not be read again: %s", error)
                    self._is_stale, wait_s = True, AGAIN_S
            self.save()
        self.save(last=True)
