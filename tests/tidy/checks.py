"""The house rules as functions: a source in, findings out.

Each check takes a path (for the words of the finding) and a text, reads nothing
else, and returns one sentence per finding. `test_tidy.py` runs them over the tree;
`test_checks.py` shows that each one bites.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Final

FUNCTION_LINES_MAX: Final = 70
MODULE_LINES_MAX: Final = 500
FILE_BYTES_MAX: Final = 200_000

_NAMES_THAT_SAY_NOTHING: Final = {"utils", "util", "helpers", "helper", "common", "base", "manager"}
_IMPURE_CALLS: Final = {"hash", "id", "open", "print", "input", "eval", "exec", "__import__"}
_SHIPPED: Final = ("cluster", "node", "statemachine", "tq")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def long_functions(path: str, text: str) -> Iterator[str]:
    """A function fits on a screen: 70 lines, signature and docstring included."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, Function):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield f"{path}:{node.lineno}: {node.name} has {lines} lines"


def long_module(path: str, text: str) -> Iterator[str]:
    """A module can be held in the head: 500 lines at most."""
    lines = len(text.splitlines())
    if lines > MODULE_LINES_MAX:
        yield f"{path}: {lines} lines"


def empty_name(path: str) -> Iterator[str]:
    """A module or folder is named after what it holds."""
    for part in PurePosixPath(path).with_suffix("").parts:
        words = set(part.lower().strip("_").split("_"))
        if words & _NAMES_THAT_SAY_NOTHING:
            yield f"{path}: the name '{part}' says nothing"


def missing_docstring(path: str, text: str) -> Iterator[str]:
    """A module opens with what it is for."""
    tree = ast.parse(text)
    if tree.body and ast.get_docstring(tree) is None:
        yield f"{path}: no module docstring"


def unsafe_parsing(path: str, text: str) -> Iterator[str]:
    """Bytes from outside never become code: nothing names pickle, YAML is loaded safely."""
    if PurePosixPath(path).parts[0] not in _SHIPPED:
        return
    for number, line in enumerate(text.splitlines(), start=1):
        if "pickle" in line.lower():
            yield f"{path}:{number}: names pickle"
        if re.search(r"\byaml\.(unsafe_|full_)?load(_all)?\b", line):
            yield f"{path}:{number}: loads YAML without the safe loader"


def impurity(path: str, text: str) -> Iterator[str]:
    """The state machine gives the same answer everywhere.

    `hash()` and the order of a set depend on the process, `id()` on the run, floats
    on habits of rounding; a broad `except` would hide a broken invariant.
    """
    for node in ast.walk(ast.parse(text)):
        for finding in (*_impure_value(node), *_disorder(node), *_hidden_trouble(node)):
            yield f"{path}:{getattr(node, 'lineno', 0)}: {finding}"


