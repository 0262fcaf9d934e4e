"""How clients get in: what they trust, and what proves who they are."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tq import Client


@dataclass(frozen=True, slots=True)
class Access:
    """What a client is given; nothing where nodes are on loopback and ask for nothing.

    Attributes:
        ca: File with the certificate of the cluster's authority.
        token: Proves who is asking.
    """

    ca: str = ""
    token: str = ""

    def client(
        self,
        servers: str,
        *,
        name: str,
        deadline: str | float = "10s",
        rng: random.Random | None = None,
    ) -> Client:
        """Return a client; the arguments are those of `tq.Client`."""
        ca, token = self.ca or None, self.token or None
        return Client(servers, ca=ca, token=token, name=name, deadline=deadline, rng=rng)
