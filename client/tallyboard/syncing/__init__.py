"""`tallyboard sync`: what jobs have left on this machine's disk goes to a service."""
