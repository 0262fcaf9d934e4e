"""Lets clients in, or not: the token of a HELLO or of an HTTP request, and who it stands for.

A refusal is not told at once: each guess costs its connection `REFUSAL_DELAY_S`, and
connections are counted, so guessing has a bound besides the length of the tokens.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Final

from node.tokens import Identity, Role, Tokens

REFUSAL_DELAY_S: Final = 0.5
_TOLD_EVERY_S: Final = 60.0
REASONS: Final = ("no_token", "wrong_token", "role", "tls", "in_the_clear", "http")
"""Why somebody was not let in, as metrics name it."""

NOBODY: Final = Identity("", Role.ADMIN)
"""Everybody, where there are no tokens."""

_LOG = logging.getLogger(__name__)
_HOW = (
    "give the client one that is in this node's auth.tokens_file (TQ_TOKEN or TQ_TOKEN_FILE, or "
    "token= in Python); 'tq-node tokens new' makes them"
)


class Gate:
    """Decides who is let in.

    Args:
        tokens: Those of the node; None lets everybody do everything.
        now_s: The monotonic clock, seconds.
    """

    def __init__(
        self, tokens: Tokens | None = None, *, now_s: Callable[[], float] = lambda: 0.0
    ) -> None:
        self._tokens = tokens
        self._now_s = now_s
        self._refusals: Counter[str] = Counter()
        self._untold: Counter[str] = Counter()
        self._told_s: float | None = None
        self._waiting: deque[tuple[float, Callable[[], None]]] = deque()

    @property
    def refusals(self) -> Mapping[str, int]:
        """How many were refused so far, by reason."""
        return self._refusals

    @property
    def is_open(self) -> bool:
        """Whether nobody needs a token."""
        return self._tokens is None

    def admit(self, token: str | None) -> Identity | str:
        """Return whom the token of a HELLO stands for, or why it is refused."""
        if self._tokens is None:
            return NOBODY
        if not token:
            self.refused("no_token")
            return f"this node wants a token: {_HOW}"
        identity = self._tokens.find(token)
        if identity is None:
            self.refused("wrong_token")
            return f"this node does not know the token: {_HOW}"
        if identity.role is Role.METRICS:
            self.refused("role")
            return (
                f"the token of {identity.principal} has the role metrics, which is for HTTP alone"
            )
        return identity

    def admits_reader(self, token: str) -> bool:
        """Whether what needs a token may be read over HTTP with this one."""
        if self._tokens is None or self._tokens.find(token) is not None:
            return True
        self.refused("http")
        return False

    def refused(self, reason: str) -> None:
        """Count somebody who was not let in; the log hears of it once a minute at most."""
        self._refusals[reason] += 1
        self._untold[reason] += 1
        now_s = self._now_s()
        if self._told_s is None or now_s - self._told_s >= _TOLD_EVERY_S:
            self._told_s = now_s
            told = ", ".join(f"{name} {count}" for name, count in self._untold.items())
            self._untold.clear()
            _LOG.warning("clients were not let in: %s", told)

    def later(self, tell: Callable[[], None]) -> None:
        """Have a refusal told by the first `tick` after the delay."""
        self._waiting.append((self._now_s() + REFUSAL_DELAY_S, tell))

    def tick(self) -> None:
        """Tell the refusals whose delay is over."""
        now_s = self._now_s()
        while self._waiting and self._waiting[0][0] <= now_s:
            self._waiting.popleft()[1]()
