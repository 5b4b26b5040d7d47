"""Where runs are kept for good: the protocol of a store, the embedded SQLite store, and merging of blocks."""
