"""Hurt a cluster of real processes and check what was recorded: `python -m chaos`.

Exit code 0: every promise was kept; 1: some were not, or nodes or clients did what they must
not; 2: bad input, nothing was started; 3: the run could not be played to its end.
"""

from __future__ import annotations

import asyncio
import json
import random
import shlex
import shutil
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import click

from chaos.check import VERDICTS, judge, table, write_verdicts
from chaos.cluster import ClusterError, Equipment, has_root
from chaos.disks import MountError
from chaos.evidence import VERSION, Evidence, run_folder, unreadable
from chaos.history import RecordError
from chaos.namespaces.kernel import missing
from chaos.proxies import ProxyError
from chaos.report import page
from chaos.run import Options, Report, play
from chaos.scenarios import (
    DEFAULT,
    LONG,
    LONG_PACKETS,
    PACKETS,
    SCENARIOS,
    UnknownScenarioError,
    equipment,
    find,
    gap_bounds,
    tail_bounds,
)
from chaos.shims import COMPILER, ShimError
from chaos.summary import text

MINUTES: Final = 5.0
TASKS_PER_S: Final = 80.0
OUT: Final = Path(__file__).parent / "out"
_LONG_MINUTES: Final = 10.0
_TURN_S: Final = 60
"""In a long run each scenario gets about so long before it is the next one's turn."""


Tier = Literal["processes", "namespaces"]
TIERS: Final[tuple[Tier, ...]] = ("processes", "namespaces")


class Asked(NamedTuple):
    """What a run was asked to be; in `run.json`, so that it can be asked for again.

    Attributes:
        seed: Of faults and clients.
        minutes: For how long faults are done, unless `times` are given.
        scenarios: Names, each once.
        nodes: How many.
        tasks_per_s: Load.
        times: How many faults each scenario does; 0: as many as the minutes allow.
        tier: Where the nodes live.
        node_command: Starts a node; "" for the one of this tree.
    """

    seed: int
    minutes: float
    scenarios: tuple[str, ...]
    nodes: int
    tasks_per_s: float
    times: int = 0
    tier: Tier = "processes"
    node_command: str = ""

    @property
    def length(self) -> str:
        """For how long, or how often; for people."""
        return f"{self.times} faults each" if self.times else f"{self.minutes:g} minutes"

    def command(self) -> str:
        """Return the command that asks for the same."""
        words = ["python", "-m", "chaos", "--seed", str(self.seed)]
        length = ["--times", str(self.times)] if self.times else ["--minutes", f"{self.minutes:g}"]
        words += [*length, "--nodes", str(self.nodes)]
        words += ["--rate", f"{self.tasks_per_s:g}"]
        if self.tier != "processes":
            words += ["--tier", self.tier]
        for name in self.scenarios:
            words += ["--scenario", name]
        if self.node_command:
            words += ["--node-command", self.node_command]
        return shlex.join(words)

    def turns(self) -> list[str]:
        """Return the scenarios in turn; several rounds of them in a long run."""
        if self.times:
            return list(self.scenarios)
        rounds = max(1, round(self.minutes * 60 / (_TURN_S * len(self.scenarios))))
        return list(self.scenarios) * rounds


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--minutes", type=click.FloatRange(0.1), help=f"For how long; {MINUTES:g} if not said."
)
@click.option(
    "--times",
    type=click.IntRange(1),
    help="Instead of minutes: exactly so many faults of each named scenario.",
)
@click.option("--seed", type=int, help="Of faults and clients; drawn and told if not given.")
@click.option("--scenario", "scenarios", multiple=True, help="May be repeated; see --list.")
@click.option("--nodes", type=click.Choice(["3", "5"]), default="3", show_default=True)
@click.option(
    "--rate",
    type=click.FloatRange(1),
    default=TASKS_PER_S,
    show_default=True,
    help="Tasks submitted in a second.",
)
@click.option(
    "--tier",
    type=click.Choice(TIERS),
    default="processes",
    show_default=True,
    help="With `namespaces` packets are lost below TCP; that takes root.",
)
@click.option(
    "--node-command",
    default="",
    help="Starts a node, in the place of this tree's; a node's flags are added.",
)
@click.option("--out", type=click.Path(path_type=Path), default=OUT, help="Folder of all runs.")
@click.option("--replay", type=click.Path(path_type=Path), help="Folder of a run to play again.")
@click.option("--list", "listed", is_flag=True, help="List the scenarios and end.")
def main(
    *,
    minutes: float | None,
    times: int | None,
    seed: int | None,
    scenarios: tuple[str, ...],
    nodes: str,
    rate: float,
    tier: Tier,
    node_command: str,
    out: Path,
    replay: Path | None,
    listed: bool,
) -> None:
    """Run the command."""
    if listed:
        for scenario in SCENARIOS.values():
            star = "*" if scenario.name in DEFAULT else " "
            click.echo(f"{star} {scenario.name:<18} {scenario.about}")
        click.echo("* in turn, if no scenario is named")
        return
    if times is not None and (minutes is not None or not scenarios):
        raise click.UsageError(
            "--times takes the place of --minutes, and says how often: name what with --scenario"
        )
    try:
        if replay is not None:
            asked = read_asked(replay)
        else:
            whole = minutes if minutes is not None else MINUTES
            usual = usual_scenarios(whole, tier)
            drawn = random.SystemRandom().randrange(1 << 31)
            names = tuple(find(name).name for name in scenarios) or usual
            begun = drawn if seed is None else seed
            asked = Asked(begun, whole, names, int(nodes), rate, times or 0, tier, node_command)
    except (UnknownScenarioError, RecordError, OSError) as error:
        why = unreadable(error) if isinstance(error, OSError) else error
        click.echo(f"error: {why}", err=True)
        sys.exit(2)
    sys.exit(run(asked, out))


