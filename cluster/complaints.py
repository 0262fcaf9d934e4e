"""What is wrong with the connections to peers: counted always, logged once."""

from __future__ import annotations

import logging
from collections import Counter

from cluster.refusals import Refusal

_SUBJECTS_MAX = 256

_log = logging.getLogger(__name__)


class Complaints:
    """Counts refusals by reason, and logs a difficulty once, until it changes.

    Attributes:
        counts: Refusals since the start, by reason (`cluster.refusals.Reason`).
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._said: dict[str, str] = {}

    def tell(self, subject: str, text: str) -> None:
        """Log a text, unless it is the last one of its subject.

        A stranger who comes from ever new places makes ever new subjects: beyond a bound
        all are forgotten.
        """
        if self._said.get(subject) == text:
            return
        if len(self._said) >= _SUBJECTS_MAX:
            self._said.clear()
        self._said[subject] = text
        _log.warning("%s", text)

    def settle(self, subject: str) -> None:
        """Let the same text be logged anew: the difficulty was over."""
        self._said.pop(subject, None)

    def count(self, refusal: Refusal) -> None:
        """Count one refused connection."""
        self.counts[refusal.reason] += 1
