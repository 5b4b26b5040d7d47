"""What wakes the sender's thread, from any thread and from inside signal handlers."""

from queue import Empty, SimpleQueue


class Alarm:
    """Rings once however often it was rung. Unlike threading.Event, `ring` may interrupt itself (SimpleQueue.put)."""

    def __init__(self) -> None:
        self._rings: SimpleQueue[None] = SimpleQueue()

    def ring(self) -> None:
        """Wake who waits, or who waits next."""
        if self._rings.empty():
            self._rings.put(None)

    def wait(self, timeout_s: float) -> bool:
        """Wait until it rings: not at all if it rang since the last wait, at most timeout_s. Whether it rang."""
        try:
            self._rings.get(timeout=timeout_s)
        except Empty:
            return False
        return True
