"""Every import contract bites: one offence is planted for each, and each is reported."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]

# (a word of the contract's name, the file that offends, the import that does)
OFFENCES: Final = (
    ("node composes", "cluster/interface.py", "import statemachine.types"),
    ("the SDK knows nothing", "tq/ids.py", "import cluster.interface"),
    ("the server knows the wire", "node/addresses.py", "import tq.client"),
    ("the state machine has no clock", "statemachine/types.py", "import time"),
    ("sans-I/O", "tq/protocol.py", "import socket"),
    ("PySyncObj", "node/addresses.py", "import pysyncobj"),
    ("RocksDB", "node/addresses.py", "import rocksdict"),
    ("certificates", "node/addresses.py", "import cryptography"),
    ("msgpack", "node/addresses.py", "import msgpack"),
    ("composition root", "node/addresses.py", "import cluster.engine"),
    ("chaos is a black box", "chaos/history.py", "import statemachine.codec"),
    ("leans on chaos", "node/addresses.py", "import chaos.history"),
    ("circles", "statemachine/types.py", "import statemachine.machine"),
)


def _verdicts(tree: Path) -> dict[str, str]:
    """Check the contracts of a tree: the name of each -> KEPT or BROKEN."""
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    verdicts = dict(re.findall(r"^(.+) (KEPT|BROKEN)(?: \(.*\))?$", done.stdout, re.MULTILINE))
    assert verdicts, done.stdout + done.stderr
    return verdicts


def test_each_contract_is_broken_by_its_planted_offence(tmp_path: Path) -> None:
    for package in ("chaos", "cluster", "node", "statemachine", "tq"):
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for _, file, offence in OFFENCES:
        with (tmp_path / file).open("a", encoding="utf-8") as source:
            source.write(f"\n{offence}\n")
    verdicts = _verdicts(tmp_path)
    kept = [name for name, verdict in verdicts.items() if verdict == "KEPT"]
    assert kept == []


def test_there_is_an_offence_for_each_contract() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    names = [contract["name"] for contract in settings["tool"]["importlinter"]["contracts"]]
    without = [n for n in names if sum(word in n for word, _, _ in OFFENCES) != 1]
    assert without == []
