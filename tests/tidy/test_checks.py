"""Each house rule bites: a planted offence is found, its lawful neighbour is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.tidy import checks

Check = Callable[[str, str], Iterator[str]]

# (check, path, offence, lawful neighbour)
SAMPLES: list[tuple[Check, str, str, str]] = [
    (
        checks.long_functions,
        "a.py",
        "def f():\n" + "    x = 1\n" * 70,
        "def f():\n" + "    x = 1\n" * 69,
    ),
    (
        checks.long_functions,
        "a.py",
        "class A:\n    async def f():\n" + "        x = 1\n" * 70,
        "x = 1\n" * 80,
    ),
    (checks.long_module, "a.py", "x = 1\n" * 501, "x = 1\n" * 500),
    (checks.missing_docstring, "a.py", "x = 1\n", '"""Why."""\nx = 1\n'),
    (checks.missing_docstring, "a.py", "# a comment\nimport os\n", "# only a comment\n"),
    (checks.unsafe_parsing, "node/a.py", "import pickle\n", "import json\n"),
    (checks.unsafe_parsing, "tq/a.py", "# no Pickle here\n", "# nothing here\n"),
    (checks.unsafe_parsing, "tq/a.py", "yaml.load(x)\n", "yaml.safe_load(x)\n"),
    (checks.unsafe_parsing, "tq/a.py", "yaml.load_all(x)\n", "yaml.safe_load_all(x)\n"),
    (checks.unsafe_parsing, "tq/a.py", "yaml.unsafe_load(x)\n", "yaml.load_settings(x)\n"),
    (checks.impurity, "a.py", "h = hash(x)\n", "h = sha256(x)\n"),
    (checks.impurity, "a.py", "h = id(x)\n", "h = x.id()\n"),
    (checks.impurity, "a.py", "f = open(x)\n", "f = x.open\n"),
    (checks.impurity, "a.py", "print(x)\n", "x.print\n"),
    (checks.impurity, "a.py", "x = 0.5\n", "x = 5\n"),
    (checks.impurity, "a.py", "x = a / b\n", "x = a // b\n"),
    (checks.impurity, "a.py", "x /= b\n", "x //= b\n"),
    (checks.impurity, "a.py", "x = float(a)\n", "x = int(a)\n"),
    (checks.impurity, "a.py", "for x in {1, 2}: pass\n", "for x in (1, 2): pass\n"),
    (checks.impurity, "a.py", "for x in set(a): pass\n", "for x in sorted(set(a)): pass\n"),
    (checks.impurity, "a.py", "[x for x in {y for y in a}]\n", "[x for x in a if x in {1, 2}]\n"),
    (checks.impurity, "a.py", "for x in a.union(b): pass\n", "x in a.union(b)\n"),
    (checks.impurity, "a.py", "x = list({1, 2})\n", "x = len({1, 2})\n"),
    (checks.impurity, "a.py", "x = set(a).pop()\n", "x = a.pop()\n"),
    (checks.impurity, "a.py", "try: f()\nexcept: pass\n", "try: f()\nexcept KeyError: pass\n"),
    (
        checks.impurity,
        "a.py",
        "try: f()\nexcept Exception: pass\n",
        "try: f()\nexcept ValueError: pass\n",
    ),
    (
        checks.impurity,
        "a.py",
        "try: f()\nexcept (A, BaseException): pass\n",
        "try: f()\nexcept (A, B): pass\n",
    ),
    (
        checks.sets_iterated_by_name,
        "a.py",
        "a: set[int] = x\nfor i in a: pass\n",
        "a: list[int] = x\nfor i in a: pass\n",
    ),
    (
        checks.sets_iterated_by_name,
        "a.py",
        "class A:\n    a: frozenset[int]\n[i for i in self.a]\n",
        "class A:\n    a: frozenset[int]\n[i for i in sorted(self.a)]\n",
    ),
    (
        checks.sets_iterated_by_name,
        "a.py",
        "def f(a: set[int]):\n    for i in a: pass\n",
        "def f(a: set[int]):\n    return 1 in a\n",
    ),
    (checks.sleeps, "a.py", "time.sleep(1)\n", "clock.sleep(1)\n"),
    (checks.sleeps, "a.py", "await asyncio.sleep(0.1)\n", "await asyncio.sleep(0)\n"),
    (checks.sleeps, "a.py", "await asyncio.sleep(x)\n", "while not seen():\n    time.sleep(x)\n"),
    (checks.machine_words, "a.md", "see /" + "tmp/x\n", "see docs/tmp/x\n"),
    (checks.machine_words, "a.md", "see /" + "work/main\n", "see net/work/main\n"),
    (checks.machine_words, "a.md", "in /" + "home/ann\n", "in $HOME/ann\n"),
    (checks.machine_words, "a.toml", "url = 'https://pypi" + ".org'\n", "name = 'tq'\n"),
    (checks.machine_words, "a.md", "pip install --extra-" + "index-url x\n", "pip install x\n"),
    (checks.machine_words, "a.md", "as issue " + "#12 says\n", "the issue is speed\n"),
    (checks.machine_words, "a.md", "a proto" + "type of it\n", "a protocol\n"),
    (
        checks.decision_form,
        "a.md",
        "# A\n",
        "Status: accepted\n## Context\n## Decision\n## Consequences\n",
    ),
]


@pytest.mark.parametrize(("check", "path", "offence", "lawful"), SAMPLES)
def test_a_check_tells_the_offence_from_its_lawful_neighbour(
    check: Check, path: str, offence: str, lawful: str
) -> None:
    assert len(list(check(path, offence))) == 1 or check is checks.decision_form
    assert list(check(path, offence)) != []
    assert list(check(path, lawful)) == []


def test_a_sleep_in_virtual_time_takes_no_time() -> None:
    virtual = "from tests.support.virtual_time import run\n"
    assert list(checks.sleeps("a.py", virtual + "await asyncio.sleep(9)\n")) == []
    assert list(checks.sleeps("a.py", virtual + "time.sleep(9)\n")) != []


def test_names_that_say_nothing_are_found_at_every_level() -> None:
    offences = ["node/utils.py", "common/a.py", "tq/task_manager.py", "tests/_helpers.py"]
    assert [o for o in offences if not list(checks.empty_name(o))] == []
    assert list(checks.empty_name("node/leases.py")) == []
    assert list(checks.empty_name("cluster/database.py")) == []


def test_a_link_or_anchor_that_leads_nowhere_is_found() -> None:
    exists = frozenset({"README.md", "docs", "docs/a.md"})
    good = (
        "# Top it\n[a](a.md) [r](../README.md) [d](../docs) [x](https://h.example/y) [t](#top-it)\n"
    )
    assert list(checks.dead_links("docs/b.md", good, exists=exists)) == []
    assert len(list(checks.dead_links("docs/b.md", "[a](c.md)", exists=exists))) == 1
    assert len(list(checks.dead_links("docs/b.md", "[a](#nothing)", exists=exists))) == 1
    assert list(checks.dead_links("docs/b.md", "```\n[a](c.md)\n```\n", exists=exists)) == []


def test_a_named_file_that_is_not_there_is_found() -> None:
    exists = frozenset({"node", "node/tcp.py", "README.md"})
    good = "`node/tcp.py` and `node` and `other/thing` and `a/b`"
    assert list(checks.dead_paths("a.md", good, exists=exists)) == []
    assert len(list(checks.dead_paths("a.md", "see `node/udp.py`", exists=exists))) == 1


def test_a_decision_outside_the_index_or_out_of_number_is_found() -> None:
    index = "[one](0001-one.md) [two](0002-two.md)"
    assert list(checks.unlinked_decisions(index, ["0001-one.md", "0002-two.md"])) == []
    assert len(list(checks.unlinked_decisions(index, ["0001-one.md", "0002-too.md"]))) == 1
    assert len(list(checks.unlinked_decisions(index, ["0002-two.md"]))) == 1


def test_a_changelog_out_of_form_is_found() -> None:
    good = "# Changelog\n\n## Unreleased\n\n### Added\n\n## 1.0.0 - 2030-01-31\n"
    assert list(checks.changelog_form(good)) == []
    for bad in ("## 1.0.0 - 2030-01-31\n", good + "## 1.1\n", good + "### New\n"):
        assert len(list(checks.changelog_form(bad))) == 1


def test_a_foreign_word_is_found_and_named_with_ours() -> None:
    avoided = {r"\bjobs?\b": "task"}
    found = list(checks.foreign_words("a.py", "x = 1\ntwo jobs\n", avoided=avoided))
    assert found == ["a.py:2: the word here is 'task': two jobs"]
    assert list(checks.foreign_words("a.py", "two tasks\n", avoided=avoided)) == []


def test_a_name_is_documented_only_by_itself() -> None:
    documents = "`tq_tasks_total` and LEASE_LOST."
    assert list(checks.undocumented({"tq_tasks_total"}, documents, what="metric")) == []
    assert list(checks.undocumented({"LEASE"}, documents, what="Code")) != []


def test_a_step_that_nobody_else_can_call_or_replay_is_found() -> None:
    first = '#!/usr/bin/env bash\nset -euo pipefail\nseed="$((16#$(git rev-parse HEAD)))"\n'
    good = first + 'make test ARGS="-x"\nmake sim BASE="$seed"\n'
    targets = {"test", "sim", "chaos"}
    assert list(checks.foreign_steps(good, targets=targets)) == []
    assert checks.steps(good) == ["test", "sim"]
    for bad in ("python -m chaos", "make nothing", "make chaos MINUTES=4", "make chaos SEED=4"):
        assert len(list(checks.foreign_steps(f"{good}{bad}\n", targets=targets))) == 1
    unseeded = good.replace("git rev-parse HEAD", "date +%s")
    assert len(list(checks.foreign_steps(unseeded, targets=targets))) == 1
