"""The event loop that what is measured with runs in: the faster one, where it is installed."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Coroutine
from typing import Any, TypeVar

Answer = TypeVar("Answer")


def run_loop(work: Coroutine[Any, Any, Answer]) -> Answer:
    """Run a coroutine to its end."""
    factory = asyncio.new_event_loop
    if importlib.util.find_spec("uvloop"):
        factory = importlib.import_module("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work)
