"""What a planted bug is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import mock

from tests.simulation.options import Options
from tests.simulation.world import Parts

Place = tuple[Any, Any]
"""What is changed, a module, class or dictionary, and the name or key in it."""


@dataclass(frozen=True)
class Plant:
    """One bug.

    Attributes:
        name: Short.
        breaks: Hazards of docs/hazards.md, or what of the guarantees.
        parts: What nodes are made of.
        control: The same without the bug.
        places: What is replaced while a world plays.
        options: What is fixed of a seed's options; `timing` holds fields of Timing.
        chaos_s: Simulated seconds of faults.
        shape: The partition of `tests.simulation.partitions` to play instead of faults.
    """

    name: str
    breaks: str
    parts: Parts = field(default_factory=Parts)
    control: Parts = field(default_factory=Parts)
    places: tuple[tuple[Place, Any], ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    chaos_s: float = 60.0
    shape: str = ""

    def narrowed(self, seed: int) -> Options:
        """The options of a seed, narrowed."""
        changes = dict(self.options)
        options = Options.drawn(seed)
        timing = replace(options.timing, **changes.pop("timing", {}))
        return replace(options, **changes, timing=timing)

    @contextmanager
    def planted(self) -> Iterator[None]:
        """Replace what is to be replaced, and put it back."""
        with ExitStack() as stack:
            for (owner, name), value in self.places:
                if isinstance(owner, dict):
                    stack.enter_context(mock.patch.dict(owner, {name: value}))
                else:
                    stack.enter_context(mock.patch.object(owner, name, value))
            yield
