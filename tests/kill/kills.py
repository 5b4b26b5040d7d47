"""How often the tests here kill: the server so many times, and clients so many times."""

import os
from typing import Final

KILLS: Final = int(os.environ.get("KILLS", "18"))
"""18 of each in a usual run take about a minute; `make kill KILLS=500` kills more often."""
EXIT_TIMEOUT_S: Final = 30.0
"""For the system to take a killed process away."""
