"""Two values that share a key: the second is refused, and its batch leaves no trace."""

from pathlib import Path

import pytest

from tallyboard_server.contract import BlobCollisionError
from tests.eventfiles_kit import Service
from tests.summary_kit import columns_of, event, image_value, scalar_value

RUN = "p/try1"


def test_a_value_that_shares_another_ones_key_is_refused(tmp_path: Path) -> None:
    with Service(tmp_path) as service:
        service.batch(RUN, columns=columns_of(event(1, image_value("i", 1))))
        with service.store.snapshot() as view:
            before = view.load(RUN)
        service.sqlite._writer.execute("UPDATE blobs SET hash = zeroblob(32)")  # as if it were of another value
        with pytest.raises(BlobCollisionError, match="can't be told apart"):
            service.batch(RUN, "p", columns=columns_of(event(2, scalar_value("loss", 1.0), image_value("j", 1))))
        with service.store.snapshot() as view:
            state = view.load(RUN)
            assert state is before
        receipt = service.batch(RUN, "p", columns=columns_of(event(2, image_value("j", 2))))  # the seq is free still
        assert (receipt.stored, receipt.replayed) == (1, False)
