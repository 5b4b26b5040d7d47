"""A TCP forwarder that can be cut: the network between job and service, for the demo."""

import socket
import threading
from contextlib import suppress
from typing import Final

_CHUNK_BYTES: Final = 64 * 1024
_CONNECT_TIMEOUT_S: Final = 2.0
_BACKLOG: Final = 64
_ACCEPT_TIMEOUT_S: Final = 0.1


class Forwarder:
    """Listens on a port of its own and passes everything on to another one of this machine, until it is cut."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._cut = False
        self._stopping = threading.Event()
        self._listener = socket.create_server((target[0], 0), backlog=_BACKLOG)
        self._listener.settimeout(_ACCEPT_TIMEOUT_S)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, name="forwarder", daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Break every connection, and let no new one through."""
        with self._lock:
            self._cut = True
            for connection in self._connections:
                _shut(connection)

    def mend(self) -> None:
        """Let connections through again."""
        with self._lock:
            self._cut = False

    def close(self) -> None:
        """End."""
        self._stopping.set()
        self.cut()
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                near, _ = self._listener.accept()
            except TimeoutError:
                continue
            threading.Thread(target=self._connect, args=(near,), daemon=True).start()

    def _connect(self, near: socket.socket) -> None:
        with near, suppress(OSError), socket.create_connection(self._target, _CONNECT_TIMEOUT_S) as far:
            far.settimeout(None)
            with self._lock:
                if self._cut:
                    return
                self._connections |= {near, far}
            back = threading.Thread(target=_pump, args=(far, near), daemon=True)
            back.start()
            _pump(near, far)
            back.join()
            with self._lock:
                self._connections -= {near, far}


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Pass bytes on until one side closes; then close both, as a cut cable does."""
    with suppress(OSError):
        while data := source.recv(_CHUNK_BYTES):
            target.sendall(data)
    _shut(source)
    _shut(target)


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
