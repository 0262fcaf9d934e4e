"""Stories about one hazard each, told twice.

A story plays one situation on a bench of engines of a given class and raises
AssertionError when it ends badly. It must end well with `Engine`, and badly with the class
that lacks the one rule it is about. `tests/unit/cluster/test_stock_hazards.py` shows the
same hazards on the unmodified SyncObj.
"""

from __future__ import annotations

from collections.abc import Callable

from cluster.engine import Engine

Story = Callable[[type[Engine]], None]


def name_of(value: object) -> str:
    """The name of a story or a class, for the test's id."""
    return getattr(value, "__name__", str(value))
