"""The example file and docs/configuration.md say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from node.config import KEYS, SECTIONS, Config
from node.config_load import Flag, load

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "deploy" / "tq.example.yaml"
DOCUMENT = ROOT / "docs" / "configuration.md"


def documented() -> dict[tuple[str, str], tuple[str, str]]:
    """(default, scope) of every row of the tables below a section's heading."""
    rows = {}
    section = ""
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            section = line.lstrip("# ")
        row = re.match(r"\| `(\w+)` \| (\S[^|]*) \| (\w+) \| \S", line)
        if section in SECTIONS and row:
            rows[section, row[1]] = (row[2].strip("`"), row[3])
    return rows


def test_every_key_is_documented_once_and_nothing_else_is() -> None:
    assert list(KEYS) == list(documented())


def test_documented_defaults_are_the_defaults() -> None:
    rows = documented()
    flags = {
        key: Flag("--x", default.strip("[]"))
        for key, (default, _) in rows.items()
        if default not in {"not set", "{}"}
    }

    assert Config() == load(environment={}, flags=flags).config
    for (section, key), (default, _) in rows.items():
        value = getattr(getattr(Config(), section), key)
        assert (value is None or value == {}) is (default in {"not set", "{}", "auto"})


def test_scopes_are_cluster_or_node() -> None:
    assert {"cluster", "node"} == {scope for _, scope in documented().values()}


def test_the_example_file_is_a_valid_configuration_of_three_nodes() -> None:
    result = load(EXAMPLE, environment={})

    assert () == result.warnings
    assert result.config.voters == (1, 2, 3)


def test_the_example_file_names_every_key() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    named = set()
    section = ""
    for line in text.splitlines():
        if heading := re.match(r"(\w+):", line):
            section = heading[1]
        if entry := re.match(r"  (?:# )?(\w+): ", line + " "):
            named.add((section, entry[1]))

    assert set(KEYS) == named


def test_the_example_file_holds_the_defaults() -> None:
    given = load(EXAMPLE, environment={}).config
    raft = given.raft.model_copy(update={"peers": {}})
    persistence = given.persistence.model_copy(update={"data_dir": None})

    assert Config() == given.model_copy(update={"raft": raft, "persistence": persistence})
