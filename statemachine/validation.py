"""Shape checks of request bodies: one function per command, shared by door and apply.

A body is the client's payload array as unpacked. What passes here is a command
with every bound checked; what does not raises `Invalid` naming the field.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

from statemachine import commands as c
from statemachine import fields
from statemachine.kinds import checked_name, kind_of
from statemachine.types import LIMITS, Invalid, Settings, named

_OUTCOMES: Final = tuple(c.TaskOutcome)
assert all(number == outcome for number, outcome in enumerate(_OUTCOMES))

# What is looked at for every command, within reach of one step.
_PAYLOAD_BYTES_MAX: Final = LIMITS.payload_bytes_max
_CLAIM_MAX: Final = LIMITS.claim_max
_CLAIM_QUEUES_MAX: Final = LIMITS.claim_queues_max
_WAIT_MS_MAX: Final = LIMITS.wait_ms_max
_TOKEN_MAX: Final = fields.TOKEN_MAX

_QUEUE_LISTS_REMEMBERED_MAX: Final = 1024
"""Lists of queue names known to be right; a pure memo, of at most a dozen megabytes."""

SETTING_RANGES: Final[dict[str, tuple[int, int]]] = {
    "queue_depth_threshold": (1, 100_000_000),
    "retention_ms": (0, 10 * LIMITS.span_ms_max),
    "claim_max": (1, LIMITS.claim_max),
    "lease_ms": (LIMITS.lease_ms_min, LIMITS.lease_ms_max),
    "idempotency_window_ms": (60_000, 10 * LIMITS.span_ms_max),
    "checkpoint_entries_max": (100, 1_000_000),
}
assert tuple(SETTING_RANGES) == Settings._fields


def submit(body: list[object], namespace: str, principal: str) -> c.Submit:
    """Check [request id, task id, queue, name, payload, options]."""
    if len(body) != 6:
        raise fields.wrong_size(body, 6)
    request_id, task_id, queue, name, payload, options = body
    if (
        type(task_id) is not bytes
        or len(task_id) != 16
        or task_id[6] >> 4 != 7
        or task_id[8] >> 6 != 2
    ):
        raise fields.bad("task_id must be 16 bytes, a UUID version 7")
    if type(payload) is not bytes or len(payload) > _PAYLOAD_BYTES_MAX:
        fields.blob(payload, "payload")
    kind = kind_of(namespace, queue, name, options)
    if type(request_id) is not int or request_id < 0:
        fields.request_id(request_id)
    return named(c.Submit, (request_id, namespace, principal, task_id, kind, payload))


def submit_batch(body: list[object], namespace: str, principal: str) -> c.SubmitBatch:
    """Check [request id, [[task id, queue, name, payload, options]...]]."""
    fields.sized(body, 2)
    listed = fields.items(body[1], "tasks", 1, LIMITS.batch_max)
    tasks: list[c.NewTask] = []
    for number, item in enumerate(listed):
        try:
            tasks.append(_new_task(item, namespace))
        except Invalid as error:
            raise Invalid(error.code, f"task {number} of the batch: {error.text}") from None
    return c.SubmitBatch(fields.request_id(body[0]), namespace, principal, tuple(tasks))


def _new_task(item: object, namespace: str) -> c.NewTask:
    if type(item) is not list or len(item) != 5:
        raise fields.bad("must be a list of 5 elements")
    task_id, queue, name, payload, options = item
    if (
        type(task_id) is not bytes
        or len(task_id) != 16
        or task_id[6] >> 4 != 7
        or task_id[8] >> 6 != 2
    ):
        raise fields.bad("task_id must be 16 bytes, a UUID version 7")
    if type(payload) is not bytes or len(payload) > _PAYLOAD_BYTES_MAX:
        fields.blob(payload, "payload")
    return named(c.NewTask, (task_id, kind_of(namespace, queue, name, options), payload))


def claim(body: list[object], namespace: str, principal: str) -> c.Claim:
    """Check [request id, session, [queue...], count, wait_ms]."""
    if len(body) != 5:
        raise fields.wrong_size(body, 5)
    request_id, session, queues, count, wait_ms = body
    # One look at what is nearly always right; the checks that can tell what is wrong follow
    # only where it is not. So in `task_result`.
    if not (
        type(request_id) is int
        and request_id >= 0
        and type(session) is int
        and 0 <= session <= _TOKEN_MAX
        and type(count) is int
        and 1 <= count <= _CLAIM_MAX
        and type(wait_ms) is int
        and 0 <= wait_ms <= _WAIT_MS_MAX
    ):
        fields.request_id(request_id)
        fields.integer(session, "session", 0, _TOKEN_MAX)
        _queue_names(queues, 1, LIMITS.claim_queues_max)
        fields.integer(count, "count", 1, LIMITS.claim_max)
        fields.integer(wait_ms, "wait_ms", 0, LIMITS.wait_ms_max)
    names = _queue_names(queues, 1, _CLAIM_QUEUES_MAX)
    return named(c.Claim, (request_id, namespace, principal, session, names, count, wait_ms))


def _queue_names(value: object, low: int, high: int) -> tuple[str, ...]:
    if type(value) is not list or not low <= len(value) <= high:
        raise fields.bad(f"queues must be a list of {low}..{high}")
    try:
        return _distinct_names(*value)
    except TypeError:
        # A list or a map, which no look-up takes.
        return _distinct_names.__wrapped__(*value)


@lru_cache(maxsize=_QUEUE_LISTS_REMEMBERED_MAX)
def _distinct_names(*listed: object) -> tuple[str, ...]:
    # Naming a queue twice means naming it once.
    return tuple(dict.fromkeys([checked_name(name, "queues: every name") for name in listed]))


def task_result(body: list[object], namespace: str, principal: str) -> c.TaskResult:
    """Check [request id, task id, token, outcome, result, error]."""
    if len(body) != 6:
        raise fields.wrong_size(body, 6)
    request_id, task_id, token, outcome, result, error = body
    if type(outcome) is not int or not 0 <= outcome < len(_OUTCOMES):
        raise fields.bad("outcome must be 0 (success), 1 (failure) or 2 (failure without retry)")
    if not (
        type(request_id) is int
        and request_id >= 0
        and type(task_id) is bytes
        and len(task_id) == 16
        and type(token) is int
        and 0 <= token <= _TOKEN_MAX
        and type(result) is bytes
        and len(result) <= _PAYLOAD_BYTES_MAX
        and type(error) is str
        and not error
    ):
        fields.request_id(request_id)
        fields.id16(task_id, "task_id")
        fields.token(token)
        fields.blob(result, "result")
        fields.text(error, "error", LIMITS.error_bytes_max)
    told = (request_id, namespace, principal, task_id, token, _OUTCOMES[outcome], result, error)
    return named(c.TaskResult, told)


def extend(body: list[object], namespace: str, principal: str) -> c.Extend:
    """Check [request id, task id, token, lease_ms]."""
    fields.sized(body, 4)
    return c.Extend(
        fields.request_id(body[0]),
        namespace,
        principal,
        fields.id16(body[1], "task_id"),
        fields.token(body[2]),
        fields.integer(body[3], "lease_ms", LIMITS.lease_ms_min, LIMITS.lease_ms_max),
    )


def progress(body: list[object], namespace: str, principal: str) -> c.Progress:
    """Check [request id, task id, token, permille, note]."""
    fields.sized(body, 5)
    return c.Progress(
        fields.request_id(body[0]),
        namespace,
        principal,
        fields.id16(body[1], "task_id"),
        fields.token(body[2]),
        fields.integer(body[3], "permille", 0, LIMITS.permille_max),
        fields.text(body[4], "note", LIMITS.note_bytes_max),
    )


def release(body: list[object], namespace: str, principal: str) -> c.Release:
    """Check [request id, task id, token]."""
    fields.sized(body, 3)
    return c.Release(
        fields.request_id(body[0]),
        namespace,
        principal,
        fields.id16(body[1], "task_id"),
        fields.token(body[2]),
    )


def cancel(body: list[object], namespace: str, principal: str) -> c.Cancel:
    """Check [request id, task id, reason]."""
    fields.sized(body, 3)
    return c.Cancel(
        fields.request_id(body[0]),
        namespace,
        principal,
        fields.id16(body[1], "task_id"),
        fields.text(body[2], "reason", LIMITS.reason_bytes_max),
    )


def register_worker(body: list[object], namespace: str, principal: str) -> c.RegisterWorker:
    """Check [request id, worker id, name, [queue...], capabilities]."""
    fields.sized(body, 5)
    name = fields.text(body[2], "name", LIMITS.worker_name_max)
    if not name:
        raise fields.bad("name must not be empty")
    return c.RegisterWorker(
        fields.request_id(body[0]),
        namespace,
        principal,
        fields.id16(body[1], "worker_id"),
        name,
        _queue_names(body[3], 0, LIMITS.worker_queues_max),
        _capabilities(body[4]),
    )


def _capabilities(value: object) -> tuple[tuple[str, str], ...]:
    if type(value) is not dict or len(value) > LIMITS.capabilities_max:
        raise fields.bad(f"capabilities must be a map of at most {LIMITS.capabilities_max}")
    return tuple(
        sorted(
            (
                fields.text(name, "capabilities: every key", LIMITS.capability_max),
                fields.text(told, "capabilities: every value", LIMITS.capability_max),
            )
            for name, told in value.items()
        )
    )


def deregister_worker(body: list[object], namespace: str, principal: str) -> c.DeregisterWorker:
    """Check [request id, session]."""
    fields.sized(body, 2)
    session = fields.integer(body[1], "session", 0, fields.TOKEN_MAX)
    return c.DeregisterWorker(fields.request_id(body[0]), namespace, principal, session)


def _internal(body: list[object], size: int) -> None:
    fields.sized(body, size)
    fields.integer(body[0], "request_id", 0, 0)


_ADVANCE: Final = c.Advance()


def advance(body: list[object]) -> c.Advance:
    """Check [0]."""
    _internal(body, 1)
    return _ADVANCE


def expire(body: list[object]) -> c.Expire:
    """Check [0, [[task id, token]...]]."""
    _internal(body, 2)
    listed = fields.items(body[1], "leases", 0, LIMITS.internal_items_max)
    return c.Expire(tuple(_lease(lease) for lease in listed))


def _lease(value: object) -> tuple[bytes, int]:
    task_id, token = fields.items(value, "lease", 2, 2)
    return fields.id16(task_id, "task_id"), fields.token(token)


def expire_sessions(body: list[object]) -> c.ExpireSessions:
    """Check [0, [session...]]."""
    _internal(body, 2)
    listed = fields.items(body[1], "sessions", 0, LIMITS.internal_items_max)
    return c.ExpireSessions(
        tuple(fields.integer(session, "session", 0, fields.TOKEN_MAX) for session in listed)
    )


def retire(body: list[object]) -> c.Retire:
    """Check [0, [task id...]]."""
    _internal(body, 2)
    listed = fields.items(body[1], "task_ids", 0, LIMITS.internal_items_max)
    return c.Retire(tuple(fields.id16(task_id, "task_id") for task_id in listed))


def change_settings(body: list[object]) -> c.ChangeSettings:
    """Check [0, {name of a setting: integer}, is a seed]."""
    _internal(body, 3)
    if type(body[1]) is not dict:
        raise fields.bad("settings must be a map")
    if type(body[2]) is not bool:
        raise fields.bad("is_seed must be true or false")
    changes = tuple(sorted(_setting(name, value) for name, value in body[1].items()))
    return c.ChangeSettings(changes, body[2])


def _setting(name: object, value: object) -> tuple[str, int]:
    if type(name) is not str or name not in SETTING_RANGES:
        raise fields.bad(f"unknown setting {repr(name)[:80]}")
    low, high = SETTING_RANGES[name]
    return name, fields.integer(value, f"setting {name}", low, high)


@lru_cache(maxsize=4096)
def _header(namespace: object, principal: object) -> None:
    checked_name(namespace, "namespace")
    fields.text(principal, "principal", LIMITS.principal_max)


def server_header(namespace: object, principal: object) -> None:
    """Check what the server puts in front of a client's body.

    Raises:
        Invalid: BAD_REQUEST naming the field.
    """
    try:
        _header(namespace, principal)
    except TypeError:
        raise fields.bad("namespace and principal must be strings") from None


CLIENT: Final[dict[int, Callable[[list[object], str, str], c.ClientCommand]]] = {
    c.CommandType.REGISTER_WORKER: register_worker,
    c.CommandType.DEREGISTER_WORKER: deregister_worker,
    c.CommandType.SUBMIT_TASK: submit,
    c.CommandType.SUBMIT_BATCH: submit_batch,
    c.CommandType.CLAIM_TASK: claim,
    c.CommandType.TASK_RESULT: task_result,
    c.CommandType.EXTEND: extend,
    c.CommandType.PROGRESS: progress,
    c.CommandType.RELEASE: release,
    c.CommandType.CANCEL_TASK: cancel,
}

INTERNAL: Final[dict[int, Callable[[list[object]], c.InternalCommand]]] = {
    c.CommandType.ADVANCE: advance,
    c.CommandType.EXPIRE: expire,
    c.CommandType.EXPIRE_SESSIONS: expire_sessions,
    c.CommandType.RETIRE: retire,
    c.CommandType.SETTINGS: change_settings,
}
