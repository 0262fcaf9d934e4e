"""``tq-node tokens``: makes what clients prove with who they are."""

from __future__ import annotations

from pathlib import Path

import click

_ROLES = ("client", "admin", "metrics")


@click.group()
def tokens() -> None:
    """Make tokens for clients, workers and readers of metrics."""


@tokens.command()
@click.argument("principal")
@click.option(
    "--file",
    "path",
    metavar="FILE",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The nodes' file of tokens (auth.tokens_file); made when missing.",
)
@click.option(
    "--role",
    type=click.Choice(_ROLES),
    default="client",
    show_default=True,
    help="client: tasks and workers. admin: members of the cluster as well. metrics: reading "
    "/status and /metrics alone.",
)
def new(principal: str, *, path: Path, role: str) -> None:
    """Make a token for PRINCIPAL and print it: once, since the file gets its hash alone.

    A principal may have several tokens; to take one away, remove its line. Nodes read the file
    when they start.
    """
    # Imported late: the other commands do not need it.
    from node.tokens import Role, TokensError, add_token  # noqa: PLC0415

    try:
        token = add_token(path, principal, role=Role(role))
    except TokensError as error:
        raise click.ClickException(str(error)) from error
    click.echo(token)
    click.echo(f"{path}: {principal} has a new token with the role {role}", err=True)
