"""The commands and options of `tq-admin`.

What a command does is imported when it runs, so `--help` is quick.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from tq.admin.output import OutputFormat

SERVERS_DEFAULT: Final = "127.0.0.1:7401"


@dataclass
class Settings:
    """The options that all commands share.

    Attributes:
        servers: The cluster's addresses.
        namespace: Where the queues live.
        token: Proves who is asking.
        ca: File with the certificate of the cluster's authority.
        output: How answers are shown.
        make_client: Makes the client in place of `tq.Client`; for tests.
    """

    servers: str = SERVERS_DEFAULT
    namespace: str = "default"
    token: str | None = None
    ca: str | None = None
    output: OutputFormat = "table"
    make_client: Callable[[Settings], Any] | None = None


def _set_output(context: click.Context, _: click.Parameter, value: OutputFormat | None) -> None:
    if value is not None:
        context.ensure_object(Settings).output = value


output_option = click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "yaml"]),
    callback=_set_output,
    expose_value=False,
    help="How to show the answer, a table unless said; before or after the command's name.",
)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
    epilog="Exit codes: 0 ok, 1 error, 2 usage, 3 not found, 4 not authenticated or not "
    "allowed, 5 conflict, 6 degraded, 7 no quorum or no leader, 8 timeout or unknown outcome.",
)
@click.option(
    "--servers", envvar="TQ_SERVERS", default=SERVERS_DEFAULT, help="Addresses of the cluster."
)
@click.option("--namespace", envvar="TQ_NAMESPACE", default="default", help="Where the queues are.")
@click.option(
    "--ca",
    metavar="FILE",
    envvar="TQ_CA",
    help="Certificate of the cluster's authority, where it speaks TLS; or TQ_CA.",
)
@click.option(
    "--token-file",
    metavar="FILE",
    help="Holds the token that proves who is asking; or TQ_TOKEN_FILE, or TQ_TOKEN itself.",
)
@output_option
@click.pass_context
def cli(
    context: click.Context, servers: str, namespace: str, ca: str | None, token_file: str | None
) -> None:
    """Submit tasks to a tq cluster and look at it.

    Data goes to stdout, words to stderr.
    """
    settings = context.ensure_object(Settings)
    settings.servers = servers
    settings.namespace = namespace
    settings.ca = ca or None
    settings.token = _token(token_file)


@cli.command()
@click.argument("name")
@click.argument("arguments", metavar="[JSON-ARGS]", required=False)
@click.option("--queue", default="default", help="The line it waits in.")
@click.option("--id", "task_id", help="The task's id; submitting twice with it submits once.")
@click.option("--priority", type=click.IntRange(0, 255), help="Higher first; the default is 100.")
@click.option("--delay", help="Not before so much time has passed, e.g. 5m.")
@click.option("--wait", is_flag=True, help="Wait for the end and print the result.")
@click.option("--timeout", default="60s", help="How long to wait.")
@output_option
@click.pass_obj
def submit(
    settings: Settings,
    *,
    name: str,
    arguments: str | None,
    queue: str,
    task_id: str | None,
    priority: int | None,
    delay: str | None,
    wait: bool,
    timeout: str,
) -> None:
    """Submit the task NAME and print its id.

    JSON-ARGS is a list of positional arguments, an object of named ones, or a single
    other value: `tq-admin submit tq.examples:echo '["hello"]' --wait`.
    """
    from tq.admin import tasks  # noqa: PLC0415 -- --help must not pay for it

    _run(
        settings,
        lambda client: tasks.submit(
            client,
            name,
            tasks.payload_of(arguments),
            queue=queue,
            task_id=task_id,
            priority=priority,
            delay=delay,
            wait=timeout if wait else None,
            output=settings.output,
        ),
    )


@cli.command()
@click.argument("task_id")
@click.option("--stale", is_flag=True, help="As any node has it: needs no leader, may be older.")
@output_option
@click.pass_obj
def status(settings: Settings, *, task_id: str, stale: bool) -> None:
    """Show everything the cluster knows of one task."""
    from tq.admin import tasks  # noqa: PLC0415 -- --help must not pay for it

    _run(
        settings,
        lambda client: tasks.status(client, task_id, stale=stale, output=settings.output),
    )


@cli.command()
@output_option
@click.pass_obj
def stats(settings: Settings) -> None:
    """Count tasks by state and by queue."""
    from tq.admin import figures  # noqa: PLC0415 -- --help must not pay for it

    _run(settings, lambda client: figures.stats(client, output=settings.output))


@cli.command()
@output_option
@click.pass_obj
def workers(settings: Settings) -> None:
    """List the workers that have a session."""
    from tq.admin import figures  # noqa: PLC0415 -- --help must not pay for it

    _run(settings, lambda client: figures.workers(client, output=settings.output))


@cli.group()
def tasks() -> None:
    """Look at many tasks."""


@tasks.command("list")
@click.option("--queue", help="Those of this queue; all unless said.")
@click.option(
    "--state", "states", multiple=True, help="Those in this state, e.g. dead_letter; repeatable."
)
@click.option("--after", metavar="ID", help="Those with larger ids: where a list ended.")
@click.option("--limit", type=click.IntRange(1), default=100, help="So many at most.")
@click.option("--stale", is_flag=True, help="As any node has them: needs no leader, may be older.")
@output_option
@click.pass_obj
def tasks_list(
    settings: Settings,
    *,
    queue: str | None,
    states: tuple[str, ...],
    after: str | None,
    limit: int,
    stale: bool,
) -> None:
    """List tasks in the order of their ids, which is that of their age."""
    from tq.admin import listing  # noqa: PLC0415 -- --help must not pay for it

    _run(
        settings,
        lambda client: listing.show(
            client,
            queue=queue,
            states=states,
            after=after,
            limit=limit,
            stale=stale,
            output=settings.output,
        ),
    )


@cli.group()
def cluster() -> None:
    """Look at the nodes, let nodes in and let them go."""


@cluster.command("status")
@output_option
@click.pass_obj
def cluster_status(settings: Settings) -> None:
    """Show every member, reachable or not, and a verdict; the exit code follows it."""
    from tq.admin import cluster as nodes  # noqa: PLC0415 -- --help must not pay for it

    async def look(client: nodes.NodeClient) -> int:
        report = await nodes.ask_everyone(client, settings.servers)
        return nodes.show(report, output=settings.output)

    _run(settings, look)


_node_id = click.argument("node_id", metavar="ID", type=click.IntRange(1, 65_535))
_patience = click.option("--timeout", default="15s", help="How long to go on trying.")


@cluster.command("add")
@_node_id
@click.argument("address", metavar="HOST:PORT")
@_patience
@output_option
@click.pass_obj
def cluster_add(settings: Settings, *, node_id: int, address: str, timeout: str) -> None:
    """Let node ID in, which was started with `tq-node --join`, as a learner.

    HOST:PORT is where its peers reach it, not where clients do. It gets everything, and counts
    for nothing until it is promoted.
    """
    from tq.admin import members  # noqa: PLC0415 -- --help must not pay for it

    _run(
        settings,
        lambda client: members.add(
            client, node_id, address, patience=timeout, output=settings.output
        ),
    )


@cluster.command("promote")
@_node_id
@_patience
@output_option
@click.pass_obj
def cluster_promote(settings: Settings, *, node_id: int, timeout: str) -> None:
    """Make the learner ID a voter, once it has caught up."""
    from tq.admin import members  # noqa: PLC0415 -- --help must not pay for it

    _run(
        settings,
        lambda client: members.promote(client, node_id, patience=timeout, output=settings.output),
    )


@cluster.command("remove")
@_node_id
@_patience
@output_option
@click.pass_obj
def cluster_remove(settings: Settings, *, node_id: int, timeout: str) -> None:
    """Let node ID go, voter or learner; a leader hands over first.

    Refused where a majority would be at risk afterwards. The node ends by itself and cannot
    come back with the same data.
    """
    from tq.admin import members  # noqa: PLC0415 -- --help must not pay for it

    _run(
        settings,
        lambda client: members.remove(client, node_id, patience=timeout, output=settings.output),
    )


def _token(path: str | None) -> str | None:
    if not path and not os.environ.get("TQ_TOKEN_FILE"):
        return os.environ.get("TQ_TOKEN") or None
    from tq.environment import (  # noqa: PLC0415 -- --help must not pay for it
        read_token,
        token_of_environment,
    )
    from tq.errors import ConfigError  # noqa: PLC0415 -- --help must not pay for it

    try:
        return read_token(path) if path else token_of_environment()
    except ConfigError as error:
        raise click.UsageError(str(error)) from error


def _run(settings: Settings, use: Callable[[Any], Coroutine[Any, Any, int]]) -> None:
    """Give a client to a command and end the process with the exit code that fits."""
    import asyncio  # noqa: PLC0415 -- --help must not pay for it

    from tq.admin.exits import exit_for  # noqa: PLC0415 -- --help must not pay for it
    from tq.errors import TqError  # noqa: PLC0415 -- --help must not pay for it

    async def with_client() -> int:
        client = (settings.make_client or _client)(settings)
        try:
            return await use(client)
        finally:
            await client.close()

    try:
        code = asyncio.run(with_client())
    except TqError as error:
        click.echo(f"error: {error}", err=True)
        code = exit_for(error)
    sys.exit(code)


def _client(settings: Settings) -> Any:  # noqa: ANN401 -- naming the type would import it
    from tq.client import Client  # noqa: PLC0415 -- --help must not pay for it

    return Client(
        settings.servers,
        namespace=settings.namespace,
        token=settings.token,
        ca=settings.ca,
        name="tq-admin",
    )


def main() -> None:
    """Run the command line."""
    cli()
