"""Frameworks' own hooks, mapped to counters, reports and rewinds: one module a framework, imported by its users alone."""
