"""How one configuration value is read, whether it came from YAML, a variable or a flag.

YAML values arrive typed and are taken strictly: ``port: "7401"`` and ``max_connections:
true`` are mistakes. Environment variables and flags can only be text, so their values
arrive as `Text` and are converted.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, NamedTuple, TypeVar

from pydantic import BeforeValidator, PlainValidator

from node.addresses import Address, parse_host
from node.quantities import Duration, Size

VOTER_ID_MAX = 65_535

T = TypeVar("T")
Q = TypeVar("Q", Duration, Size)


class Text(str):
    """A value from a source that knows only text."""

    __slots__ = ()


class TlsFiles(NamedTuple):
    """Where a node's certificates are.

    Attributes:
        ca: Certificates of the authorities whose nodes are accepted.
        certificate: This node's.
        key: Its private key.
    """

    ca: Path
    certificate: Path
    key: Path

    def __str__(self) -> str:
        return ",".join(f"{name}={path}" for name, path in self._asdict().items())


class PortTlsFiles(NamedTuple):
    """Where the certificate is that a port shows to clients.

    Attributes:
        certificate: Of this node, for the names that clients use for it.
        key: Its private key.
    """

    certificate: Path
    key: Path

    def __str__(self) -> str:
        return ",".join(f"{name}={path}" for name, path in self._asdict().items())


def shown(value: object) -> str:
    """A value as it may appear in a message: one line, short, no control characters."""
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(str(value)) if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _wrong(sentence: str, value: object) -> ValueError:
    return ValueError(f"{sentence}, not {shown(value)}")


def whole(least: int, most: int) -> PlainValidator:
    """A whole number from ``least`` to ``most``."""

    def read(value: object) -> int:
        number = value
        if isinstance(value, Text) and re.fullmatch(r"-?(?:0|[1-9][0-9]{0,17})", value, re.ASCII):
            number = int(value)
        if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= most:
            raise _wrong(f"must be a whole number from {least} to {most}", value)
        return number

    return PlainValidator(read)


def duration(least: str, most: str) -> PlainValidator:
    """A `Duration` from ``least`` to ``most``."""
    low, high = Duration.parse(least), Duration.parse(most)

    def read(value: object) -> Duration:
        return _within(value, low=low, high=high)

    return PlainValidator(read)


def size(least: str, most: str) -> PlainValidator:
    """A `Size` from ``least`` to ``most``."""
    low, high = Size.parse(least), Size.parse(most)

    def read(value: object) -> Size:
        return _within(value, low=low, high=high)

    return PlainValidator(read)


def duration_range(least: str, most: str) -> PlainValidator:
    """Two durations ``[MIN, MAX]``; a single one means that and twice as much."""
    low, high = Duration.parse(least), Duration.parse(most)

    def read(value: object) -> tuple[Duration, Duration]:
        parts = value.split(",") if isinstance(value, Text) else value
        if not isinstance(parts, list | tuple):
            parts = [parts]
        if len(parts) not in {1, 2}:
            raise _wrong("must be [MIN, MAX], such as [500ms, 1s]", value)
        ends = [
            _within(part.strip() if isinstance(part, str) else part, low=low, high=high)
            for part in parts
        ]
        first = ends[0]
        last = ends[1] if len(ends) == 2 else Duration(2 * first.ms)
        if last <= first:
            raise ValueError(f"the second must be longer than the first, not {first} and {last}")
        return first, last

    return PlainValidator(read)


def choice(names: Collection[str]) -> PlainValidator:
    """One of some words."""

    def read(value: object) -> str:
        if not isinstance(value, str) or value.lower() not in names:
            raise _wrong(f"must be one of {', '.join(names)}", value)
        return value.lower()

    return PlainValidator(read)


def _within(value: object, *, low: Q, high: Q) -> Q:
    kind = type(low)
    if isinstance(value, kind):
        quantity = value
    else:
        try:
            # A number gets the same answer as text without a unit.
            quantity = kind.parse(value if isinstance(value, str) else "")
        except ValueError as error:
            raise _wrong(f"{error}", value) from None
    if not low <= quantity <= high:
        raise _wrong(f"must be from {low} to {high}", value)
    return quantity


def _truth(value: object) -> bool:
    if isinstance(value, Text):
        value = {"true": True, "false": False}.get(value.lower(), value)
    if not isinstance(value, bool):
        raise _wrong("must be true or false", value)
    return value


def size_or_auto(least: str, most: str) -> PlainValidator:
    """A `Size` from ``least`` to ``most``, or None for ``auto``."""
    low, high = Size.parse(least), Size.parse(most)

    def read(value: object) -> Size | None:
        if value is None or (isinstance(value, str) and value.lower() == "auto"):
            return None
        return _within(value, low=low, high=high)

    return PlainValidator(read)


def _truth_or_auto(value: object) -> bool | None:
    if value is None or (isinstance(value, str) and value.lower() == "auto"):
        return None
    try:
        return _truth(value)
    except ValueError:
        raise _wrong("must be auto, true or false", value) from None


def _host(value: object) -> str:
    if not isinstance(value, str):
        raise _wrong("must be a host name or an IP address", value)
    return parse_host(value)


def _directory(value: object) -> Path:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise _wrong("must be the path of a directory", value)
    return Path(str(value)).expanduser()


def _file(value: object) -> Path:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise _wrong("must be the path of a file", value)
    return Path(str(value)).expanduser()


def _tls_files(value: object) -> TlsFiles | None:
    if value is None or isinstance(value, TlsFiles):
        return value
    return TlsFiles(**_named_files(value, TlsFiles._fields))


def _port_tls_files(value: object) -> PortTlsFiles | None:
    if value is None or isinstance(value, PortTlsFiles):
        return value
    return PortTlsFiles(**_named_files(value, PortTlsFiles._fields))


def _named_files(value: object, names: tuple[str, ...]) -> dict[str, Path]:
    """Read `name=FILE,...` or a mapping that names exactly these files."""
    several = " and ".join((", ".join(names[:-1]), names[-1]))
    if isinstance(value, str):
        parts = [part.strip().partition("=") for part in value.split(",")]
        value = {name: path for name, equals, path in parts if equals}
        if len(value) != len(parts):
            raise ValueError(f"must be {','.join(f'{name}=FILE' for name in names)}")
    if not isinstance(value, dict):
        raise _wrong(f"must name the files {several}", value)
    for name in value:
        if name not in names:
            near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.3)
            hint = f" (did you mean '{near[0]}'?)" if near else ""
            raise ValueError(f"does not know {shown(name)}{hint}: it names {', '.join(names)}")
    for name in names:
        if name not in value:
            raise ValueError(f"lacks '{name}': it names {several}")
    return {name: _file(value[name]) for name in names}


def _peer_address(value: object) -> Address:
    if isinstance(value, Address):
        return value
    if not isinstance(value, str):
        raise _wrong("must be HOST:PORT", value)
    address = Address.parse(value)
    if address.port == 0:
        raise ValueError("the port must not be 0: other nodes need to know it")
    return address


def _optional(read: Callable[[object], T]) -> Callable[[object], T | None]:
    return lambda value: None if value is None else read(value)


def _split_peers(value: object) -> object:
    """Read ``1=HOST:PORT,2=HOST:PORT``; anything else is left to the mapping's own check."""
    if isinstance(value, dict):
        # The keys of a YAML mapping are read as text, whatever they look like.
        return {Text(name) if isinstance(name, str) else name: at for name, at in value.items()}
    if not isinstance(value, str):
        raise _wrong("must map node ids to HOST:PORT", value)
    peers: dict[Text, Text] = {}
    for part in value.split(","):
        name, equals, address = part.strip().partition("=")
        if not equals:
            raise _wrong("must be ID=HOST:PORT,ID=HOST:PORT,...", value)
        if Text(name) in peers:
            raise ValueError(f"names node {name} twice")
        peers[Text(name)] = Text(address)
    return peers


Truth = Annotated[bool, PlainValidator(_truth)]
TruthOrAuto = Annotated[bool | None, PlainValidator(_truth_or_auto)]
Host = Annotated[str, PlainValidator(_host)]
OptionalHost = Annotated[str | None, PlainValidator(_optional(_host))]
Port = Annotated[int, whole(0, 65_535)]
OptionalPort = Annotated[int | None, PlainValidator(_optional(whole(1, 65_535).func))]
Directory = Annotated[Path, PlainValidator(_directory)]
OptionalDirectory = Annotated[Path | None, PlainValidator(_optional(_directory))]
PeerAddress = Annotated[Address, PlainValidator(_peer_address)]
OptionalAddress = Annotated[Address | None, PlainValidator(_optional(_peer_address))]
OptionalTlsFiles = Annotated[TlsFiles | None, PlainValidator(_tls_files)]
OptionalPortTlsFiles = Annotated[PortTlsFiles | None, PlainValidator(_port_tls_files)]
OptionalFile = Annotated[Path | None, PlainValidator(_optional(_file))]
NodeId = Annotated[int, whole(1, VOTER_ID_MAX)]
Peers = Annotated[dict[NodeId, PeerAddress], BeforeValidator(_split_peers)]
