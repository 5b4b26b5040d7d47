"""The step contract: the pure rules by which a batch of reports becomes part of a run's history, or is refused."""
