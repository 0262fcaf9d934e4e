"""Door and apply decode alike; no bytes make either of them fail."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statemachine import (
    LIMITS,
    Advance,
    ChangeSettings,
    Claim,
    Code,
    CommandType,
    Expire,
    ExpireSessions,
    InternalCommand,
    Invalid,
    Malformed,
    Outcome,
    Refused,
    Release,
    Retire,
    Submit,
    TaskOutcome,
    TaskResult,
    command_prefix,
    decode_command,
    decode_entry,
    encode_internal,
    join_entry,
)
from statemachine.kinds import KINDS_REMEMBERED_MAX, _kind, kind_of
from tests.unit.statemachine.player import Player, body, command, task_id

ID = task_id(1)
SUBMIT = [7, ID, "q", "task", b"payload", {"priority": 3}]
RESULT = [7, ID, 5, 0, b"result", "error"]

GOOD: dict[CommandType, list[Any]] = {
    CommandType.REGISTER_WORKER: [1, bytes(16), "w", ["q", "r"], {"gpu": "no"}],
    CommandType.DEREGISTER_WORKER: [2**64 - 1, 5],
    CommandType.SUBMIT_TASK: SUBMIT,
    CommandType.SUBMIT_BATCH: [1, [SUBMIT[1:], [ID, "q", "task", b"", {}]]],
    CommandType.CLAIM_TASK: [1, 5, ["q", "r", "q"], 10, 60_000],
    CommandType.TASK_RESULT: RESULT,
    CommandType.EXTEND: [1, ID, 5, 1000],
    CommandType.PROGRESS: [1, ID, 5, 1000, "note"],
    CommandType.RELEASE: [1, ID, 5],
    CommandType.CANCEL_TASK: [1, ID, "reason"],
}

INTERNAL: list[InternalCommand] = [
    Advance(),
    Expire(((ID, 5), (ID, 6))),
    ExpireSessions((5, 6)),
    Retire((ID,)),
    ChangeSettings((("claim_max", 5), ("lease_ms", 1000))),
    ChangeSettings((("checkpoint_entries_max", 100),), is_seed=True),
]


def decoded(type_: int, fields: list[Any]) -> object:
    return decode_command(type_, body(*fields), namespace="n", principal="p")


@pytest.mark.parametrize("type_", GOOD)
def test_what_the_door_accepts_apply_decodes_to_the_same(type_: CommandType) -> None:
    raw = body(*GOOD[type_])
    entry = join_entry(5, [command_prefix(type_, "n", "p") + raw])
    at_door = decode_command(type_, raw, namespace="n", principal="p")
    assert (5, [at_door]) == decode_entry(entry)


def test_every_client_command_is_tried_here() -> None:
    assert {type_ for type_ in CommandType if type_ < 0x40} == set(GOOD)


@pytest.mark.parametrize("told", INTERNAL, ids=lambda told: type(told).__name__)
def test_internal_commands_pass_an_entry_and_not_the_door(told: InternalCommand) -> None:
    spliced = encode_internal(told)
    assert (0, [told]) == decode_entry(join_entry(0, [spliced]))
    type_, _, _, fields = msgpack.unpackb(spliced)
    with pytest.raises(Invalid, match="not a request that is logged") as refused:
        decoded(type_, fields)
    assert refused.value.code is Code.UNKNOWN_TYPE


def test_a_command_is_what_was_sent() -> None:
    submit = decoded(CommandType.SUBMIT_TASK, SUBMIT)
    assert isinstance(submit, Submit)
    assert submit.request_id == 7
    assert (submit.namespace, submit.principal) == ("n", "p")
    assert (submit.task_id, submit.payload) == (ID, b"payload")
    assert (submit.kind.queue_key, submit.kind.name) == (("n", "q"), "task")
    assert (submit.kind.policy.priority, submit.kind.policy.retry_max) == (3, 5)
    claim = decoded(CommandType.CLAIM_TASK, GOOD[CommandType.CLAIM_TASK])
    assert Claim(1, "n", "p", 5, ("q", "r"), 10, 60_000) == claim
    result = decoded(CommandType.TASK_RESULT, RESULT)
    assert TaskResult(7, "n", "p", ID, 5, TaskOutcome.SUCCESS, b"result", "error") == result


SUBMIT_FIELDS = dict(enumerate(["request_id", "task_id", "queue", "name", "payload", "options"]))
BAD: list[tuple[CommandType, int, object, str]] = [
    *((CommandType.SUBMIT_TASK, n, None, field) for n, field in SUBMIT_FIELDS.items()),
    (CommandType.SUBMIT_TASK, 0, -1, "request_id"),
    (CommandType.SUBMIT_TASK, 0, True, "request_id"),
    (CommandType.SUBMIT_TASK, 1, ID[:15], "task_id"),
    (CommandType.SUBMIT_TASK, 1, bytes(16), "version 7"),
    (CommandType.SUBMIT_TASK, 1, ID[:8] + b"\0" + ID[9:], "version 7"),
    (CommandType.SUBMIT_TASK, 2, "", "queue"),
    (CommandType.SUBMIT_TASK, 2, "a b", "queue"),
    (CommandType.SUBMIT_TASK, 2, "é", "queue"),
    (CommandType.SUBMIT_TASK, 2, "q\n", "queue"),
    (CommandType.SUBMIT_TASK, 2, [], "queue"),
    (CommandType.SUBMIT_TASK, 3, "x" * 129, "name"),
    (CommandType.SUBMIT_TASK, 4, "text", "payload"),
    (CommandType.SUBMIT_TASK, 5, [], "options"),
    (CommandType.SUBMIT_TASK, 5, {"priority": 256}, "priority"),
    (CommandType.SUBMIT_TASK, 5, {"priority": -1}, "priority"),
    (CommandType.SUBMIT_TASK, 5, {"priority": True}, "priority"),
    (CommandType.SUBMIT_TASK, 5, {"priority": 1.0}, "priority"),
    (CommandType.SUBMIT_TASK, 5, {"priority": []}, "options"),
    (CommandType.SUBMIT_TASK, 5, {"colour": 1}, "options: unknown key 'colour'"),
    (CommandType.SUBMIT_TASK, 5, {b"priority": 1}, "options: unknown key b'priority'"),
    (CommandType.SUBMIT_TASK, 5, {"delay_ms": 31_536_000_001}, "delay_ms"),
    (CommandType.SUBMIT_TASK, 5, {"retry_max": 1001}, "retry_max"),
    (CommandType.SUBMIT_TASK, 5, {"retry_base_ms": 0}, "retry_base_ms"),
    (CommandType.SUBMIT_TASK, 5, {"lease_ms": 999}, "lease_ms"),
    (CommandType.SUBMIT_TASK, 5, {"lease_ms": 86_400_001}, "lease_ms"),
    (CommandType.SUBMIT_BATCH, 1, [], "tasks must be a list of 1..1000"),
    (CommandType.SUBMIT_BATCH, 1, [SUBMIT[1:]] * 1001, "tasks must be a list of 1..1000"),
    (CommandType.SUBMIT_BATCH, 1, [SUBMIT[1:], 5], "task 1 of the batch"),
    (
        CommandType.SUBMIT_BATCH,
        1,
        [SUBMIT[1:], [ID, "q", "task", b"", {"x": 1}]],
        "options: unknown key 'x'",
    ),
    (CommandType.SUBMIT_BATCH, 1, [[bytes(16), "q", "task", b"", {}]], "task_id"),
    (CommandType.SUBMIT_BATCH, 1, [[ID, "q", "task", "", {}]], "payload"),
    (CommandType.CLAIM_TASK, 1, -1, "session"),
    (CommandType.CLAIM_TASK, 2, [], "queues"),
    (CommandType.CLAIM_TASK, 2, ["q"] * 65, "queues"),
    (CommandType.CLAIM_TASK, 3, 0, "count"),
    (CommandType.CLAIM_TASK, 3, 1_000_000, "count"),
    (CommandType.CLAIM_TASK, 4, 60_001, "wait_ms"),
    (CommandType.TASK_RESULT, 2, 2**63, "token"),
    (CommandType.TASK_RESULT, 3, 3, "outcome"),
    (CommandType.TASK_RESULT, 3, True, "outcome"),
    (CommandType.TASK_RESULT, 5, b"bytes", "error"),
    (CommandType.EXTEND, 3, 999, "lease_ms"),
    (CommandType.PROGRESS, 3, 1001, "permille"),
    (CommandType.CANCEL_TASK, 2, None, "reason"),
    (CommandType.REGISTER_WORKER, 1, b"short", "worker_id"),
    (CommandType.REGISTER_WORKER, 2, "", "name"),
    (CommandType.REGISTER_WORKER, 4, {"gpu": 1}, "capabilities"),
    (CommandType.REGISTER_WORKER, 4, {str(n): "" for n in range(65)}, "capabilities"),
]


@pytest.mark.parametrize(("type_", "position", "value", "told"), BAD)
def test_the_refusal_names_the_field(
    type_: CommandType, position: int, value: object, told: str
) -> None:
    fields = list(GOOD[type_])
    fields[position] = value
    with pytest.raises(Invalid) as refused:
        decoded(type_, fields)
    assert refused.value.code is Code.BAD_REQUEST
    assert told in refused.value.text


@pytest.mark.parametrize(
    ("type_", "position", "bytes_max", "text"),
    [
        (CommandType.SUBMIT_TASK, 4, LIMITS.payload_bytes_max, b"x"),
        (CommandType.TASK_RESULT, 4, LIMITS.payload_bytes_max, b"x"),
        (CommandType.TASK_RESULT, 5, LIMITS.error_bytes_max, "é"),
        (CommandType.PROGRESS, 4, LIMITS.note_bytes_max, "é"),
        (CommandType.CANCEL_TASK, 2, LIMITS.reason_bytes_max, "x"),
        (CommandType.REGISTER_WORKER, 2, LIMITS.worker_name_max, "é"),
    ],
)
def test_one_byte_too_many_is_too_large(
    type_: CommandType, position: int, bytes_max: int, text: Any
) -> None:
    fields = list(GOOD[type_])
    size = 2 if text == "é" else 1
    fields[position] = text * (bytes_max // size)
    decoded(type_, fields)
    fields[position] = text * (bytes_max // size) + text[:1]
    with pytest.raises(Invalid) as refused:
        decoded(type_, fields)
    assert refused.value.code is Code.TOO_LARGE


@pytest.mark.parametrize("type_", GOOD)
def test_one_element_more_or_less_is_refused(type_: CommandType) -> None:
    for fields in (GOOD[type_][:-1], [*GOOD[type_], 1], []):
        with pytest.raises(Invalid, match=r"expected \d elements"):
            decoded(type_, fields)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xc1",
        body(*SUBMIT) + b"\0",
        body(*SUBMIT)[:-1],
        msgpack.packb({"a": 1}),
        b"\x92\x01\xa1\xff",
        b"\x91" * 2000 + b"\x01",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\x81\x90\x01",
        b"\xc7\x05\xff12345",
    ],
)
def test_what_is_not_one_array_is_malformed(raw: bytes) -> None:
    with pytest.raises(Invalid) as refused:
        decode_command(CommandType.SUBMIT_TASK, raw, namespace="n", principal="p")
    assert refused.value.code is Code.MALFORMED
    entry = join_entry(1, [command_prefix(CommandType.SUBMIT_TASK, "n", "p") + raw])
    (told,) = decode_entry(entry)[1]
    assert isinstance(told, Malformed)


@pytest.mark.parametrize(
    "item",
    [
        5,
        [],
        [5, "n", "p"],
        [5, "", "p", SUBMIT],
        [5, "n", 1, SUBMIT],
        [5, [], "p", SUBMIT],
        [True, "n", "p", SUBMIT],
        [0x3F, "n", "p", SUBMIT],
        [5, "n", "p", {}],
        [5, "n", "p", SUBMIT[:-1]],
        [0x40, "", "", [1]],
        [0x41, "", "", [0, [[ID]]]],
        [0x41, "", "", [0, [[ID, 5]] * 1001]],
        [0x42, "", "", [0, ["x"]]],
        [0x43, "", "", [0, [b"short"]]],
        [0x44, "", "", [0, {"colour": 1}, False]],
        [0x44, "", "", [0, {"claim_max": 1001}, False]],
        [0x44, "", "", [0, {"claim_max": True}, False]],
        [0x44, "", "", [0, [], False]],
        [0x44, "", "", [0, {"claim_max": 1}]],
        [0x44, "", "", [0, {"claim_max": 1}, 1]],
        [0x44, "", "", [0, {"checkpoint_entries_max": 99}, False]],
    ],
)
def test_a_bad_command_spoils_only_itself(item: object) -> None:
    player = Player()
    good = msgpack.unpackb(command(CommandType.SUBMIT_TASK, *SUBMIT))
    outcome = player.apply_entry(b"\x01" + msgpack.packb([1, [good, item, good]]))
    bad = outcome.replies[1]
    assert isinstance(bad, Refused)
    assert bad.code is Code.MALFORMED
    assert bad.text
    assert outcome.replies[0] == outcome.replies[2] != bad


@pytest.mark.parametrize(
    "entry",
    [
        b"",
        b"\x01",
        b"\x02" + msgpack.packb([1, []]),
        b"\x01" + msgpack.packb([1]),
        b"\x01" + msgpack.packb([-1, []]),
        b"\x01" + msgpack.packb([1 << 48, []]),
        b"\x01" + msgpack.packb([True, []]),
        b"\x01" + msgpack.packb([1, {}]),
        b"\x01" + msgpack.packb([1, []]) + b"\0",
        b"\x01" + msgpack.packb([1, [0] * 65_536]),
    ],
)
def test_an_entry_that_is_none_gives_one_refusal_and_leaves_time_alone(entry: bytes) -> None:
    player = Player()
    outcome = player.apply_entry(entry)
    (told,) = outcome.replies
    assert isinstance(told, Refused)
    assert told.code is Code.MALFORMED
    assert player.machine.log_time_ms == 0


def test_the_largest_time_stamp_breaks_nothing() -> None:
    player = Player()
    player.now_ms = LIMITS.now_ms_max
    player.internal(Advance())
    assert isinstance(player.submit(ID), Refused)


@given(st.binary())
def test_apply_never_raises(entry: bytes) -> None:
    assert isinstance(Player().apply_entry(entry), Outcome)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=4)
    | st.binary(max_size=4)
    | st.sampled_from([ID, "q", "priority"]),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=20,
)
COMMANDS = st.lists(
    st.tuples(st.sampled_from([int(type_) for type_ in CommandType]), VALUES, VALUES, VALUES)
    | st.tuples(
        st.sampled_from([int(type_) for type_ in CommandType]),
        st.just("n"),
        st.just("p"),
        st.lists(VALUES, max_size=7),
    ),
    max_size=4,
)


@settings(max_examples=60)
@given(st.integers(0, 2**49), COMMANDS)
def test_apply_never_raises_on_what_looks_like_an_entry(now_ms: int, listed: list[Any]) -> None:
    player = Player()
    outcome = player.apply_entry(b"\x01" + msgpack.packb([now_ms, listed]))
    assert len(outcome.replies) >= min(1, len(listed))


@given(st.sampled_from(sorted(GOOD)), st.integers(0, 5), VALUES)
def test_door_and_apply_agree_on_any_field(type_: CommandType, position: int, value: Any) -> None:
    fields = list(GOOD[type_])
    fields[position % len(fields)] = value
    (told,) = decode_entry(join_entry(1, [command_prefix(type_, "n", "p") + body(*fields)]))[1]
    try:
        at_door = decoded(type_, fields)
    except Invalid as refused:
        at_door = Malformed(refused.text)
    assert at_door == told


def test_what_was_remembered_does_not_decide_what_is_accepted() -> None:
    """True and 1.0 equal 1: a look-up that takes them for it would split replicas."""
    for value in (True, 1.0):
        for remembered in (False, True):
            _kind.cache_clear()
            if remembered:
                kind_of("n", "q", "task", {"priority": 1})
            with pytest.raises(Invalid, match="options: priority must be an integer"):
                kind_of("n", "q", "task", {"priority": value})


def test_kinds_are_shared_and_the_order_of_options_does_not_matter() -> None:
    one = kind_of("n", "q", "task", {"priority": 1, "lost_max": 2})
    same = kind_of("n", "q", "task", {"priority": 1, "lost_max": 2})
    turned = kind_of("n", "q", "task", {"lost_max": 2, "priority": 1, "delay_ms": 0})
    assert one is same
    assert one.content_prefix == turned.content_prefix
    assert one.policy == turned.policy
    assert _kind.cache_info().maxsize == KINDS_REMEMBERED_MAX


@pytest.mark.parametrize("principal", ["x" * 257, None, []])
def test_a_principal_out_of_bounds_is_refused(principal: Any) -> None:
    with pytest.raises(Invalid, match="principal"):
        decode_command(CommandType.RELEASE, body(1, ID, 5), namespace="n", principal=principal)


@pytest.mark.parametrize(
    ("namespace", "principal"), [("no name", "p"), (5, "p"), ([], "p"), ("n", 5), ("n", {})]
)
def test_a_header_that_is_wrong_is_found_between_two_that_are_right(
    namespace: Any, principal: Any
) -> None:
    right = command_prefix(CommandType.RELEASE, "n", "p") + body(1, ID, 5)
    wrong = command_prefix(CommandType.RELEASE, namespace, principal) + body(1, ID, 5)
    _, told = decode_entry(join_entry(1, [right, wrong, right]))
    assert [Release, Malformed, Release] == [type(command) for command in told]
    assert told == [decode_entry(join_entry(1, [one]))[1][0] for one in (right, wrong, right)]


@pytest.mark.parametrize("change", [("lease_ms", -1), ("no_such_setting", 1)])
def test_a_leader_does_not_make_settings_that_its_followers_would_not_read(
    change: tuple[str, int],
) -> None:
    with pytest.raises(Invalid, match=change[0]):
        encode_internal(ChangeSettings((change,), is_seed=True))
