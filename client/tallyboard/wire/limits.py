"""Every limit of the protocol, in one place; client and server read the same numbers."""

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

STEP_MAX: Final = 2**63 - 1
"""Largest step: an int64, as TensorBoard's Event.step."""

BODY_BYTES_MAX: Final = 16 * MIB
"""Largest request body, before and after decompression (about 190,000 reports of ten scalars)."""

ROWS_PER_BATCH_MAX: Final = 100_000
"""Most reports in one request; keeps the row-by-row path of a hopeless batch under a second."""

BLOCKS_PER_BATCH_MAX: Final = 1_000
"""Most MessagePack blocks in one request: each costs the server some fixed work."""

TAGS_PER_REPORT_MAX: Final = 4_096
"""Most scalars in one report."""

TAGS_PER_RUN_MAX: Final = 100_000
COUNTERS_PER_RUN_MAX: Final = 1_000
ATTEMPTS_PER_COUNTER_MAX: Final = 10_000
PRODUCERS_PER_RUN_MAX: Final = 10_000

BLOB_BYTES_MAX: Final = 8 * MIB
"""Largest image, text, histogram, …: one serialised Summary.Value without its tag; half of the largest body."""
METADATA_BYTES_MAX: Final = 64 * KIB
"""Largest SummaryMetadata of a tag; it stands in each of the tag's records in event files."""
SERIES_PER_EVENTS_MAX: Final = TAGS_PER_REPORT_MAX
"""Most different tags in one body of POST /events: each costs the server some fixed work."""
KIND_BYTES_MAX: Final = 128

RUN_NAME_BYTES_MAX: Final = 512
RUN_SEGMENT_BYTES_MAX: Final = 200
"""File systems stop at 255 bytes a name; the rest is left for suffixes (`-2`, `/rank07`)."""
RUN_DEPTH_MAX: Final = 10
TAG_BYTES_MAX: Final = 512
COUNTER_BYTES_MAX: Final = 128
PRODUCER_BYTES_MAX: Final = 128
TEXT_BYTES_MAX: Final = 64 * KIB
"""Notes, reasons and one JSON document (config, summary, provenance)."""
DOCUMENT_DEPTH_MAX: Final = 40
"""How deep lists and objects of such a document may be nested."""

REFUSED_PER_RECEIPT_MAX: Final = 100
"""Refusals listed one by one in a receipt; `refused_count` counts them all."""
REFUSED_KEPT_PER_RUN_MAX: Final = 1_000

ALERT_TITLE_BYTES_MAX: Final = 256
ALERT_TEXT_BYTES_MAX: Final = 4 * KIB
"""Enough for the last lines of a traceback; what is longer belongs into a log."""
ALERT_COUNTERS_MAX: Final = 32
"""Most counters that one alert says the place of."""
ALERTS_PER_BATCH_MAX: Final = 100
"""A client sends a batch every half second: more is no alert but a log."""
ALERTS_KEPT_PER_RUN_MAX: Final = 1_000
"""The newest; at most 9 MB a run (4 KiB of text, 32 counters of 128 bytes and a step each), JSON's escapes apart."""

REPLAY_WINDOW: Final = 32
"""How many batches back a repeated seq is still compared byte for byte (one is in flight at a time)."""
