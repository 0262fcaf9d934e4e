"""The requests that never enter the log, checked field by field.

Logged requests are checked by the machine's own codec, the same at the door and at
apply; these are answered from the leader's memory and are checked here.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, cast

from cluster.configuration import AddLearner, Change, Promote, Remove
from node.addresses import Address
from statemachine import TaskState, Wanted
from tq.errors import ProtocolError
from tq.protocol import (
    LIST_DEFAULT,
    LIST_MAX,
    TASK_ID_BYTES,
    VERSION,
    WAIT_MAX_MS,
    Code,
    is_name,
    unpack,
)

_TOKENS_MAX: Final = 10_000
_CLIENT_NAME_MAX: Final = 128
_STATS_MAX: Final = 32
_TOKEN_LIMIT: Final = 2**63
NODE_ID_MAX: Final = 65_535
_HELLO_OPTIONS: Final = frozenset({"namespace", "token"})
_READ_OPTIONS: Final = frozenset({"consistency", "at_least"})
_STATES: Final = [one.value for one in TaskState]
_LIST_OPTIONS: Final = _READ_OPTIONS | {"queue", "states", "after", "limit"}
_CONSISTENCIES: Final = ("linearizable", "stale")


class RequestError(Exception):
    """A request that is refused at the door; becomes a NACK.

    Args:
        code: Of the wire protocol.
        text: What is wrong, for people.
        request_id: Of the request; 0 when it could not be read.
        retry_after_ms: When it may be tried again; None means not as it is.
    """

    def __init__(
        self, code: str, text: str, *, request_id: int = 0, retry_after_ms: int | None = None
    ) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.request_id = request_id
        self.retry_after_ms = retry_after_ms


class NoRoomError(RequestError):
    """A refusal that rests on the state of the queues: only who leads may give it.

    A leader that was deposed and has not heard of it knows less than was accepted.
    """


class Hello(NamedTuple):
    """The first request of a connection."""

    request_id: int
    client_name: str
    namespace: str
    token: str | None


class Heartbeat(NamedTuple):
    """A worker's sign of life, with the tokens it holds."""

    request_id: int
    session: int
    tokens: list[int]
    stats: dict[str, int | float | str]


class StatusQuery(NamedTuple):
    """QUERY_STATUS.

    Attributes:
        request_id: The client's number for it.
        task_id: Of the task.
        is_stale: Whether any node may answer from the state it has.
        at_least: Applied index that a stale answer must not be older than.
    """

    request_id: int
    task_id: bytes
    is_stale: bool
    at_least: int


class ListQuery(NamedTuple):
    """LIST_TASKS.

    Attributes:
        request_id: The client's number for it.
        wanted: Which tasks, and how many.
        is_stale: Whether any node may answer from the state it has.
        at_least: Applied index that a stale answer must not be older than.
    """

    request_id: int
    wanted: Wanted
    is_stale: bool
    at_least: int


class WaitQuery(NamedTuple):
    """WAIT_RESULT with how long to wait, milliseconds."""

    request_id: int
    task_id: bytes
    wait_ms: int


def parse_hello(body: bytes) -> Hello:
    """Read HELLO.

    Raises:
        RequestError: MALFORMED or BAD_REQUEST.
    """
    fields = _fields(body, least=4, most=4)
    request_id, version, name, options = fields
    _require(version == VERSION, request_id, f"protocol_version must be {VERSION}")
    _require(
        isinstance(name, str) and len(name) <= _CLIENT_NAME_MAX,
        request_id,
        f"client_name must be text of at most {_CLIENT_NAME_MAX} characters",
    )
    _require_options(options, _HELLO_OPTIONS, request_id)
    namespace = options.get("namespace", "default")
    token = options.get("token")
    _require(is_name(namespace), request_id, "options: namespace must be a name")
    _require(
        token is None or isinstance(token, str), request_id, "options: token must be text or nil"
    )
    return Hello(request_id, name, namespace, token)


