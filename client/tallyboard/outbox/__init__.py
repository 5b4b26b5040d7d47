"""The ordered queue of batches between job and service, in memory and on disk, under one numbered stream."""