def _impure_value(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Call(func=ast.Name(id=name)) if name in _IMPURE_CALLS:
            yield f"calls {name}()"
        case ast.Call(func=ast.Name(id="float")):
            yield "makes a float"
        case ast.Constant(value=float() as value):
            yield f"float literal {value}"
        case ast.BinOp(op=ast.Div()) | ast.AugAssign(op=ast.Div()):
            yield "divides with /, which makes a float"


def _disorder(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Call(func=ast.Name(id="list" | "tuple" | "iter" | "next" | "enumerate"), args=[a]):
            if _is_set(a):
                yield "takes the elements of a set in no fixed order"
        case ast.Call(func=ast.Attribute(attr="pop", value=value), args=[]) if _is_set(value):
            yield "takes any element of a set"
        case ast.For(iter=source) | ast.comprehension(iter=source) if _is_set(source):
            yield "iterates over a set"


def _hidden_trouble(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.ExceptHandler(type=None):
            yield "bare except"
        case ast.ExceptHandler(type=kind) if kind and _catches_everything(kind):
            yield "except Exception"


def _is_set(node: ast.AST) -> bool:
    match node:
        case ast.Set() | ast.SetComp():
            return True
        case ast.Call(func=ast.Name(id="set" | "frozenset")):
            return True
        case ast.Call(func=ast.Attribute(attr="union" | "intersection" | "difference")):
            return True
    return False


def _catches_everything(kind: ast.AST) -> bool:
    names = {node.id for node in ast.walk(kind) if isinstance(node, ast.Name)}
    return not names.isdisjoint({"Exception", "BaseException"})


def sets_iterated_by_name(path: str, text: str) -> Iterator[str]:
    """No loop runs over a name or attribute that the same module annotates as a set."""
    tree = ast.parse(text)
    sets = {
        _last_name(node.target)
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign) and _annotates_set(node.annotation)
    } | {
        node.arg
        for node in ast.walk(tree)
        if isinstance(node, ast.arg) and node.annotation and _annotates_set(node.annotation)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.For | ast.comprehension):
            name = _last_name(node.iter)
            if name and name in sets:
                yield f"{path}:{node.iter.lineno}: iterates over the set {name}"


def _annotates_set(annotation: ast.AST) -> bool:
    outer = annotation.value if isinstance(annotation, ast.Subscript) else annotation
    return isinstance(outer, ast.Name) and outer.id in {"set", "frozenset", "AbstractSet", "Set"}


def _last_name(node: ast.AST) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def sleeps(path: str, text: str) -> Iterator[str]:
    """A test waits for what it wants to see, never for a span of time.

    A sleep may be the pace of a loop, which looks for something or makes load, no more.
    In a module of virtual time an `asyncio.sleep` takes none.
    """
    virtual = "virtual_time" in text
    tree = ast.parse(text)
    paces = {
        id(inner)
        for loop in ast.walk(tree)
        if isinstance(loop, ast.While | ast.For)
        for inner in ast.walk(loop)
    }
    for node in ast.walk(tree):
        if id(node) in paces:
            continue
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="time"), attr="sleep")):
                yield f"{path}:{node.lineno}: time.sleep"
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="asyncio"), attr="sleep"), args=[span]
            ) if not virtual and not (isinstance(span, ast.Constant) and span.value == 0):
                yield f"{path}:{node.lineno}: asyncio.sleep"


def machine_words(path: str, text: str) -> Iterator[str]:
    """The project works anywhere: no path of one machine, no address of one registry."""
    for number, line in enumerate(text.splitlines(), start=1):
        for pattern, what in _MACHINE_WORDS.items():
            if re.search(pattern, line):
                yield f"{path}:{number}: {what}"


# Written in pieces, or this file would find itself.
_MACHINE_WORDS: Final[Mapping[str, str]] = {
    r"(?<![\w.])/" + r"work/": "a path of one machine",
    r"(?<![\w.])/" + r"tmp/": "a path of one machine; use a temporary directory",
    r"/" + r"home/\w": "a path of one machine",
    r"/" + r"Users/\w": "a path of one machine",
    r"pypi" + r"\.org|pythonhosted\.org|registry\.npm|docker\.io|ghcr\.io": "a registry's host",
    r"--(extra-)?" + r"index-url": "names a package index",
    r"(?i)\bissue " + r"#?\d": "a number that means nothing to a reader of this tree",
    r"(?i)\bproto"
    + r"types?\b|\bassist"
    + r"ants?\b|DESIGN"
    + r"\.md": "not a word of this project",
}


def dead_links(path: str, text: str, *, exists: frozenset[str]) -> Iterator[str]:
    """Relative links of a document lead somewhere.

    Args:
        path: The document, relative to the root.
        text: Its content.
        exists: Every file and folder of the tree, relative to the root.
    """
    folder = PurePosixPath(path).parent
    for target in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", without_code(text)):
        if re.match(r"[a-z]+:", target):
            continue
        place, _, anchor = target.partition("#")
        if place and _resolve(folder / place) not in exists:
            yield f"{path}: {target} leads nowhere"
        if not place and anchor not in anchors(text):
            yield f"{path}: no heading for {target}"


def dead_paths(path: str, text: str, *, exists: frozenset[str]) -> Iterator[str]:
    """Files and folders that a document names in code style are there."""
    roots = {name.split("/")[0] for name in exists if "/" in name}
    for named in re.findall(r"`([\w.-]+/[\w./-]*)`", without_code(text)):
        if named.split("/")[0] in roots and named.rstrip("/") not in exists:
            yield f"{path}: there is no {named}"


