"""Frameworks and other tools, mapped to counters, reports and rewinds: one module each, imported by its users alone."""
