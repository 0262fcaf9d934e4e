"""The house is in order: style and purity as failing tests."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from tests.tidy import checks

ROOT: Final = Path(__file__).resolve().parents[2]
_SKIPPED: Final = {"__pycache__", "dist", "build", "out"}


def _tree() -> Iterator[Path]:
    """Yield every file of the project; hidden folders hold tools' own things, but for .ci."""
    folders = [ROOT]
    while folders:
        for path in sorted(folders.pop().iterdir()):
            hidden = path.name.startswith(".") and path.name != ".ci"
            if path.is_dir() and not hidden and path.name not in _SKIPPED:
                folders.append(path)
            elif path.is_file() and not path.name.endswith(".pyc"):
                yield path


FILES: Final = {path.relative_to(ROOT).as_posix(): path for path in _tree()}
FOLDERS: Final = {p.as_posix() for name in FILES for p in Path(name).parents} - {"."}
PYTHON: Final = {name: path for name, path in FILES.items() if name.endswith(".py")}
SHIPPED: Final = {
    name: path
    for name, path in PYTHON.items()
    if name.split("/")[0] in {"cluster", "node", "statemachine", "tq"}
}
DOCUMENTS: Final = {name: path for name, path in FILES.items() if name.endswith(".md")}
TEXTS: Final = {
    name: path
    for name, path in FILES.items()
    if path.suffix in {".py", ".md", ".toml", ".yaml", ".yml", ".txt", ".ini", ".cfg"}
    or path.name in {"Makefile", "Dockerfile", "run", ".gitignore"}
}

PROMISED_TARGETS: Final = (
    *("demo", "test", "check", "cluster", "sim", "sim-teeth"),
    *("chaos", "chaos-teeth", "bench", "bench-peers", "fuzz"),
)

LAWFUL: Final = {
    # msgpack refuses bad input in a dozen ways, none documented; one place turns them into one.
    "statemachine/codec.py: except Exception",
}

# The word not used -> the word that is (docs/glossary.md has the reasons).
AVOIDED: Final = {
    r"(?<![a-z-])jobs?(?![a-z])": "task",
    r"\benqueu|\bdequeu": "submit, claim",
    r"\bvisibility.timeout": "lease",
    r"\bslaves?\b|\bmaster node": "leader, follower",
    r"\bexactly.once delivery": "at-least-once execution, one recorded outcome",
    r"\bpoison (task|message)|\bmorgue\b": "dead letter",
}


def _findings(check: Callable[[str, str], Iterator[str]], files: dict[str, Path]) -> list[str]:
    return [
        finding
        for name, path in files.items()
        for finding in check(name, path.read_text(encoding="utf-8"))
    ]


def test_functions_fit_on_a_screen() -> None:
    assert _findings(checks.long_functions, PYTHON) == []


def test_modules_can_be_held_in_the_head() -> None:
    assert _findings(checks.long_module, PYTHON) == []


def test_names_say_what_is_inside() -> None:
    assert [finding for name in PYTHON for finding in checks.empty_name(name)] == []


def test_each_module_opens_with_what_it_is_for() -> None:
    # A test module is named after what it tests, and its tests are sentences.
    spoken = {n: p for n, p in PYTHON.items() if not Path(n).name.startswith("test_")}
    assert _findings(checks.missing_docstring, spoken) == []


def test_bytes_from_outside_never_become_code() -> None:
    assert _findings(checks.unsafe_parsing, SHIPPED) == []


@pytest.mark.parametrize("check", [checks.impurity, checks.sets_iterated_by_name])
def test_the_state_machine_is_pure(check: Callable[[str, str], Iterator[str]]) -> None:
    machine = {name: path for name, path in SHIPPED.items() if name.startswith("statemachine/")}
    assert machine
    findings = [re.sub(r":\d+:", ":", finding) for finding in _findings(check, machine)]
    assert [finding for finding in findings if finding not in LAWFUL] == []
    assert max([findings.count(finding) for finding in LAWFUL], default=0) <= 1


