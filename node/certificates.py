"""``tq-node certificates``: makes what nodes on several hosts need to trust each other."""

from __future__ import annotations

from pathlib import Path

import click

from node.config_values import VOTER_ID_MAX

_DAYS = 397
_DAYS_MAX = 3650


@click.group()
def certificates() -> None:
    """Make certificates: between nodes, and for what clients check."""


@certificates.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
def authority(directory: Path) -> None:
    """Make an authority in DIR: once for a cluster, on a host that is safe.

    Its key, ca.key, makes a node of the cluster of whoever has it. No node needs it.
    """
    # Imported late: loading the library takes longer than most commands.
    from cluster.certificates import make_authority  # noqa: PLC0415
    from cluster.faults import StartError  # noqa: PLC0415
    from cluster.tls import today  # noqa: PLC0415

    try:
        files = make_authority(directory, now=today())
    except StartError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{files.certificate}: give it to every node (raft.tls.ca)")
    click.echo(f"{files.key}: keep it where no node runs")


@certificates.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--id",
    "node_id",
    metavar="N",
    required=True,
    type=click.IntRange(1, VOTER_ID_MAX),
    help="The node it is for.",
)
@click.option(
    "--address",
    "addresses",
    metavar="HOST",
    multiple=True,
    help="Host name or IP address to name as well; may be repeated. Needed for broker.tls and "
    "api.tls, since clients check it; nodes among themselves go by the id alone.",
)
@click.option(
    "--days",
    type=click.IntRange(1, _DAYS_MAX),
    default=_DAYS,
    show_default=True,
    help="For how long it is good.",
)
def issue(directory: Path, *, node_id: int, addresses: tuple[str, ...], days: int) -> None:
    """Issue the certificate of a node, with the authority in DIR."""
    from cluster.certificates import issue as issue_for  # noqa: PLC0415 - as above
    from cluster.certificates import read_facts  # noqa: PLC0415
    from cluster.faults import StartError  # noqa: PLC0415
    from cluster.tls import today  # noqa: PLC0415

    try:
        files = issue_for(directory, node_id, addresses=addresses, days=days, now=today())
    except StartError as error:
        raise click.ClickException(str(error)) from error
    ends = read_facts(files.certificate).ends
    click.echo(f"{files.certificate}: good until {ends:%Y-%m-%d} (raft.tls.certificate)")
    click.echo(f"{files.key}: for node {node_id} alone (raft.tls.key)")
