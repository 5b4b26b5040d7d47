"""Many services on one store: who works for which runs, and what they tell each other."""

from tallyboard_server.replicas.held import HeldShares
from tallyboard_server.replicas.news import Item, News
from tallyboard_server.replicas.replica import Replica

__all__ = ["HeldShares", "Item", "News", "Replica"]
