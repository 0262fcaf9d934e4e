"""One HTML page of a run, with nothing to load: `report.html`."""

from __future__ import annotations

from chaos.report.page import page

__all__ = ["page"]