def usual_scenarios(minutes: float, tier: Tier) -> tuple[str, ...]:
    """Return what is done if no scenario is named."""
    is_long = minutes >= _LONG_MINUTES
    if tier == "namespaces":
        return LONG_PACKETS if is_long else PACKETS
    return LONG if is_long else DEFAULT


def read_asked(directory: Path) -> Asked:
    """Read what a run was asked to be.

    Raises:
        RecordError: It is a run of another version, or none.
        OSError: Its file cannot be read.
        UnknownScenarioError: It had a scenario that there is no more.
    """
    path = directory if directory.is_file() else run_folder(directory) / "run.json"
    try:
        told: dict[str, Any] = json.loads(path.read_bytes())
        if told["version"] != VERSION:
            raise RecordError(
                f"{path} is of version {told['version']}, and this is version {VERSION}: "
                f"play it with the commit it names ({told.get('commit') or 'none'})"
            )
        names = tuple(find(name).name for name in told["scenario"].split(","))
        return Asked(
            *(int(told["seed"]), float(told["minutes"]), names),
            *(int(told["nodes"]), float(told["tasks_per_s"]), int(told.get("times", 0))),
            TIERS[TIERS.index(told.get("tier", "processes"))],
            str(told.get("node_command", "")),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, RecordError):
            raise
        raise RecordError(f"{path} is not the run.json of a run: {error!r}") from error


def run(asked: Asked, out: Path) -> int:
    """Play a run and judge it; return the exit code."""
    if asked.tier == "namespaces" and (why := missing()):
        click.echo(f"not done: {', '.join(asked.scenarios)}: no tier of namespaces here: {why}")
        click.echo("nothing was run; without --tier what needs no namespaces is done", err=True)
        return 3
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    directory = (out / f"{stamp}-{asked.seed}").resolve()
    directory.mkdir(parents=True)
    click.echo(f"seed {asked.seed}: {', '.join(asked.scenarios)}; {asked.length},")
    click.echo(f"{asked.nodes} nodes, {asked.tasks_per_s:g} tasks/s; files in {directory}")
    options = Options(
        seed=asked.seed,
        minutes=asked.minutes,
        scenarios=asked.turns(),
        nodes=asked.nodes,
        directory=directory,
        tasks_per_s=asked.tasks_per_s,
        times=asked.times,
        equipment=possible(
            equipment(
                asked.scenarios,
                packets=asked.tier == "namespaces",
                tasks=asked.minutes * 60 * asked.tasks_per_s,
            )
        ),
        settings={
            "gap_max_ms": gap_bounds(asked.scenarios),
            "gap_p99_max_ms": tail_bounds(asked.scenarios),
        },
        command=asked.command(),
        node_command=asked.node_command,
        tell=click.echo,
    )
    try:
        try:
            report = asyncio.run(_until_told(options))
        except MountError as error:
            # Root alone does not say that mounts work, in a container for example.
            click.echo(f"without disks of their own, for {error}")
            without = replace(options.equipment, disk_mib=0)
            report = asyncio.run(_until_told(replace(options, equipment=without)))
    except (ClusterError, ProxyError, ShimError) as error:
        click.echo(f"error: the run could not begin: {error}", err=True)
        click.echo(f"replay: {asked.command()}", err=True)
        return 3
    except (KeyboardInterrupt, asyncio.CancelledError):
        click.echo(f"interrupted; what was recorded: python -m chaos.check {directory}", err=True)
        return 3
    except Exception:
        # Of the harness itself; nobody else will say how to see it again.
        click.echo(f"replay: {asked.command()}", err=True)
        raise
    return conclude(directory, report, asked)


def possible(wanted: Equipment) -> Equipment:
    """Return what nodes can have here of what is wanted; faults that miss it say so."""
    if not has_root():
        wanted = replace(wanted, disk_mib=0)
    if COMPILER is None:
        wanted = replace(wanted, power=False, clock=False)
    return wanted


async def _until_told(options: Options) -> Report:
    """Play; SIGTERM, or the end of its terminal, ends it in order, as ctrl-C does."""
    playing = asyncio.current_task()
    assert playing is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, playing.cancel)
    return await play(options)


def conclude(directory: Path, report: Report, asked: Asked) -> int:
    """Judge what a run has left, print and write it; return the exit code."""
    evidence = Evidence.from_directory(directory)
    verdicts = judge(evidence)
    write_verdicts(directory / VERDICTS, verdicts)
    told = json.loads((directory / "run.json").read_bytes())
    (directory / "report.html").write_text(page(told, evidence, verdicts), encoding="utf-8")
    click.echo("\n" + text(evidence, verdicts))
    broken = [verdict for verdict in verdicts if not verdict.ok]
    if broken:
        click.echo("\n" + table(broken))
    _say("not done", [f"{kind}: {why}" for kind, why in report.skipped.items()])
    _say("trouble", report.troubles)
    click.echo(f"report: {directory / 'report.html'}")
    click.echo(f"replay: {asked.command()}")
    click.echo(f"check again: python -m chaos.check {directory}")
    if broken or report.troubles:
        return 1
    tidy(directory)
    return 0


def tidy(directory: Path) -> None:
    """Throw away what nobody looks at after a run in which all was well: the nodes' data."""
    for place in directory.glob("node-*/"):
        shutil.rmtree(place, ignore_errors=True)
    for plan in directory.glob("plan-*.json"):
        plan.unlink()


def _say(what: str, lines: Sequence[str]) -> None:
    for line in lines:
        click.echo(f"{what}: {line}")


if __name__ == "__main__":
    main()
