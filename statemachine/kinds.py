"""What tasks have in common: where they go, what they are called, how they behave.

A million tasks of one sort share one `Kind`. Building it is where names and
options are validated, so a task of a known kind is validated by one look-up.
The memory of kinds is a pure memo: it never changes an outcome, only its cost.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple, cast

from statemachine.types import LIMITS, Code, Invalid, QueueKey, tier_of

NAME: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}", re.ASCII)
KINDS_REMEMBERED_MAX: Final = 16_384


class Policy(NamedTuple):
    """The options of a task with every default filled in; spans in milliseconds."""

    priority: int = 100
    delay_ms: int = 0
    retry_max: int = 5
    """Failures allowed beyond the first try."""
    retry_base_ms: int = 2000
    retry_cap_ms: int = 600_000
    lost_max: int = 3
    """Lost leases allowed before the task is a dead letter."""
    lease_ms: int = 0
    """0 stands for the cluster's setting at the time of the claim."""
    timeout_ms: int = 0
    """Execution timeout told to the worker; 0 is none."""


_RANGES: Final[dict[str, tuple[int, int]]] = {
    "priority": (0, LIMITS.priority_max),
    "delay_ms": (0, LIMITS.span_ms_max),
    "retry_max": (0, LIMITS.retry_max),
    "retry_base_ms": (1, LIMITS.span_ms_max),
    "retry_cap_ms": (1, LIMITS.span_ms_max),
    "lost_max": (0, LIMITS.lost_max),
    "lease_ms": (LIMITS.lease_ms_min, LIMITS.lease_ms_max),
    "timeout_ms": (0, LIMITS.span_ms_max),
}

OptionItems = tuple[tuple[object, object], ...]


class Kind:
    """Everything two tasks share when they differ only in id and payload.

    Attributes:
        options: The options that differ from their defaults, sorted by name: the
            canonical form that records hold and content is compared by.
        content_prefix: What is hashed ahead of the payload to compare contents.
    """

    __slots__ = (
        "content_prefix",
        "delay_ms",
        "lease_ms",
        "name",
        "namespace",
        "options",
        "policy",
        "priority",
        "queue",
        "queue_key",
        "tier",
        "timeout_ms",
    )

    def __init__(self, namespace: str, queue: str, name: str, policy: Policy) -> None:
        self.namespace = namespace
        self.queue = queue
        self.name = name
        self.policy = policy
        self.queue_key: QueueKey = (namespace, queue)
        self.priority = policy.priority
        self.delay_ms = policy.delay_ms
        self.lease_ms = policy.lease_ms
        self.timeout_ms = policy.timeout_ms
        self.tier = int(tier_of(policy.priority))
        self.options: tuple[tuple[str, int], ...] = tuple(
            (field, value)
            for field, value in sorted(policy._asdict().items())
            if value != Policy._field_defaults[field]
        )
        spelled = "\0".join(f"{field}={value}" for field, value in self.options)
        # Names cannot hold a NUL, so two different kinds never spell the same prefix.
        self.content_prefix = f"{namespace}\0{queue}\0{name}\0{spelled}\0\0".encode()


def kind_of(namespace: str, queue: object, name: object, options: object) -> Kind:
    """Return the shared kind of a submission, validating what was not seen before.

    Args:
        namespace: Already validated.
        queue: As the client sent it.
        name: The task's name, as the client sent it.
        options: As the client sent them: a map of option name to integer.

    Raises:
        Invalid: BAD_REQUEST naming the field that is wrong.
    """
    if type(options) is not dict:
        raise Invalid(Code.BAD_REQUEST, "options must be a map")
    try:
        if not options:
            return _plain_kind(namespace, queue, name)
        # True equals 1 and hashes like it: the types belong to the look-up, or what
        # one replica remembers would decide what another refuses.
        types = tuple(map(type, options.values()))
        return _kind(namespace, queue, name, tuple(options.items()), types)
    except TypeError:
        # A list or a map, which no look-up takes.
        checked_name(queue, "queue")
        checked_name(name, "name")
        raise Invalid(Code.BAD_REQUEST, "options: every value must be an integer") from None


@lru_cache(maxsize=KINDS_REMEMBERED_MAX)
def _plain_kind(namespace: str, queue: object, name: object) -> Kind:
    return Kind(namespace, checked_name(queue, "queue"), checked_name(name, "name"), Policy())


@lru_cache(maxsize=KINDS_REMEMBERED_MAX)
def _kind(
    namespace: str,
    queue: object,
    name: object,
    items: OptionItems,
    types: tuple[type, ...],
) -> Kind:
    return Kind(
        namespace,
        checked_name(queue, "queue"),
        checked_name(name, "name"),
        _policy(items, types),
    )


@lru_cache(maxsize=KINDS_REMEMBERED_MAX)
def _policy(items: OptionItems, types: tuple[type, ...]) -> Policy:
    assert len(items) == len(types)
    for field, value in items:
        if type(field) is not str or field not in _RANGES:
            raise Invalid(Code.BAD_REQUEST, f"options: unknown key {_shown(field)}")
        low, high = _RANGES[field]
        if type(value) is not int or not low <= value <= high:
            raise Invalid(Code.BAD_REQUEST, f"options: {field} must be an integer {low}..{high}")
    return Policy(**cast("dict[str, int]", dict(items)))


def checked_name(value: object, field: str) -> str:
    """Return `value` if it is a name.

    Raises:
        Invalid: BAD_REQUEST naming `field`.
    """
    if type(value) is not str or NAME.fullmatch(value) is None:
        raise Invalid(Code.BAD_REQUEST, f"{field} must match [A-Za-z0-9_.:-]{{1,128}}")
    return value


def _shown(value: object) -> str:
    return repr(value)[:80]
