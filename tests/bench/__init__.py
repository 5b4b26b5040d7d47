"""The benchmark: what the service does a second, how fast it answers, and what that takes, in one table."""
