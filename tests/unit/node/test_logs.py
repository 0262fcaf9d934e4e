"""One line an event, safe to look at, the same shape from every library."""

from __future__ import annotations

import io
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from node import logs


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """The logging of the test runner as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def start(
    *, level: str = "info", json_logs: bool | None = True, stream: io.StringIO | None = None
) -> io.StringIO:
    target = io.StringIO() if stream is None else stream
    logs.configure(level=level, json_logs=json_logs, stream=target)
    return target


def events(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_json_object_with_its_main_fields_first() -> None:
    stream = start()
    log = logs.logger(node=2, facts=lambda: {"role": "leader", "term": 9})

    log.info("lease_expired", queue="email", count=3)

    (event,) = events(stream)
    assert ["ts", "level", "event", "node", "role", "term"] == list(event)[:6]
    assert {
        "level": "info",
        "event": "lease_expired",
        "node": 2,
        "role": "leader",
        "term": 9,
        "queue": "email",
        "count": 3,
    } == {name: value for name, value in event.items() if name != "ts"}
    assert event["ts"].endswith("Z")


def test_role_and_term_are_those_of_the_moment() -> None:
    stream = start()
    now = {"role": "follower", "term": 1}
    log = logs.logger(node=1, facts=lambda: now)

    log.info("one")
    now["term"] = 2
    log.info("two")

    assert [1, 2] == [event["term"] for event in events(stream)]


def test_two_nodes_in_one_process_keep_apart() -> None:
    stream = start()
    one, two = logs.logger(node=1), logs.logger(node=2)

    one.info("hello")
    two.info("hello")

    assert [1, 2] == [event["node"] for event in events(stream)]


def test_the_standard_library_speaks_the_same_way() -> None:
    stream = start()

    logging.getLogger("aiohttp.server").error("went %s", "wrong")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)

    error, warning = events(stream)
    assert ("error", "went wrong", "aiohttp.server") == (
        error["level"],
        error["event"],
        error["logger"],
    )
    assert warning["logger"] == "py.warnings"


def test_below_the_level_nothing_is_written() -> None:
    stream = start(level="warning")

    logs.logger().info("quiet")
    logging.getLogger("asyncio").info("quiet")
    logs.logger().warning("loud")

    assert ["loud"] == [event["event"] for event in events(stream)]


@pytest.mark.parametrize("json_logs", [True, False])
def test_payloads_and_credentials_are_never_written(*, json_logs: bool) -> None:
    stream = start(json_logs=json_logs)

    logs.logger().info(
        "event",
        payload="hunter2",
        result=b"hunter2",
        password="hunter2",
        token="hunter2",
        inner={"authorization": "hunter2", "list": [b"hunter2"]},
        data=b"hunter2",
    )

    assert "hunter2" not in stream.getvalue()
    assert "<7 bytes>" in stream.getvalue()


def test_a_fencing_token_is_a_number_and_stays_readable() -> None:
    stream = start()
    logs.logger().info("event", token=1 << 40)
    assert events(stream)[0]["token"] == 1 << 40


HOSTILE = "a\nb\rc\x1b[31md\x00\x7f\x85\u2028\u202e\u200f\ufeff"


@pytest.mark.parametrize("json_logs", [True, False])
def test_control_characters_cannot_forge_a_line_or_reach_a_terminal(*, json_logs: bool) -> None:
    stream = start(json_logs=json_logs)

    logs.logger(node=1).info("event", name=HOSTILE, **{HOSTILE: 1})
    logging.getLogger("x").warning(HOSTILE)

    text = stream.getvalue()
    assert 2 == text.count("\n")
    assert text.replace("\n", "").isprintable()


def test_escaped_json_gives_the_text_back() -> None:
    stream = start()
    logs.logger().info("event", name=HOSTILE + "ä€")
    assert HOSTILE + "ä€" == events(stream)[0]["name"]


def fail() -> None:
    raise ValueError("bad \x1b[31m thing")


@pytest.mark.parametrize("json_logs", [True, False])
def test_an_exception_comes_with_its_traceback_and_without_its_tricks(*, json_logs: bool) -> None:
    stream = start(json_logs=json_logs)
    try:
        fail()
    except ValueError:
        logs.logger().exception("trouble")
        logging.getLogger("asyncio").exception("trouble")

    text = stream.getvalue()
    assert 2 == text.count("ValueError: bad ")
    assert "\x1b" not in text


def test_a_terminal_gets_lines_for_people_and_a_pipe_gets_json() -> None:
    terminal, pipe = Terminal(), io.StringIO()

    start(json_logs=None, stream=terminal)
    logs.logger().info("hello")
    start(json_logs=None, stream=pipe)
    logs.logger().info("hello")

    assert not terminal.getvalue().startswith("{")
    assert "hello" in terminal.getvalue()
    assert pipe.getvalue().startswith("{")


def test_a_reader_that_went_away_costs_only_lines() -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    start(stream=Broken())

    logs.logger().info("nobody hears this")


def test_a_closed_standard_error_costs_only_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    logs.configure(level="info")

    logs.logger().info("nobody hears this")


def test_configuring_again_does_not_double_the_lines() -> None:
    start()
    stream = start()

    logs.logger().info("once")

    assert 1 == len(events(stream))
