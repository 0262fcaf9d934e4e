"""Who has which address behind the switch: a network of 256 that is nobody's (RFC 5737)."""

from __future__ import annotations

from typing import Final

from chaos.links import CLIENTS

NETWORK: Final = bytes((192, 0, 2))
_CLIENTS_NUMBER: Final = 254
NODE_ID_MAX: Final = 253


def address(who: int) -> str:
    """Return the address of a node, or of `CLIENTS`.

    Raises:
        ValueError: The network has none for it.
    """
    if not 0 <= who <= NODE_ID_MAX:
        raise ValueError(f"there is no address for node {who}")
    return ".".join(map(str, (*NETWORK, _CLIENTS_NUMBER if who == CLIENTS else who)))


def whose(number: int) -> int:
    """Return who has the address that ends with a number."""
    return CLIENTS if number == _CLIENTS_NUMBER else number
