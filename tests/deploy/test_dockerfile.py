"""The Dockerfile: small, without a privilege, without secrets, and what it copies is there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.deploy import dockerfile

IMAGES = ("node", "worker")


def allowed() -> list[str]:
    """Return what the ignore file lets through."""
    lines = dockerfile.IGNORE_FILE.read_text(encoding="utf-8").splitlines()
    return [line.removeprefix("!") for line in lines if line.startswith("!")]


def context(folder: Path) -> Path:
    """Return a copy of what an engine is shown of the tree."""
    folder.mkdir(exist_ok=True)
    for name in allowed():
        source, target = dockerfile.ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    return folder


def test_everything_is_ignored_but_what_is_copied() -> None:
    lines = dockerfile.IGNORE_FILE.read_text(encoding="utf-8").splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    assert patterns[0] == "*"
    assert set(patterns) - {f"!{name}" for name in allowed()} == {"*", "**/__pycache__"}
    assert sorted(allowed()) == sorted({source for _, source in dockerfile.copied()})
    assert [name for name in allowed() if not (dockerfile.ROOT / name).exists()] == []


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_runs_without_a_privilege_and_hears_sigterm(name: str) -> None:
    assert dockerfile.last(name, "USER") == "10001:10001"
    assert dockerfile.last(name, "STOPSIGNAL") == "SIGTERM"
    assert dockerfile.entrypoint(name) == [f"tq-{name}"]
    (made,) = [one.rest for one in dockerfile.effective(name) if "useradd" in one.rest]
    assert "--uid 10001" in made
    assert "--gid 10001" in made


def test_a_node_keeps_its_data_in_a_volume_and_says_how_it_is() -> None:
    (volume,) = dockerfile.Instruction("VOLUME", dockerfile.last("node", "VOLUME")).words()
    assert f"TQ_PERSISTENCE__DATA_DIR={volume}" in dockerfile.last("node", "ENV")
    (made,) = [one.rest for one in dockerfile.effective("node") if "install -d" in one.rest]
    assert volume in made.partition("install -d")[2].split()
    check = dockerfile.last("node", "HEALTHCHECK")
    assert dockerfile.Instruction("CMD", check.partition("CMD ")[2]).words() == [
        "tq-node",
        "healthcheck",
    ]


def test_the_workers_image_is_built_of_the_sdk_alone() -> None:
    (line,) = [one.rest for one in dockerfile.effective("worker") if "--from=" in one.rest]
    assert line.startswith("--from=build-worker ")
    assert [source for stage, source in dockerfile.copied() if stage == "build-worker"] == ["tq"]


def test_stages_and_copies_name_stages_that_come_before() -> None:
    seen: set[str] = set()
    for stage in dockerfile.stages().values():
        images = re.fullmatch(r"python:\$\{PYTHON\}-slim", stage.base)
        assert images or stage.base in seen, stage.base
        for one in stage.instructions:
            for source in re.findall(r"--from=(\S+)", one.rest):
                assert source in seen
        seen.add(stage.name)


def test_no_secret_can_come_from_the_build() -> None:
    text = dockerfile.DOCKERFILE.read_text(encoding="utf-8")
    assert re.findall(r"(?im)^(?:ARG|ENV)\b.*(?:token|secret|password|_key\b)", text) == []
    assert re.findall(r"(?m)^ADD\b|^(?:ENTRYPOINT|CMD|VOLUME)\s+[^\[\s]", text) == []


@pytest.mark.parametrize(
    ("project", "packages"), [("tq", {"tq"}), (".", {"cluster", "node", "statemachine"})]
)
def test_what_is_copied_is_enough_to_build_the_wheels(
    project: str, packages: set[str], tmp_path: Path
) -> None:
    seen = context(tmp_path)
    command = [
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "-t",
        "wheel",
        "-d",
        str(tmp_path / "wheels"),
    ]
    done = subprocess.run(
        command, cwd=seen / project, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = (tmp_path / "wheels").iterdir()
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == packages


@pytest.mark.long
def test_the_commands_of_the_build_stages_work(tmp_path: Path) -> None:
    source, target = context(tmp_path / "src"), tmp_path / "opt"
    for name in ("build-worker", "build-node"):
        for one in dockerfile.stages()[name].instructions:
            if one.word == "RUN":
                text = one.rest.replace("/opt/tq", str(target))
                text = re.sub(r"^python ", f"{sys.executable} ", text)
                done = subprocess.run(
                    ["sh", "-c", text],
                    cwd=source,
                    capture_output=True,
                    text=True,
                    check=False,
                    timeout=400,
                )
                assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        (program,) = dockerfile.entrypoint(name.removeprefix("build-"))
        done = subprocess.run(
            [target / "bin" / program, "--help"], capture_output=True, text=True, check=False
        )
        assert "Usage" in done.stdout
        assert (target / "bin" / "tq-node").exists() is (name == "build-node")
