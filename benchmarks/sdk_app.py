"""The app of the SDK figures: tasks that do nothing."""

from __future__ import annotations

import time

from tq import App

app = App(deadline="60s")


@app.task
def noop(payload: str) -> None:
    """Do nothing with a payload."""
    del payload


@app.task
async def began() -> int:
    """Tell when the handler started: the machine's monotonic clock, nanoseconds."""
    return time.monotonic_ns()