def parse_heartbeat(body: bytes) -> Heartbeat:
    """Read HEARTBEAT.

    Raises:
        RequestError: MALFORMED or BAD_REQUEST.
    """
    fields = _fields(body, least=3, most=4)
    request_id, session, tokens = fields[:3]
    stats = fields[3] if len(fields) == 4 else {}
    _require(_is_token(session), request_id, "session must be an unsigned number")
    _require(
        isinstance(tokens, list) and len(tokens) <= _TOKENS_MAX and all(map(_is_token, tokens)),
        request_id,
        f"tokens must be at most {_TOKENS_MAX} unsigned numbers",
    )
    _require(
        isinstance(stats, dict) and len(stats) <= _STATS_MAX and all(map(_is_fact, stats.items())),
        request_id,
        f"stats must be a map of at most {_STATS_MAX} names to numbers or short texts",
    )
    return Heartbeat(request_id, session, tokens, stats)


def parse_query(body: bytes) -> StatusQuery:
    """Read QUERY_STATUS.

    Raises:
        RequestError: MALFORMED or BAD_REQUEST.
    """
    fields = _fields(body, least=2, most=3)
    request_id, task_id = fields[:2]
    options = fields[2] if len(fields) == 3 else {}
    _require_task_id(task_id, request_id)
    _require_options(options, _READ_OPTIONS, request_id)
    is_stale, at_least = _consistency(options, request_id)
    return StatusQuery(request_id, task_id, is_stale, at_least)


def parse_list(body: bytes, namespace: str) -> ListQuery:
    """Read LIST_TASKS of a connection of the namespace.

    Raises:
        RequestError: MALFORMED or BAD_REQUEST.
    """
    fields = _fields(body, least=1, most=2)
    request_id = fields[0]
    options = fields[1] if len(fields) == 2 else {}
    _require_options(options, _LIST_OPTIONS, request_id)
    is_stale, at_least = _consistency(options, request_id)
    queue, states = options.get("queue"), options.get("states", _STATES)
    after, limit = options.get("after", b""), options.get("limit", LIST_DEFAULT)
    _require(queue is None or is_name(queue), request_id, "options: queue must be a name")
    _require(
        isinstance(states, list) and states != [] and all(one in _STATES for one in states),
        request_id,
        f"options: states must be one or more of {', '.join(_STATES)}",
    )
    _require(
        isinstance(after, bytes) and len(after) in (0, TASK_ID_BYTES),
        request_id,
        f"options: after must be {TASK_ID_BYTES} bytes, or none",
    )
    _require(_is_count(limit), request_id, f"options: limit must be 1..{LIST_MAX}")
    # Each once: a node compares every task it looks at with all of them.
    asked = [TaskState(one) for one in dict.fromkeys(states)]
    return ListQuery(request_id, Wanted(namespace, queue, asked, after, limit), is_stale, at_least)


def parse_log(body: bytes) -> tuple[int, int, int]:
    """Read LOG_HASHES; return its request id, the first index and how many.

    Raises:
        RequestError: MALFORMED or BAD_REQUEST.
    """
    request_id, from_index, limit = _fields(body, least=3, most=3)
    _require(_is_token(from_index), request_id, "from_index must be an unsigned number")
    _require(_is_count(limit), request_id, f"limit must be 1..{LIST_MAX}")
    return request_id, from_index, limit


def parse_wait(body: bytes) -> WaitQuery:
    """Read WAIT_RESULT.

    Raises:
        RequestError: MALFORMED or BAD_REQUEST.
    """
    request_id, task_id, wait_ms = _fields(body, least=3, most=3)
    _require_task_id(task_id, request_id)
    _require(
        type(wait_ms) is int and 0 <= wait_ms <= WAIT_MAX_MS,
        request_id,
        f"wait_ms must be 0..{WAIT_MAX_MS}",
    )
    return WaitQuery(request_id, task_id, wait_ms)