def without_code(text: str) -> str:
    """Blank out fenced blocks, which are not prose."""
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(text: str) -> set[str]:
    """Return the anchors of a document's headings, as renderers make them."""
    headings = re.findall(r"^#+\s+(.+)$", without_code(text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


def _resolve(path: PurePosixPath) -> str:
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            if parts:
                parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def unlinked_decisions(index: str, names: list[str]) -> Iterator[str]:
    """Every decision record is in the index, numbered without a gap."""
    for name in names:
        if f"({name})" not in index:
            yield f"docs/adr/{name}: not linked from the index"
    for expected, name in enumerate(sorted(names), start=1):
        if not name.startswith(f"{expected:04d}-"):
            yield f"docs/adr/{name}: expected number {expected:04d}"


def decision_form(path: str, text: str) -> Iterator[str]:
    """A decision record has the three parts and a status."""
    for part in ("## Context", "## Decision", "## Consequences"):
        if part not in text:
            yield f"{path}: no '{part}'"
    if not re.search(r"^Status: (proposed|accepted|superseded by \d{4})", text, re.MULTILINE):
        yield f"{path}: no status line"


def changelog_form(text: str) -> Iterator[str]:
    """A changelog for users: releases as headings, changes under the known kinds."""
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    if not re.search(r"^## Unreleased$", text, re.MULTILINE):
        yield "CHANGELOG.md: no 'Unreleased'"
    for heading in re.findall(r"^## (.+)$", text, re.MULTILINE):
        if not re.fullmatch(r"Unreleased|\d+\.\d+\.\d+ - \d{4}-\d{2}-\d{2}", heading):
            yield f"CHANGELOG.md: '{heading}' is neither Unreleased nor 'X.Y.Z - YYYY-MM-DD'"
    for kind in re.findall(r"^### (.+)$", text, re.MULTILINE):
        if kind not in kinds:
            yield f"CHANGELOG.md: '{kind}' is not one of {', '.join(sorted(kinds))}"


def foreign_words(path: str, text: str, *, avoided: Mapping[str, str]) -> Iterator[str]:
    """One word per thing: the glossary's word, not its neighbours'.

    Args:
        path: The source or document.
        text: Its content. In Python, names and comments count alike.
        avoided: Pattern of the word not used -> the word that is.
    """
    for number, line in enumerate(text.splitlines(), start=1):
        for pattern, word in avoided.items():
            if re.search(pattern, line, re.IGNORECASE):
                yield f"{path}:{number}: the word here is '{word}': {line.strip()[:60]}"


def undocumented(names: set[str], documents: str, *, what: str) -> Iterator[str]:
    """Everything a stranger can meet is named in a document."""
    for name in sorted(names):
        if not re.search(rf"(?<![A-Za-z0-9_]){re.escape(name)}(?![A-Za-z0-9_])", documents):
            yield f"{what} {name} is in no document"


_PREPARATION: Final = re.compile(r"set -euo pipefail$|cd \"\$\(dirname |seed=\"\$\(\(")
_COMMIT: Final = "git rev-parse"
_SEEDED: Final = {"sim", "chaos"}


def steps(script: str) -> list[str]:
    """Return the make targets that a script calls, in order."""
    return re.findall(r"^make ([a-z-]+)", script, re.MULTILINE)


def foreign_steps(script: str, *, targets: Collection[str]) -> Iterator[str]:
    """What must pass is what anybody can call: make targets, with seeds out of the commit."""
    for line in script.splitlines():
        if not line.strip() or line.startswith("#") or _PREPARATION.match(line):
            continue
        called = re.match(r"make ([a-z-]+)(?: |$)", line)
        if called is None or called[1] not in targets:
            yield f"{line}: not a make target"
        elif called[1] in _SEEDED and '"$seed"' not in line:
            yield f"{line}: without a seed of the commit"
    if _COMMIT not in script:
        yield "the seed does not come from the commit"
