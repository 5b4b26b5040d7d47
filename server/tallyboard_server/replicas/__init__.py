"""Many services on one store: who works for which runs, and what they tell each other."""

from tallyboard_server.replicas.bulletin import BulletinItem, Teller
from tallyboard_server.replicas.held import HeldShares
from tallyboard_server.replicas.replica import Replica

__all__ = ["BulletinItem", "HeldShares", "Replica", "Teller"]
