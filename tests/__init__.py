"""Tests of the whole tree, by level; see docs/ARCHITECTURE.md."""
