"""The command line: what it runs, what it refuses, and how it ends."""

from __future__ import annotations

import json
import logging
import os
import re
import resource
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from node import cli, healthcheck
from node.addresses import Address
from node.config import Config
from node.config_load import load
from node.healthcheck import Target
from node.version import version

ROOT = Path(__file__).resolve().parents[3]
PEERS = "1=127.0.0.1:7400,2=127.0.0.1:7410,3=127.0.0.1:7420"

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No TQ_ variable of the machine that runs the tests; limits and logging as they were."""
    for name in list(os.environ):
        if name.startswith("TQ_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line; returns exit code, standard output, standard error."""

    def invoke(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tq-node", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, said.out, said.err

    return invoke


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """The configurations that would have been served."""
    seen: list[Config] = []
    server = types.ModuleType("node.server")

    async def serve(config: Config) -> int:
        seen.append(config)
        return 0

    server.serve = serve  # type: ignore[attr-defined]  # a module made for this test
    monkeypatch.setitem(sys.modules, "node.server", server)
    return seen


# -------------------------------------------------------------------------------- run


def test_the_bare_command_runs_a_single_node(run: Run, served: list[Config]) -> None:
    code, _, _ = run()

    assert code == 0
    assert [Config()] == served


def test_flags_make_a_node_of_a_cluster(run: Run, served: list[Config]) -> None:
    code, out, _ = run(
        "--id", "2", "--peers", PEERS, "--data", "here", "--listen", "localhost:7501",
        "--http", "[::1]:7502", "--log-level", "error", "--json-logs",
    )  # fmt: skip

    assert (0, "") == (code, out)
    (config,) = served
    assert (2, (1, 2, 3)) == (config.node_id, config.voters)
    assert config.raft_listen == ("127.0.0.1", 7410)
    assert config.client_listen == ("localhost", 7501)
    assert config.http_listen == ("::1", 7502)
    assert config.data_dir == Path("here")
    assert config.monitoring.log_level == "error"
    assert config.monitoring.json_logs is True


def test_the_result_of_the_server_is_the_exit_code(
    run: Run, served: list[Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def serve(config: Config) -> int:
        served.append(config)
        return 1

    monkeypatch.setattr(sys.modules["node.server"], "serve", serve)

    assert run()[0] == 1
    assert served


def test_a_port_in_use_ends_with_one_and_a_sentence(
    run: Run, served: list[Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def serve(config: Config) -> int:
        served.append(config)
        raise OSError(98, "Address already in use")

    monkeypatch.setattr(sys.modules["node.server"], "serve", serve)
    code, out, err = run()

    assert (1, "") == (code, out)
    assert "node_failed" in err
    assert "already in use" in err
    assert "Traceback" not in err


def test_a_crash_is_an_event_of_the_log_like_any_other(
    run: Run, served: list[Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def serve(config: Config) -> int:
        served.append(config)
        raise RuntimeError("oops")

    monkeypatch.setattr(sys.modules["node.server"], "serve", serve)
    code, out, err = run()

    crash = json.loads(err.splitlines()[-1])
    assert (1, "") == (code, out)
    assert (crash["event"], crash["node"]) == ("node_crashed", 1)
    assert "RuntimeError: oops" in crash["exception"]


def test_the_start_is_one_line_with_the_three_addresses(run: Run, served: list[Config]) -> None:
    _, _, err = run("--id", "1", "--peers", PEERS)

    (line,) = [line for line in err.splitlines() if "node_starting" in line]
    assert served
    for address in ("127.0.0.1:7400", "127.0.0.1:7401", "http://127.0.0.1:7402"):
        assert address in line


def test_room_is_made_for_as_many_files_as_connections(run: Run, served: list[Config]) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1600:
        pytest.skip(f"this machine allows {hard} open files only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))

    run()

    assert served
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 1512


# ------------------------------------------------------------------------- bad usage


def test_an_unknown_flag_is_an_error_with_a_suggestion(run: Run) -> None:
    code, _, err = run("--listn", "x")

    assert code == 2
    assert re.search(r"Did you mean .*'--listen'\?", err)


def test_an_unknown_command_is_an_error_with_a_suggestion(run: Run) -> None:
    code, _, err = run("confg")

    assert code == 2
    assert "Did you mean 'config'?" in err


def test_all_wrong_flags_are_told_at_once_and_nothing_starts(
    run: Run, served: list[Config]
) -> None:
    code, out, err = run("--id", "x", "--listen", "here", "--http", ":1", "--log-level", "loud")

    assert (2, "") == (code, out)
    assert ["flag --listen", "flag --http", "flag --id", "flag --log-level"] == [
        line.split(":")[0] for line in err.splitlines()[:-1]
    ]
    assert err.endswith("tq-node: 4 problems, not started\n")
    assert [] == served


def test_a_wrong_file_is_told_and_nothing_starts(run: Run, served: list[Config]) -> None:
    Path("tq.yaml").write_text("broker:\n  prot: 1\n")

    code, _, err = run("--config", "tq.yaml")

    assert code == 2
    assert err.startswith("tq.yaml:2:3: broker.prot: unknown key (did you mean 'port'?)")
    assert [] == served


# ---------------------------------------------------------------------------- config


def test_config_check_says_ok(run: Run) -> None:
    assert (0, "ok: defaults, environment and flags (no file)\n", "") == run("config", "check")
    example = str(ROOT / "deploy" / "tq.example.yaml")
    assert (0, f"ok: {example}\n", "") == run("config", "check", example)


def test_config_check_says_what_is_wrong(run: Run) -> None:
    Path("tq.yaml").write_text("rafft: {}\n")

    code, out, err = run("config", "check", "tq.yaml")

    assert (2, "") == (code, out)
    assert "tq.yaml:1:1: rafft: unknown section (did you mean 'raft'?)\n    rafft: {}\n    ^" in err


def test_config_check_shows_warnings(run: Run) -> None:
    Path("tq.yaml").write_text("persistence:\n  sync: false\n")

    code, _, err = run("config", "check", "tq.yaml")

    assert code == 0
    assert err.startswith("warning: persistence.sync: false: a power failure")


def test_config_show_says_where_each_value_comes_from(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("tq.yaml").write_text("broker:\n  max_connections: 7\n")
    monkeypatch.setenv("TQ_CONFIG", "tq.yaml")
    monkeypatch.setenv("TQ_API__PORT", "9")

    code, out, _ = run("--id", "3", "config", "show", "--origin")

    rows = [tuple(part.strip() for part in line.split("  # ")) for line in out.splitlines()]
    assert code == 0
    assert ("max_connections: 7", "tq.yaml:2") in rows
    assert ("port: 9", "env TQ_API__PORT") in rows
    assert ("node_id: 3", "flag --id") in rows
    assert ("data_dir: tq-data/node-3", "default, from raft.node_id") in rows
    assert ("sync: true", "default") in rows


def test_what_config_show_prints_is_a_file_that_means_the_same(run: Run) -> None:
    arguments = ("--id", "1", "--peers", PEERS.replace("127.0.0.1:7420", "[::1]:7420"))
    code, out, _ = run(*arguments, "--data", "on: a #disk", "--http", "[::1]:1", "config", "show")
    Path("tq.yaml").write_text(out)

    config = load(Path("tq.yaml"), environment={}).config

    assert code == 0
    assert config.raft.peers[3] == Address("::1", 7420)
    assert config.data_dir == Path("on: a #disk")
    assert config.http_listen == ("::1", 1)
    assert config.worker == Config().worker
    assert config.monitoring == Config().monitoring


# ---------------------------------------------------------------- version, healthcheck


def test_the_version_is_printed(run: Run) -> None:
    assert (0, f"tq-node {version()}\n", "") == run("version")


def test_a_healthcheck_asks_the_configured_address(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Target, str]] = []

    def ask(target: Target, path: str) -> str:
        asked.append((target, path))
        return ""

    monkeypatch.setattr(healthcheck, "ask", ask)
    monkeypatch.setenv("TQ_API__PORT", "9")
    assert (0, "ok\n", "") == run("healthcheck")
    for name, value in (
        ("TQ_API__HOST", "0.0.0.0"),
        ("TQ_API__TLS", "certificate=c,key=k"),
        ("TQ_AUTH__TOKENS_FILE", "t"),
    ):
        monkeypatch.setenv(name, value)
    assert (0, "ok\n", "") == run("healthcheck", "--ready")

    address = Address("127.0.0.1", 9)
    assert [(Target(address), "/livez"), (Target(address, tls=True), "/readyz")] == asked


def test_a_healthcheck_of_a_wrong_address_is_bad_usage(run: Run) -> None:
    code, _, err = run("healthcheck", "--http", "here")

    assert code == 2
    assert "must be HOST:PORT" in err


# ------------------------------------------------------------------- streams that are gone


def command(line: str) -> subprocess.CompletedProcess[str]:
    """Run a shell line in which $NODE is the command."""
    return subprocess.run(
        ["bash", "-c", line],
        env={**os.environ, "NODE": f"{sys.executable} -m node", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_exit_code_survives_closed_streams() -> None:
    closed = "<&- >&- 2>&-"

    assert command(f"$NODE config check {closed}").returncode == 0
    assert command(f"$NODE config check /none {closed}").returncode == 2


def test_a_reader_that_left_early_causes_no_traceback() -> None:
    result = command("$NODE config show | head -n 1")

    assert (result.stdout, result.stderr) == ("broker:\n", "")


CLOSED_STREAMS = """
import os, sys, types
from node import cli, healthcheck

async def serve(config):
    return sum(os.readlink(f"/proc/self/fd/{n}") != "/dev/null" for n in (0, 1, 2))

sys.modules["node.server"] = server = types.ModuleType("node.server")
server.serve = serve
sys.argv = ["tq-node"]
cli.main()
"""


def test_closed_streams_are_filled_before_a_data_file_takes_their_number(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(CLOSED_STREAMS)

    assert command(f"{sys.executable} {script} <&- >&- 2>&-").returncode == 0


def test_a_python_without_assertions_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-O", "-m", "node", "version"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert 2 == done.returncode
    assert "-O" in done.stderr
