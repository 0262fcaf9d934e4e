"""Entries of format version 1, and what they lead to."""
