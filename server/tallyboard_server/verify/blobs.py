"""Whether every image, text, histogram, … of a run that was acknowledged is in the store, bit for bit."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from tallyboard.wire import Int64
from tallyboard.wire.limits import MIB
from tallyboard.wire.summaries import blob_of, key_of_hash
from tallyboard_server.store.protocol import Readable

_PAGE_BYTES: Final = 4 * MIB


class BlobCheck:
    """The blobs of a run against the keys that its points hold. `faults` are there after `steps()`, in words."""

    def __init__(self, store: Readable, run_id: int, keys: Sequence[Int64]) -> None:
        """keys: packed as bits, in columns."""
        self._store = store
        self._run_id = run_id
        self._wanted = np.unique(np.concatenate([np.empty(0, np.int64), *keys]))
        self._good: list[float] = []
        self._bad: list[float] = []
        self.faults: list[str] = []

    def steps(self) -> Iterator[int]:
        """Read all blobs; yields how many each step read."""
        after: float | None = None
        while len(self._wanted):
            with self._store.snapshot() as view:
                page = view.blob_page(self._run_id, after=after, bytes_max=_PAGE_BYTES)
            if not page:
                break
            for key, blob in page.items():
                after = key
                digest = blob_of(blob.data).hash
                (self._good if digest == blob.hash and key_of_hash(digest) == key else self._bad).append(key)
            yield len(page)
        good, bad = (np.array(keys, np.float64).view(np.int64) for keys in (self._good, self._bad))
        damaged = len(np.intersect1d(self._wanted, bad))
        missing = len(np.setdiff1d(self._wanted, good)) - damaged
        if damaged:
            self.faults.append(f"{damaged:,} images, texts, histograms, … are not what was acknowledged")
        if missing:
            self.faults.append(f"{missing:,} images, texts, histograms, … are missing")