def parse_change(body: bytes) -> tuple[int, Change]:
    """Read CHANGE_MEMBERS; return its request id and what is wanted.

    Raises:
        RequestError: MALFORMED or BAD_REQUEST.
    """
    request_id, verb, node_id, address = _fields(body, least=4, most=4)
    _require(
        type(node_id) is int and 1 <= node_id <= NODE_ID_MAX,
        request_id,
        f"node_id must be 1..{NODE_ID_MAX}",
    )
    _require(isinstance(address, str), request_id, "address must be text")
    if verb == "add":
        try:
            peer = Address.parse(address)
        except ValueError as error:
            raise RequestError(
                Code.BAD_REQUEST, f"address: {error}", request_id=request_id
            ) from None
        _require(peer.port > 0, request_id, "address: the port must not be 0")
        return request_id, AddLearner(node_id, (peer.host, peer.port))
    _require(verb in ("promote", "remove"), request_id, "verb must be add, promote or remove")
    _require(address == "", request_id, f'address must be "" to {verb} a node')
    return request_id, Promote(node_id) if verb == "promote" else Remove(node_id)


def parse_bare(body: bytes) -> int:
    """Read a request that is nothing but its id; return that.

    Raises:
        RequestError: MALFORMED or BAD_REQUEST.
    """
    request_id: int = _fields(body, least=1, most=1)[0]
    return request_id


def request_id_of(body: bytes) -> int:
    """Read the request id alone, for a refusal.

    Raises:
        RequestError: MALFORMED.
    """
    request_id: int = _open(body)[0]
    return request_id


def _open(body: bytes) -> list[Any]:
    try:
        return unpack(body)
    except ProtocolError as error:
        raise RequestError(Code.MALFORMED, str(error)) from None


def _fields(body: bytes, *, least: int, most: int) -> list[Any]:
    fields = _open(body)
    request_id = fields[0]
    wanted = str(least) if least == most else f"{least} to {most}"
    _require(
        least <= len(fields) <= most,
        request_id,
        f"the request has {len(fields)} fields instead of {wanted}",
    )
    return fields


def _require(condition: bool, request_id: int, text: str) -> None:
    if not condition:
        raise RequestError(Code.BAD_REQUEST, text, request_id=request_id)


def _require_options(options: object, known: frozenset[str], request_id: int) -> None:
    _require(isinstance(options, dict), request_id, "options must be a map")
    for option in cast("dict[object, object]", options):
        _require(option in known, request_id, f"options: unknown key {str(option)[:80]!r}")


def _consistency(options: dict[str, Any], request_id: int) -> tuple[bool, int]:
    """Return whether a stale answer will do, and the index it must not be older than."""
    consistency = options.get("consistency", _CONSISTENCIES[0])
    _require(
        consistency in _CONSISTENCIES,
        request_id,
        f"options: consistency must be one of {', '.join(_CONSISTENCIES)}",
    )
    is_stale = consistency == "stale"
    at_least = options.get("at_least", 0)
    _require(
        _is_token(at_least) and (is_stale or "at_least" not in options),
        request_id,
        "options: at_least must be an unsigned number, and only with consistency stale",
    )
    return is_stale, at_least


def _require_task_id(task_id: object, request_id: int) -> None:
    _require(
        isinstance(task_id, bytes) and len(task_id) == TASK_ID_BYTES,
        request_id,
        f"task_id must be {TASK_ID_BYTES} bytes",
    )


def _is_token(value: object) -> bool:
    return type(value) is int and 0 <= value < _TOKEN_LIMIT


def _is_count(value: object) -> bool:
    return type(value) is int and 1 <= value <= LIST_MAX


def _is_fact(item: tuple[object, object]) -> bool:
    name, value = item
    return (
        isinstance(name, str)
        and len(name) <= 64
        and (isinstance(value, int | float) or (isinstance(value, str) and len(value) <= 256))
    )
