"""`tallyboard migrate` in many small transactions: kills come between any two. `python -m tests.kill.moving …`"""

import sys

from tallyboard_server.cli import main
from tallyboard_server.move import rows

ROWS = 7

if __name__ == "__main__":
    rows.BATCH_ROWS = ROWS  # type: ignore[misc]
    sys.argv[0] = "tallyboard"
    main()
