"""What ends a world."""

from __future__ import annotations


class Violation(AssertionError):  # noqa: N818  # it names what was found
    """Something that must hold did not."""
