"""Lines and bars over time, as SVG within a page. All text is escaped here."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Final

WIDTH: Final = 1160
LEFT: Final = 150
RIGHT: Final = 20
ROW: Final = 16
_TICKS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
_TICKS_MAX: Final = 14


class Drawing:
    """A picture that grows downwards, with time from left to right.

    Args:
        seconds: How much time there is.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._parts: list[str] = []
        self.height = 0.0

    def x(self, second: float) -> float:
        """Return where a moment is."""
        within = min(max(second, 0.0), self._seconds)
        return LEFT + within / self._seconds * (WIDTH - LEFT - RIGHT)

    def heading(self, text: str) -> None:
        """Write a line of text, and begin a panel under it."""
        self.height += 30
        self._text(4, self.height - 8, text, "heading")

    def bars(self, label: str, bars: Iterable[tuple[float, float, str, str]]) -> None:
        """Draw a row of bars: begin, end, class, and what is told when one points at it."""
        top = self.height
        self._text(4, top + ROW - 4, label, "label")
        for begins, ends, kind, told in bars:
            left, right = self.x(begins), self.x(ends)
            self._parts.append(
                f'<rect class="{kind}" x="{left:.1f}" y="{top + 2:.1f}" '
                f'width="{max(2.0, right - left):.1f}" height="{ROW - 4}">'
                f"<title>{escape(told)}</title></rect>"
            )
        self.height += ROW

    def shades(self, top: float, spans: Iterable[tuple[float, float, str]]) -> None:
        """Shade times from `top` down to here."""
        for begins, ends, told in spans:
            left, right = self.x(begins), self.x(ends)
            self._parts.append(
                f'<rect class="gap" x="{left:.1f}" y="{top:.1f}" '
                f'width="{max(1.0, right - left):.1f}" height="{self.height - top:.1f}">'
                f"<title>{escape(told)}</title></rect>"
            )

    def lines(
        self,
        lines: Sequence[tuple[str, str, Sequence[tuple[float, float | None]]]],
        *,
        height: int,
        unit: str,
        logarithmic: bool = False,
    ) -> None:
        """Draw lines: class, name, and points (second, value), broken where the value is None."""
        values = [value for _, _, points in lines for _, value in points if value is not None]
        high = max(values, default=1.0) or 1.0
        top = self.height
        scale: Callable[[float], float]
        if logarithmic:
            floor = 0.5
            decades = math.log10(max(high, floor * 10) / floor)
            marks = [10.0**power for power in range(6) if 10.0**power <= high]

            def scale(value: float) -> float:
                return top + height * (1 - math.log10(max(value, floor) / floor) / decades)
        else:
            marks = [0.0, high / 2, high]

            def scale(value: float) -> float:
                return top + height * (1 - value / high)

        for mark in marks:
            at = scale(mark)
            self._parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
            self._text(LEFT - 6, at + 4, f"{mark:,.0f} {unit}", "mark")
        for number, (kind, name, points) in enumerate(lines):
            self._text(4, top + 12 + 14 * number, name, f"label {kind}-text")
            self._parts.append(f'<path class="{kind}" d="{self._path(points, scale)}"/>')
        self.height += height + 6

    def _path(
        self, points: Iterable[tuple[float, float | None]], scale: Callable[[float], float]
    ) -> str:
        steps: list[str] = []
        pen = "M"
        for second, value in points:
            if value is None:
                pen = "M"
                continue
            steps.append(f"{pen}{self.x(second):.1f} {scale(value):.1f}")
            pen = "L"
        return "".join(steps)

    def axis(self) -> None:
        """Write the time under what was drawn."""
        step = next(
            (tick for tick in _TICKS if self._seconds / tick <= _TICKS_MAX),
            self._seconds / _TICKS_MAX,
        )
        self.height += 16
        second = 0.0
        while second <= self._seconds:
            minutes, rest = divmod(round(second), 60)
            told = f"{minutes}:{rest:02}"
            self._text(self.x(second), self.height - 2, told, "tick")
            second += step

    def _text(self, x: float, y: float, text: str, kind: str) -> None:
        self._parts.append(f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>')

    def svg(self) -> str:
        """Return the picture."""
        return (
            f'<svg viewBox="0 0 {WIDTH} {self.height + 6:.0f}" role="img" '
            f'aria-label="the run over time">{"".join(self._parts)}</svg>'
        )