def test_tests_wait_for_signals_not_for_time() -> None:
    tests = {name: path for name, path in PYTHON.items() if name.startswith("tests/")}
    assert _findings(checks.sleeps, tests) == []


def test_the_project_knows_no_machine_but_the_users() -> None:
    assert _findings(checks.machine_words, TEXTS) == []


def test_one_word_per_thing() -> None:
    spoken = {
        name: path
        for name, path in {**PYTHON, **DOCUMENTS}.items()
        # The glossary and these checks name the words in order to rule them out.
        if name != "docs/glossary.md" and not name.startswith("tests/tidy/")
    }
    assert _findings(partial(checks.foreign_words, avoided=AVOIDED), spoken) == []


def test_every_avoided_word_is_explained_in_the_glossary() -> None:
    glossary = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
    missing = [p for p in AVOIDED if not re.search(p, glossary, re.IGNORECASE)]
    assert missing == []


@pytest.mark.parametrize("check", [checks.dead_links, checks.dead_paths])
def test_what_documents_point_at_is_there(check: Callable[..., Iterator[str]]) -> None:
    exists = frozenset(FILES) | frozenset(FOLDERS)
    assert _findings(partial(check, exists=exists), DOCUMENTS) == []


def _decisions() -> dict[str, Path]:
    return {
        name: path for name, path in DOCUMENTS.items() if re.match(r"docs/adr/(?!0000)\d{4}-", name)
    }


def test_every_decision_is_in_the_index() -> None:
    index = (ROOT / "docs/adr/0000-index.md").read_text(encoding="utf-8")
    names = [Path(name).name for name in _decisions()]
    assert names
    assert list(checks.unlinked_decisions(index, names)) == []


def test_every_decision_has_the_three_parts() -> None:
    assert _findings(checks.decision_form, _decisions()) == []


def test_the_changelog_has_its_form() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert list(checks.changelog_form(text)) == []


def test_no_file_is_a_blob() -> None:
    large = [
        f"{name}: {path.stat().st_size} bytes"
        for name, path in FILES.items()
        if path.stat().st_size > checks.FILE_BYTES_MAX
    ]
    assert large == []


def _documentation() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in DOCUMENTS.values())


def _members(path: Path, name: str) -> set[str]:
    """Return the string values of an enumeration, read from its source."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef) and node.name == name:
            return {
                target.id
                for statement in node.body
                if isinstance(statement, ast.Assign)
                for target in statement.targets
                if isinstance(target, ast.Name) and target.id.isupper()
            }
    raise AssertionError(f"no {name} in {path}")


@pytest.mark.parametrize("enumeration", ["Code", "Type"])
def test_every_code_and_frame_type_is_documented(enumeration: str) -> None:
    names = _members(ROOT / "tq/protocol.py", enumeration)
    assert names
    protocol = (ROOT / "docs/protocol.md").read_text(encoding="utf-8")
    assert list(checks.undocumented(names, protocol, what=enumeration)) == []


def test_every_metric_is_documented() -> None:
    tree = ast.parse((ROOT / "node/metrics.py").read_text(encoding="utf-8"))
    names = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"tq_[a-z_]+", node.value)
    }
    assert names
    assert list(checks.undocumented(names, _documentation(), what="metric")) == []


def _targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return {t for names in re.findall(r"^\.PHONY: (.+)$", makefile, re.M) for t in names.split()}


def test_the_readme_says_of_every_make_target_that_it_is_there_or_not_yet() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = _targets()
    assert targets.issuperset(PROMISED_TARGETS)
    assert [target for target in sorted(targets) if f"make {target}" not in readme] == []


def test_what_must_pass_is_make_targets_and_the_readme_lists_them() -> None:
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert list(checks.foreign_steps(script, targets=_targets())) == []
    (told,) = re.findall(r"`\.ci/run` runs (.+?)\.\s", readme, re.DOTALL)
    assert re.findall(r"`make ([^` ]+)[^`]*`", told) == checks.steps(script)
