"""The doctor's look at a logdir in an object storage: can it be reached, are the run's objects there and up to date?"""

from collections.abc import Iterator
from typing import Final

from tallyboard_server.api.messages import RunView
from tallyboard_server.cli.eventfile import FILE_BYTES_MAX, compared
from tallyboard_server.cli.finding import Finding, bad, good
from tallyboard_server.cli.output import count
from tallyboard_server.eventfiles.encoder import encode_header
from tallyboard_server.eventfiles.layout import is_event_file
from tallyboard_server.eventfiles.objects.bucket import Bucket
from tallyboard_server.eventfiles.objects.keys import generation_of, run_key, seconds_of
from tallyboard_server.eventfiles.objects.shelf import opened
from tallyboard_server.objecturl import ObjectUrl

LAG_MAX_S: Final = 90.0
"""Objects follow the store at an interval that can be set, some 20 s."""


def look_at_objects(view: RunView | None, url: ObjectUrl) -> Iterator[Finding]:
    """Findings about a prefix of objects; this machine's own credentials are used."""
    try:
        bucket = Bucket(url)
        if view is None:
            bucket.sizes("")
            yield good(f"{url} can be listed from here")
        else:
            yield from _run_objects(bucket, view)
    except (OSError, ValueError) as error:
        yield bad(f"{url} can't be read from here: {error}", "see docs/object-storage.md for what it needs")


def _run_objects(bucket: Bucket, view: RunView) -> Iterator[Finding]:
    key = run_key(view.run)
    sizes = bucket.sizes(key)
    ours = sorted(name for name in sizes if seconds_of(name) is not None)
    if foreign := [name for name in sizes if is_event_file(name) and name not in ours]:
        yield bad(
            f"{bucket.shown(key)} also holds objects that Tallyboard did not write: {', '.join(sorted(foreign)[:3])}",
            "TensorBoard mixes their points with the run's; move them to a prefix of their own",
        )
    if not ours:
        if any(counter.last_step is not None for counter in view.counters.values()):
            yield bad(f"{bucket.shown(key)} holds no object of the run", "see the service's log, and GET /readyz")
        return
    generation, seconds = generation_of(ours[-1]), seconds_of(ours[-1])
    names = [name for name in ours if generation_of(name) == generation]
    where = bucket.shown(f"{key}/{generation}")
    if sum(sizes[name] for name in names) > FILE_BYTES_MAX:
        yield good(f"{where} is there ({count(len(names), 'object')}, not read)")
        return
    header = encode_header(float(seconds or 0))
    with opened(bucket, [f"{key}/{name}" for name in names], header) as (stream, _):
        yield compared(where, stream, view, LAG_MAX_S)
