"""Event files as files of a directory: each generation is one file, which is appended to."""
