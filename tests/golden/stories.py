"""Plays golden stories: entries and what came of them, in words.

A story is a text file of stanzas. A stanza is one or more lines of what happens, a
line of dashes, and what was seen. Entries look like

    12 @1501 claim email w2 count=2

index, log time in milliseconds after the start, verb, positional words, options.
Lines of one stanza that are entries make one entry; the index stands in the first
line only. Questions have no index: `status t1`, `history t1`, `stats`, `restart`.
Tokens, places and sessions are written index.position; tasks and workers have names.
"""

from __future__ import annotations

import hashlib
from typing import Any

from statemachine import (
    POSITION_BITS,
    Accepted,
    Advance,
    BatchAccepted,
    ChangeSettings,
    CommandType,
    Done,
    Expire,
    ExpireSessions,
    Granted,
    Recorded,
    Refused,
    Registered,
    Reply,
    Retire,
    encode_internal,
)
from tests.unit.statemachine.player import START_MS, Player, command

SHOWN = (
    "state",
    "priority",
    "attempt",
    "failures",
    "lost",
    "due_at_ms",
    "finished_at_ms",
    "result",
    "error",
    "progress",
    "note",
    "worker",
)


def play(story: str) -> str:
    """Return the story with everything it saw written anew."""
    stage = Stage()
    stanzas: list[str] = []
    for stanza in story.strip("\n").split("\n\n"):
        lines = [line for line in stanza.split("\n----")[0].split("\n") if line]
        told = [line for line in lines if not line.startswith("#")]
        if told:
            lines += ["----", *stage.perform(told)]
        stanzas.append("\n".join(lines))
    stage.player.agree()
    return "\n\n".join(stanzas) + "\n"


def _point(number: int) -> str:
    return f"{number >> POSITION_BITS}.{number & ((1 << POSITION_BITS) - 1)}"


def _number(point: str) -> int:
    index, _, position = point.partition(".")
    return (int(index) << POSITION_BITS) + int(position or 0)


