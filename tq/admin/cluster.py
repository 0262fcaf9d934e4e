"""`tq-admin cluster status`: ask every member at once, wait for none of them for long."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from tq.addresses import parse_servers
from tq.admin.output import OutputFormat, emit, table
from tq.admin.verdict import EXITS, Answer, Report, Row, addresses_to_ask, judge
from tq.durations import Duration
from tq.errors import TqError

NODE_DEADLINE_S: Final = 1.0
"""How long each member has to answer."""

COLUMNS: Final = ("NODE", "ROLE", "STATE", "TERM", "COMMIT", "APPLIED", "LAG", "CLIENT", "HTTP")


class NodeClient(Protocol):
    """What is asked of a client here; `tq.Client` is one."""

    async def node_status(  # noqa: D102 -- as in `tq.Client`
        self, address: str, *, deadline: Duration = "1s"
    ) -> dict[str, Any]: ...


async def ask_everyone(client: NodeClient, servers: str | Sequence[str]) -> Report:
    """Ask the given addresses, then the members they name, and judge what was heard.

    Returns after about two seconds at the latest, however many members are silent.
    """
    answers = await _ask_all(client, parse_servers(servers))
    answers += await _ask_all(client, addresses_to_ask(answers))
    return judge(answers)


async def _ask_all(client: NodeClient, addresses: Sequence[str]) -> list[Answer]:
    return list(await asyncio.gather(*(_ask(client, address) for address in addresses)))


async def _ask(client: NodeClient, address: str) -> Answer:
    try:
        async with asyncio.timeout(NODE_DEADLINE_S):
            return Answer(address, await client.node_status(address, deadline=NODE_DEADLINE_S))
    except TimeoutError:
        return Answer(address, reason=f"no answer within {NODE_DEADLINE_S:g} s")
    except TqError as error:
        return Answer(address, reason=str(error))


def show(report: Report, *, output: OutputFormat) -> int:
    """Write the report to stdout; return the exit code of its verdict."""
    emit(_document(report), f"{_headline(report)}\n{_table(report.rows)}", output=output)
    return EXITS[report.verdict]


def _headline(report: Report) -> str:
    leader = "no leader" if report.leader_id is None else f"leader {report.leader_id}"
    term = "" if report.term is None else f", term {report.term}"
    more = f"; {report.learners} learner{'s'[: report.learners != 1]}" if report.learners else ""
    up = f"{report.reachable}/{report.size} up, can lose {report.can_lose}{more}; {leader}{term}"
    if report.configuration_index:
        up += f"; members as of entry {report.configuration_index}"
    first = f"cluster {report.cluster_id or '?'}  {report.verdict}  {up if report.size else ''}"
    return f"{first.rstrip()}\n{report.reason}; {_observers(report)}"


def _observers(report: Report) -> str:
    seen = [str(row.node_id) for row in report.rows if row.reachable]
    return f"observed from {socket.gethostname()}, " + (
        f"answers of node {', '.join(seen)}" if seen else "no answers"
    )


def _table(rows: Sequence[Row]) -> str:
    return table(
        COLUMNS,
        [
            (
                row.node_id,
                row.role,
                f"{row.state}: {row.reason}" if row.reason else row.state,
                row.term,
                row.commit_index,
                row.applied_index,
                row.lag,
                row.client_address,
                row.http_address,
            )
            for row in rows
        ],
    )


def _document(report: Report) -> Mapping[str, Any]:
    return {
        "verdict": report.verdict.value,
        "reason": report.reason,
        "observed_by": socket.gethostname(),
        "cluster_id": report.cluster_id,
        "leader_id": report.leader_id,
        "term": report.term,
        "members": report.size + report.learners,
        "voters": report.size,
        "learners": report.learners,
        "configuration_index": report.configuration_index,
        "reachable": report.reachable,
        "can_lose": report.can_lose,
        "nodes": [_node(row) for row in report.rows],
    }


def _node(row: Row) -> dict[str, object]:
    return {
        "node_id": row.node_id,
        "reachable": row.reachable,
        "role": row.role,
        "member": row.member,
        "voter": row.voter,
        "state": row.state,
        "reason": row.reason,
        "term": row.term,
        "commit_index": row.commit_index,
        "applied_index": row.applied_index,
        "lag": row.lag,
        "client_address": row.client_address,
        "http_address": row.http_address,
    }
