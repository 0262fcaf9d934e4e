"""What two nodes say to each other before, and besides, messages of the engine.

Each frame of `cluster.wire` is an array whose first element is its kind:

    [0, version, from, to, incarnation, state, cluster id or nil, voters, client, http, nonce,
     index, configuration]
    [1]                         ready: the dialler accepts too, the connection is live
    [2, text, cluster id or nil, index, configuration]
                                refused, and why; the connection ends
    [3, state, cluster id or nil, index, configuration]
                                bootstrap state, at once when live and whenever it changes
    [4]                         still here
    [5, message]                a message of `cluster.messages` in its list form
    [6, wall_ms, index, digest, disk low]   a report of `cluster.vitals`
    [7, version, from]          in place of a hello: who is there? answered with a hello, and the
                                connection ends (`cluster.inquiry`)

The dialler speaks first, the other side answers with its own hello or refuses, the dialler
says ready or refuses. Only then is anything else delivered.

`index` and `configuration` name the latest configuration of the cluster that the speaker
knows to be committed (`cluster.configuration`, opaque here): 0 and no bytes when it knows
none. A refusal carries them too, so that a node that was removed while it was away hears it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from cluster.identity import CLUSTER_ID_BYTES, BootstrapState
from cluster.messages import PeerProtocolError

PROTOCOL_VERSION = 2
CONFIGURATION_MAX_BYTES = 8448
_ADDRESS_MAX = 300
_VOTERS_MAX = 64
_NUMBER_MAX = 2**63 - 1


class Kind(IntEnum):
    """First element of a frame."""

    HELLO = 0
    READY = 1
    REFUSED = 2
    STATE = 3
    PING = 4
    MESSAGE = 5
    REPORT = 6
    QUESTION = 7


@dataclass(frozen=True, slots=True)
class Hello:
    """The first frame of either side.

    Attributes:
        node_id: Who speaks.
        to: Whom it believes to speak to.
        incarnation: Which start of its data directory this is.
        state: How far it has come in the first start of its cluster.
        cluster_id: 16 bytes, None while it knows no cluster.
        voters: All voters it is configured with, ascending; none for a node that joins a
            running cluster.
        client_address: Where its clients connect (host:port), "" when nowhere.
        http_address: Where its HTTP interface listens (host:port), "" when nowhere.
        nonce: 8 random bytes of this process; whoever meets its own has dialled itself.
        configuration_index: Index of the entry that made `configuration`, 0 for none.
        configuration: The latest committed configuration it knows, b"" for none.
        version: Version of this protocol.
    """

    node_id: int
    to: int
    incarnation: int
    state: BootstrapState
    cluster_id: bytes | None
    voters: tuple[int, ...]
    client_address: str
    http_address: str
    nonce: bytes
    version: int = PROTOCOL_VERSION
    configuration_index: int = 0
    configuration: bytes = b""

    def to_list(self) -> list[object]:
        """Return the wire form."""
        return [
            int(Kind.HELLO),
            *(self.version, self.node_id, self.to, self.incarnation, int(self.state)),
            *(self.cluster_id, list(self.voters), self.client_address, self.http_address),
            *(self.nonce, self.configuration_index, self.configuration),
        ]

    @classmethod
    def from_list(cls, form: list[object]) -> Hello:
        """Read the wire form.

        Raises:
            PeerProtocolError: It is not a hello. One of another version is one, whatever
                follows the number, so that the refusal can name both versions.
        """
        if len(form) < 3 or form[0] != Kind.HELLO:
            raise PeerProtocolError("expected a hello")
        version, node_id = _number(form[1]), _number(form[2])
        if version != PROTOCOL_VERSION:
            return cls(node_id, 0, 0, BootstrapState.EMPTY, None, (), "", "", b"", version)
        if len(form) != 13:
            raise PeerProtocolError("a hello has 13 elements")
        return cls(
            node_id=node_id,
            to=_number(form[3]),
            incarnation=_number(form[4]),
            state=state_of(form[5]),
            cluster_id=cluster_id_of(form[6]),
            voters=_voters(form[7]),
            client_address=_address(form[8]),
            http_address=_address(form[9]),
            nonce=_nonce(form[10]),
            configuration_index=_number(form[11]),
            configuration=_configuration(form[12]),
        )


class Standing(NamedTuple):
    """What a node says of itself and its cluster over a live connection.

    Attributes:
        state: How far it has come in the first start of its cluster.
        cluster_id: 16 bytes, None while it knows no cluster.
        configuration_index: See `Hello`.
        configuration: See `Hello`.
    """

    state: BootstrapState
    cluster_id: bytes | None
    configuration_index: int = 0
    configuration: bytes = b""

    def to_list(self) -> list[object]:
        """Return the wire form."""
        return [int(Kind.STATE), int(self.state), *self[1:]]

    @classmethod
    def from_list(cls, form: list[object]) -> Standing:
        """Read the wire form.

        Raises:
            PeerProtocolError: It is none.
        """
        if len(form) != 5:
            raise PeerProtocolError("a state has 5 elements")
        cluster_id = cluster_id_of(form[2])
        return cls(state_of(form[1]), cluster_id, _number(form[3]), _configuration(form[4]))


class Refused(NamedTuple):
    """Why a handshake ended, and what the refusing node knows of its cluster."""

    text: str
    cluster_id: bytes | None
    configuration_index: int = 0
    configuration: bytes = b""

    def to_list(self) -> list[object]:
        """Return the wire form."""
        return [int(Kind.REFUSED), *self]

    @classmethod
    def from_list(cls, form: list[object]) -> Refused:
        """Read the wire form. One of another version has two elements, and is one.

        Raises:
            PeerProtocolError: It is none.
        """
        if len(form) == 2:
            return cls(text_of(form[1]), None)
        if len(form) != 5:
            raise PeerProtocolError("a refusal has 5 elements")
        cluster_id = cluster_id_of(form[2])
        return cls(text_of(form[1]), cluster_id, _number(form[3]), _configuration(form[4]))


def question(me: int) -> list[object]:
    """Return the frame that asks who is there."""
    return [int(Kind.QUESTION), PROTOCOL_VERSION, me]


def asker_of(form: list[object]) -> int:
    """Return who asks in such a frame, of whatever version.

    Raises:
        PeerProtocolError: It is none.
    """
    if len(form) < 3:
        raise PeerProtocolError("a question has 3 elements")
    return _number(form[2])


def state_of(value: object) -> BootstrapState:
    """Check a bootstrap state from the wire.

    Raises:
        PeerProtocolError: It is none.
    """
    number = _number(value)
    if number > BootstrapState.BOOTSTRAPPED:
        raise PeerProtocolError("unknown bootstrap state")
    return BootstrapState(number)


def cluster_id_of(value: object) -> bytes | None:
    """Check a cluster id, or its absence, from the wire.

    Raises:
        PeerProtocolError: It is neither.
    """
    if value is None:
        return None
    if not isinstance(value, bytes) or len(value) != CLUSTER_ID_BYTES:
        raise PeerProtocolError(f"a cluster id has {CLUSTER_ID_BYTES} bytes")
    return value


def text_of(value: object) -> str:
    """Check a line of text from the wire; unprintable characters are escaped for the log.

    Raises:
        PeerProtocolError: It is no text.
    """
    if not isinstance(value, str):
        raise PeerProtocolError("expected text")
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in value)


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value <= _NUMBER_MAX:
        raise PeerProtocolError("expected a number")
    return value


def _voters(value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > _VOTERS_MAX:
        raise PeerProtocolError("expected a list of voters")
    return tuple(_number(voter) for voter in value)


def _address(value: object) -> str:
    text = text_of(value)
    if len(text) > _ADDRESS_MAX:
        raise PeerProtocolError("an address is too long")
    return text


def _nonce(value: object) -> bytes:
    if not isinstance(value, bytes) or len(value) != 8:
        raise PeerProtocolError("a nonce has 8 bytes")
    return value


def _configuration(value: object) -> bytes:
    if not isinstance(value, bytes) or len(value) > CONFIGURATION_MAX_BYTES:
        raise PeerProtocolError(f"a configuration has at most {CONFIGURATION_MAX_BYTES} bytes")
    return value
