"""Event files where nothing can be appended to: a generation is a row of immutable objects, in any fsspec file system.

Needs the extra `object-store` only when a location is opened.
"""
