"""Mutated bytes for every decoder; `python -m tests.fuzz` runs it for minutes."""
