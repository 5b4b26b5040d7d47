"""Frameworks' own hooks, mapped to counters, reports and rewinds: a module each, which its users alone import."""
