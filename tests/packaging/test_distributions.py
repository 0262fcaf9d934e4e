"""Two distributions from one tree: the SDK `tq`, and `tq-server`, which depends on it.

A user's application installs the SDK alone: its only top-level name is `tq`, and it
brings no server and no tests. Everything here is built as an installer would.
"""

from __future__ import annotations

import email
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from email.message import Message
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
_SERVER_PACKAGES: Final = {"cluster", "node", "statemachine"}


def _run(*arguments: str | Path, directory: Path) -> str:
    """Run a command to its end; fail with everything it said."""
    done = subprocess.run(
        [str(argument) for argument in arguments],
        cwd=directory,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _build(project: Path, target: str, *, into: Path) -> Path:
    """Build a wheel or sdist with the backend both projects name, without a network."""
    _run(sys.executable, "-m", "hatchling", "build", "-t", target, "-d", into, directory=project)
    (built,) = into.iterdir()
    return built


def _files(wheel: Path) -> set[str]:
    """Return the names in a wheel, without its metadata."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def _metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


def _sources(*packages: str) -> set[str]:
    """Return what a wheel of these packages must hold: their modules, and the type marker."""
    return {
        path.relative_to(ROOT).as_posix()
        for package in packages
        for pattern in ("*.py", "py.typed")
        for path in (ROOT / package).rglob(pattern)
    }


def _project(path: str) -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((ROOT / path).read_text(encoding="utf-8"))["project"]
    return project


@pytest.fixture(scope="module")
def sdk_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The SDK's wheel, built from the tree."""
    return _build(ROOT / "tq", "wheel", into=tmp_path_factory.mktemp("sdk"))


@pytest.fixture(scope="module")
def server_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server's wheel, built from the tree."""
    return _build(ROOT, "wheel", into=tmp_path_factory.mktemp("server"))


def _unpacked_sdist(project: Path, tmp_path: Path) -> Path:
    """Build a source distribution and return the folder it unpacks to."""
    with tarfile.open(_build(project, "sdist", into=tmp_path / "sdist")) as archive:
        # Early patch releases of 3.11 do not know the argument; the archive is our own.
        bounds: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(tmp_path / "unpacked", **bounds)
    (folder,) = (tmp_path / "unpacked").iterdir()
    return folder


def test_the_sdk_holds_the_package_tq_and_nothing_else(sdk_wheel: Path) -> None:
    assert _files(sdk_wheel) == _sources("tq")
    assert {name.split("/")[0] for name in _files(sdk_wheel)} == {"tq"}
    assert "tq/py.typed" in _files(sdk_wheel)


def test_the_server_holds_its_three_packages_and_not_the_sdk(server_wheel: Path) -> None:
    assert _files(server_wheel) == _sources(*_SERVER_PACKAGES)


@pytest.mark.parametrize("project", ["tq", "."])
def test_a_wheel_built_from_the_sdist_equals_one_built_from_the_tree(
    project: str, tmp_path: Path, sdk_wheel: Path, server_wheel: Path
) -> None:
    from_tree = sdk_wheel if project == "tq" else server_wheel
    folder = _unpacked_sdist(ROOT / project, tmp_path)
    from_sdist = _build(folder, "wheel", into=tmp_path / "wheel")
    assert _files(from_sdist) == _files(from_tree)
    assert _metadata(from_sdist).as_string() == _metadata(from_tree).as_string()


@pytest.mark.parametrize("project", ["tq", "."])
def test_a_source_distribution_carries_no_tests(project: str, tmp_path: Path) -> None:
    folder = _unpacked_sdist(ROOT / project, tmp_path)
    tests = [p for p in folder.rglob("*") if p.name.startswith("test") or p.name == "conftest.py"]
    assert tests == []


def test_the_server_depends_on_the_sdk_of_its_own_version() -> None:
    server, sdk = _project("pyproject.toml"), _project("tq/pyproject.toml")
    assert server["version"] == sdk["version"]
    assert f"tq=={sdk['version']}" in server["dependencies"]
    assert server["requires-python"] == sdk["requires-python"]


def test_the_sdk_depends_on_light_things_only(sdk_wheel: Path) -> None:
    lines = _metadata(sdk_wheel).get_all("Requires-Dist", [])
    required = {re.split(r"[^\w-]", line)[0] for line in lines}
    assert required == {"click", "msgpack", "pyyaml", "uuid-utils"}


@pytest.mark.long
def test_the_sdk_alone_works_in_a_fresh_environment(sdk_wheel: Path, tmp_path: Path) -> None:
    python = _fresh_environment(tmp_path / "venv")
    _pip(python, "install", sdk_wheel, directory=tmp_path)
    program = (
        "import importlib.util as find, tq, tq.protocol\n"
        "print([n for n in ('cluster', 'node', 'statemachine', 'tests') if find.find_spec(n)])\n"
    )
    assert _run(python, "-c", program, directory=tmp_path) == "[]\n"
    for command in ("tq-worker", "tq-admin"):
        assert "Usage" in _run(python.parent / command, "--help", directory=tmp_path)


@pytest.mark.long
def test_both_install_together_and_the_node_starts(
    sdk_wheel: Path, server_wheel: Path, tmp_path: Path
) -> None:
    python = _fresh_environment(tmp_path / "venv")
    _pip(python, "install", sdk_wheel, server_wheel, directory=tmp_path)
    assert "Usage" in _run(python.parent / "tq-node", "--help", directory=tmp_path)
    _pip(python, "uninstall", "-y", "tq-server", directory=tmp_path)
    _run(python, "-c", "import tq", directory=tmp_path)


def _fresh_environment(folder: Path) -> Path:
    """Make a virtual environment with nothing in it; return its python."""
    venv.create(folder)
    return folder / "bin" / "python"


def _pip(python: Path, *arguments: str | Path, directory: Path) -> None:
    """Install for a fresh python with the pip that is here: to unpack another takes seconds."""
    pip = (sys.executable, "-m", "pip", "--python", python)
    _run(*pip, arguments[0], "--quiet", *arguments[1:], directory=directory)
