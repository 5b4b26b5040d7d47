"""Retention: superseded points, most points of long curves, or whole runs are removed when they are old enough."""

from tallyboard_server.retention.policy import BYTES_PER_SCALAR, THIN_MIN, Outcome, Policy
from tallyboard_server.retention.pruning import Pruner, RunPruning
from tallyboard_server.retention.worker import Rules, Worker

__all__ = ["BYTES_PER_SCALAR", "THIN_MIN", "Outcome", "Policy", "Pruner", "Rules", "RunPruning", "Worker"]
