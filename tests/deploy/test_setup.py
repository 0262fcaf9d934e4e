"""`deploy/compose/setup.sh`: makes what is missing, once, and each file for those it is for."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.certificates import read_facts
from node.tokens import Role, add_token, read_tokens
from tests.deploy.compose import NODES, ROOT

SCRIPT = ROOT / "deploy" / "compose" / "setup.sh"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["sh", SCRIPT, *arguments],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def set_up(folder: Path, *more: str) -> None:
    done = run(folder, *more)
    assert done.returncode == 0, done.stdout + done.stderr


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return mode and content of each file by its path."""
    return {
        path.relative_to(folder).as_posix(): (stat.S_IMODE(path.stat().st_mode), path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("secrets")
    set_up(folder)
    return folder


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """What was made, in a folder that a test may change."""
    return shutil.copytree(made, tmp_path / "secrets")


def test_each_service_has_its_own_and_no_more(made: Path) -> None:
    for name in NODES:
        assert sorted(p.name for p in (made / name).iterdir()) == [
            "ca.pem",
            "node.key",
            "node.pem",
            "tokens",
        ]
        facts = read_facts(made / name / "node.pem")
        assert f"tq-{facts.node_id}" == name
        assert facts.hosts == {name, "localhost", "127.0.0.1"}
    for name in ("worker", "prometheus", "admin"):
        assert sorted(p.name for p in (made / name).iterdir()) == ["ca.pem", "token"]


def test_tokens_have_the_role_that_their_service_needs(made: Path) -> None:
    tokens = read_tokens(made / "tq-1" / "tokens")
    assert len(tokens) == 3
    for name, role in (
        ("worker", Role.CLIENT),
        ("prometheus", Role.METRICS),
        ("admin", Role.ADMIN),
    ):
        assert tokens.find((made / name / "token").read_text().strip()) == (name, role)


def test_nothing_is_readable_for_everybody_but_certificates(made: Path) -> None:
    for name, (mode, content) in everything(made).items():
        assert content
        if name.startswith("authority/") or name.endswith(("/node.key", "/tokens")):
            assert mode == 0o600, name
        else:
            assert mode == (0o640 if name.endswith("/token") else 0o644), name
    for folder in made.iterdir():
        group = folder.name in {"worker", "prometheus", "admin"}
        assert stat.S_IMODE(folder.stat().st_mode) == (0o750 if group else 0o700)


def test_again_it_changes_nothing(made: Path) -> None:
    before = everything(made)
    set_up(made)
    assert everything(made) == before


@pytest.mark.parametrize(
    "lost",
    [
        ("authority/node-2.pem", "tq-2/node.pem"),
        ("authority/node-2.key", "authority/node-2.pem", "tq-2/node.key"),
        ("authority/worker.token", "worker/token"),
        ("tq-3/tokens", "admin/ca.pem"),
    ],
)
def test_what_was_cut_off_half_way_is_completed(lost: tuple[str, ...], copy: Path) -> None:
    before = everything(copy)
    for name in lost:
        (copy / name).unlink()
    (copy / "authority/half.token.new").touch()
    set_up(copy)
    after = everything(copy)
    assert set(after) - set(before) == {"authority/half.token.new"}
    assert {name: mode for name, (mode, _) in after.items() if name in before} == {
        name: mode for name, (mode, _) in before.items()
    }
    tokens = read_tokens(copy / "tq-1" / "tokens")
    assert tokens.find((copy / "worker/token").read_text().strip()) is not None
    assert after["authority/ca.pem"] == before["authority/ca.pem"]
    for name, place in (("node-2.key", "tq-2/node.key"), ("tokens", "tq-3/tokens")):
        assert after[place][1] == after[f"authority/{name}"][1]


def test_an_authority_that_was_not_finished_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "authority.new").mkdir()
    (tmp_path / "authority.new" / "ca.key").write_text("half")
    set_up(tmp_path)
    assert not (tmp_path / "authority.new").exists()


def test_a_token_that_was_added_reaches_every_node(copy: Path) -> None:
    token = add_token(copy / "authority" / "tokens", "shop", role=Role.CLIENT)
    set_up(copy)
    found = [read_tokens(copy / name / "tokens").find(token) for name in NODES]
    assert found == [("shop", Role.CLIENT)] * 3


def test_renewed_certificates_are_new_and_everything_else_stays(copy: Path) -> None:
    before = everything(copy)
    set_up(copy, "renew")
    after = everything(copy)
    changed = {name for name in before if before[name] != after[name]}
    issued = {f"authority/node-{id_}.{kind}" for id_ in (1, 2, 3) for kind in ("pem", "key")}
    assert changed == issued | {f"{name}/node.{kind}" for name in NODES for kind in ("pem", "key")}


@pytest.mark.parametrize("arguments", [(), ("a", "b"), ("a", "renew", "c")])
def test_a_wrong_command_line_is_refused(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stderr) == (2, "usage: setup.sh DIR [renew]\n")


def test_a_folder_that_is_not_there_is_named() -> None:
    done = run("no-such-folder")
    assert done.returncode != 0
    assert "no-such-folder" in done.stderr
