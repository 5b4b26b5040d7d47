"""Verification: sent = stored = in the event files, by counts and checksums, and where not, what differs."""

from tallyboard_server.verify.check import CATCH_UP_S, RunCheck, RunGoneError
from tallyboard_server.verify.report import AttemptReport, Difference, RunReport

__all__ = ["CATCH_UP_S", "AttemptReport", "Difference", "RunCheck", "RunGoneError", "RunReport"]
