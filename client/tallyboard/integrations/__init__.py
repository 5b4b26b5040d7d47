"""Other tools and frameworks, mapped to runs and counters: one module each, imported by its users alone."""