class Stage:
    """A player, and the names that the story gives to things."""

    def __init__(self) -> None:
        self.player = Player()
        self.ids: dict[str, bytes] = {}
        self.names: dict[bytes, str] = {}
        self.sessions: dict[str, int] = {}
        self.requests = 0

    def perform(self, lines: list[str]) -> list[str]:
        first = lines[0].split()
        if not first[0].isdigit():
            return [seen for line in lines for seen in self.ask(line.split())]
        spliced: list[bytes] = []
        workers: list[str | None] = []
        for number, line in enumerate(lines):
            words = line.split()[2:] if number == 0 else line.split()
            workers.append(words[1] if words[0] == "register" else None)
            spliced.append(self.command(words))
        self.player.now_ms = START_MS + int(first[1].lstrip("@"))
        replies = self.player.apply(*spliced, index=int(first[0]))
        for worker, reply in zip(workers, replies, strict=True):
            if worker is not None and isinstance(reply, Registered):
                self.sessions[worker] = reply.session
        outcome = self.player.outcome
        seen = [line for reply in replies for line in self.say(reply)]
        seen += [f"ready {queue}" for _, queue in outcome.ready]
        seen += [f"finished {self.names[id_]}" for id_ in outcome.finished]
        if outcome.advance_due:
            seen.append("more timers are due")
        return seen

    # -- from words to commands

    def id_of(self, name: str, born: int = 0) -> bytes:
        if name not in self.ids:
            tail = hashlib.sha256(name.encode()).digest()
            moment = (START_MS + born).to_bytes(6, "big")
            id_ = moment + b"\x70" + tail[:1] + b"\x80" + tail[1:8]
            self.ids[name] = id_
            self.names[id_] = name
        return self.ids[name]

    def command(self, words: list[str]) -> bytes:
        verb, *rest = words
        options = dict(word.split("=", 1) for word in rest if "=" in word)
        plain = [word for word in rest if "=" not in word]
        namespace = options.pop("namespace", "default")
        self.requests += 1
        request = int(options.pop("request", self.requests))
        type_, fields = getattr(self, f"verb_{verb}")(plain, options)
        if type_ is None:
            return encode_internal(fields)
        return command(type_, request, *fields, namespace=namespace)

    def _task_fields(self, plain: list[str], options: dict[str, str]) -> list[object]:
        queue, name = plain
        id_ = self.id_of(name, int(options.pop("born", 0)))
        payload = options.pop("payload", name).encode()
        asked = {key: int(value) for key, value in options.items()}
        return [id_, queue, "work", payload, asked]

    def verb_submit(self, plain: list[str], options: dict[str, str]) -> tuple[Any, Any]:
        return CommandType.SUBMIT_TASK, self._task_fields(plain, options)

    def verb_batch(self, plain: list[str], options: dict[str, str]) -> tuple[Any, Any]:
        queue, *names = plain
        tasks = [self._task_fields([queue, name], dict(options)) for name in names]
        return CommandType.SUBMIT_BATCH, [tasks]

    def verb_register(self, plain: list[str], options: dict[str, str]) -> tuple[Any, Any]:
        worker = hashlib.sha256(plain[0].encode()).digest()[:16]
        return CommandType.REGISTER_WORKER, [worker, plain[0], plain[1:], options]

    def _session(self, word: str) -> int:
        return self.sessions[word] if word in self.sessions else _number(word)

    def verb_deregister(self, plain: list[str], options: dict[str, str]) -> tuple[Any, Any]:
        return CommandType.DEREGISTER_WORKER, [self._session(plain[0])]

    def verb_claim(self, plain: list[str], options: dict[str, str]) -> tuple[Any, Any]:
        *queues, worker = plain
        return CommandType.CLAIM_TASK, [
            self._session(worker),
            queues,
            int(options.get("count", 1)),
            0,
        ]

    def verb_complete(self, plain: list[str], options: dict[str, str]) -> tuple[Any, Any]:
        result = options.get("result", "").encode()
        return self._result(plain, 0, result, "")

    def verb_fail(self, plain: list[str], options: dict[str, str]) -> tuple[Any, Any]:
        outcome = 2 if options.get("retry") == "no" else 1
        return self._result(plain, outcome, b"", options.get("error", "broken"))

    def _result(self, plain: list[str], outcome: int, result: bytes, error: str) -> tuple[Any, Any]:
        name, token = plain
        return CommandType.TASK_RESULT, [self.id_of(name), _number(token), outcome, result, error]

    def verb_extend(self, plain: list[str], options: dict[str, str]) -> tuple[Any, Any]:
        fields = [self.id_of(plain[0]), _number(plain[1]), int(options["lease_ms"])]
        return CommandType.EXTEND, fields

    def verb_progress(self, plain: list[str], options: dict[str, str]) -> tuple[Any, Any]:
        told = [int(options["permille"]), options.get("note", "")]
        return CommandType.PROGRESS, [self.id_of(plain[0]), _number(plain[1]), *told]

    def verb_release(self, plain: list[str], options: dict[str, str]) -> tuple[Any, Any]:
        return CommandType.RELEASE, [self.id_of(plain[0]), _number(plain[1])]

    def verb_cancel(self, plain: list[str], options: dict[str, str]) -> tuple[Any, Any]:
        return CommandType.CANCEL_TASK, [self.id_of(plain[0]), options.get("reason", "")]

    def verb_advance(self, plain: list[str], options: dict[str, str]) -> tuple[Any, Any]:
        return None, Advance()

    def verb_expire(self, plain: list[str], options: dict[str, str]) -> tuple[Any, Any]:
        names = plain[0::2]
        tokens = [_number(token) for token in plain[1::2]]
        leases = zip([self.id_of(name) for name in names], tokens, strict=True)
        return None, Expire(tuple(leases))

    def verb_silent(self, plain: list[str], options: dict[str, str]) -> tuple[Any, Any]:
        return None, ExpireSessions(tuple(self._session(worker) for worker in plain))

    def verb_retire(self, plain: list[str], options: dict[str, str]) -> tuple[Any, Any]:
        return None, Retire(tuple(self.id_of(name) for name in plain))

    def verb_settings(self, plain: list[str], options: dict[str, str]) -> tuple[Any, Any]:
        changes = {key: int(value) for key, value in options.items()}
        return None, ChangeSettings(tuple(sorted(changes.items())))

    # -- from replies to words

    def say(self, reply: Reply) -> list[str]:
        match reply:
            case Accepted():
                return [f"accepted {reply.log_index}"]
            case BatchAccepted():
                return [line for one in reply.replies for line in self.say(one)]
            case Granted(grants=[]):
                return ["granted nothing"]
            case Granted():
                return [
                    f"granted {self.names[grant.task_id]} token={_point(grant.token)} "
                    f"attempt={grant.attempt} lease_ms={grant.lease_ms} "
                    f"place={_point(grant.place)}"
                    for grant in reply.grants
                ]
            case Recorded(state=state, run_ms=None):
                return [f"recorded {state}"]
            case Recorded():
                return [f"recorded {reply.state} run_ms={reply.run_ms}"]
            case Registered():
                return [f"registered {_point(reply.session)} lease_ms={reply.lease_ms}"]
            case Done():
                return ["done"]
            case Refused():
                hint = "" if reply.retry_after_ms is None else f" retry={reply.retry_after_ms}"
                return [f"refused {reply.code}: {reply.text}{hint}"]

    # -- questions

    def ask(self, words: list[str]) -> list[str]:
        verb, *plain = words
        seen: list[str] = getattr(self, f"ask_{verb}")(*plain)
        return seen

    def _status(self, name: str, namespace: str) -> dict[str, Any] | None:
        return self.player.machine.status(namespace, self.id_of(name))

    def ask_status(self, name: str, namespace: str = "default") -> list[str]:
        status = self._status(name, namespace)
        if status is None:
            return ["no such task"]
        shown = []
        for field in SHOWN:
            value = status[field]
            if value is None or value in ("", 0, b""):
                continue
            if field.endswith("_at_ms"):
                value = f"@{value - START_MS}"
            elif isinstance(value, bytes):
                value = value.decode()
            shown.append(f"{field}: {value}")
        return shown

    def ask_history(self, name: str) -> list[str]:
        status = self._status(name, "default")
        assert status is not None
        return [f"@{at - START_MS} {event}: {detail}" for at, event, detail in status["history"]]

    def ask_stats(self) -> list[str]:
        told: dict[str, Any] = self.player.machine.statistics()
        lines = []
        for part in ("states", "totals"):
            counts = [f"{name}={count}" for name, count in told[part].items() if count]
            lines.append(f"{part}: {' '.join(counts)}")
        for queue in told["queues"]:
            counts = [f"{k}={v}" for k, v in queue.items() if k not in ("namespace", "queue") and v]
            lines.append(f"queue {queue['queue']}: {' '.join(counts)}")
        return [*lines, f"workers: {told['workers']}"]

    def ask_due(self) -> list[str]:
        due_at_ms = self.player.machine.next_due_at_ms()
        return ["nothing" if due_at_ms is None else f"@{due_at_ms - START_MS}"]

    def ask_sessions(self) -> list[str]:
        return [
            f"{session.name} {_point(session.session)} "
            f"tokens={' '.join(_point(token) for token in session.tokens)}".rstrip()
            for session in self.player.machine.sessions()
        ]

    def ask_restart(self) -> list[str]:
        self.player.restart()
        return ["same digest"]
