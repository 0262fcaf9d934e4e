"""One configuration from four sources: defaults < file < ``TQ_*`` variables < flags.

Every mistake of every source is found before anything is reported, each with its place
(file, line and column, variable or flag) and, where one is near, a suggestion.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from pydantic import ValidationError

from node import config_rules
from node.addresses import Address
from node.config import KEYS, SECTIONS, Config
from node.config_file import Document, Flaw, Mark, read_file
from node.config_values import Text, shown

Key = tuple[str, str]

ENV_PREFIX = "TQ_"
ENV_CONFIG = "TQ_CONFIG"
ENV_IGNORED = frozenset({ENV_CONFIG, "TQ_SERVERS", "TQ_CA", "TQ_TOKEN", "TQ_TOKEN_FILE"})
"""Variables of other readers: the command line's own and the SDK's."""

_ENV_NAMES = {f"{ENV_PREFIX}{section}__{key}".upper(): (section, key) for section, key in KEYS}
_SERVICE_LINK = re.compile(r"_SERVICE_(HOST|PORT)(_|$)|_PORT_[0-9]+_(TCP|UDP)|_PORT$", re.ASCII)
_SERVICE_LINK_VALUE = re.compile(r"(tcp|udp|sctp)://", re.ASCII)


class Flag(NamedTuple):
    """A value given on the command line.

    Attributes:
        name: The flag as typed: ``--id``.
        value: Its text.
    """

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake, ready to be printed.

    Attributes:
        where: ``tq.yaml:6:3``, ``env TQ_BROKER__PORT``, ``flag --id`` or ``default``.
        key: ``section.key``, or empty when it is about the whole source.
        text: A sentence.
        excerpt: The line with a caret below, or empty.
        order: Sorts problems by source and place.
    """

    where: str
    key: str
    text: str
    excerpt: str = ""
    order: tuple[int, int, int] = (0, 0, 0)

    def __str__(self) -> str:
        head = (
            f"{self.where}: {self.key}: {self.text}" if self.key else f"{self.where}: {self.text}"
        )
        return f"{head}\n{self.excerpt}" if self.excerpt else head


class ConfigError(Exception):
    """The configuration cannot be used; ``problems`` holds every reason."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: problem.order))
        super().__init__("\n".join(str(problem) for problem in self.problems))


@dataclass(frozen=True, slots=True)
class Loaded:
    """A usable configuration.

    Attributes:
        config: The values.
        origins: For each (section, key) that is not a default, where it came from:
            ``tq.yaml:5``, ``env TQ_BROKER__PORT`` or ``flag --id``.
        warnings: What is allowed and probably not meant.
    """

    config: Config
    origins: Mapping[Key, str]
    warnings: tuple[str, ...]


class _Source(Protocol):
    @property
    def origin(self) -> str: ...

    def problem(self, key: tuple[str, ...], text: str, *, at_key: bool = False) -> Problem: ...


@dataclass(frozen=True, slots=True)
class _Named:
    """A variable or a flag: one name, no places inside."""

    origin: str
    rank: int

    def problem(self, key: tuple[str, ...], text: str, *, at_key: bool = False) -> Problem:
        del at_key
        return Problem(self.origin, ".".join(key[:2]), text, order=(self.rank, 0, 0))


@dataclass(frozen=True, slots=True)
class _Placed:
    """A value of the file."""

    document: Document
    key: tuple[str, ...]

    @property
    def origin(self) -> str:
        mark = self.document.key_marks.get(self.key)
        return f"{self.document.name}:{mark.line + 1}" if mark else self.document.name

    def problem(self, key: tuple[str, ...], text: str, *, at_key: bool = False) -> Problem:
        marks = self.document.key_marks if at_key else self.document.value_marks
        path = key
        while path and path not in marks:
            path = path[:-1]
        return _file_problem(self.document, Flaw(key, text, marks.get(path)))


def _file_problem(document: Document, flaw: Flaw) -> Problem:
    key = ".".join(flaw.key)
    mark: Mark | None = flaw.mark
    if mark is None:
        return Problem(document.name, key, flaw.text)
    where = f"{document.name}:{mark.line + 1}:{mark.column + 1}"
    order = (0, mark.line + 1, mark.column)
    return Problem(where, key, flaw.text, document.excerpt(mark), order)


@dataclass(slots=True)
class _Layers:
    """Values by key, later sources over earlier ones, and everything wrong so far."""

    values: dict[Key, object] = field(default_factory=dict)
    sources: dict[Key, _Source] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def put(self, key: Key, value: object, source: _Source) -> None:
        self.values[key] = value
        self.sources[key] = source

    def nested(self) -> dict[str, dict[str, object]]:
        sections: dict[str, dict[str, object]] = {}
        for (section, key), value in self.values.items():
            sections.setdefault(section, {})[key] = value
        return sections


def load(
    path: Path | None = None,
    *,
    environment: Mapping[str, str],
    flags: Mapping[Key, Flag] | None = None,
    listeners: Mapping[str, Flag] | None = None,
) -> Loaded:
    """Read and check the configuration of one node.

    Args:
        path: The YAML file, or None for none.
        environment: Usually ``os.environ``.
        flags: What the command line said, by (section, key).
        listeners: Flags that give host and port of a section at once.

    Raises:
        ConfigError: With every mistake of every source.
    """
    layers = _Layers()
    if path is not None:
        _add_file(layers, read_file(path))
    _add_environment(layers, environment)
    for key, flag in (flags or {}).items():
        layers.put(key, Text(flag.value), _Named(f"flag {flag.name}", 2))
    for section, flag in (listeners or {}).items():
        _add_listener(layers, section=section, flag=flag)
    config = _validate(layers)
    if layers.problems:
        raise ConfigError(layers.problems)
    given = layers.sources.keys()
    return Loaded(
        config=config,
        origins={key: source.origin for key, source in layers.sources.items()},
        warnings=(*layers.warnings, *config_rules.warnings(config, given=given)),
    )


def suggestion(word: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` when something known is near ``word``, or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean '{near[0]}'?)" if near else ""


# ------------------------------------------------------------------------------ file


def _add_file(layers: _Layers, document: Document) -> None:
    layers.problems += [_file_problem(document, flaw) for flaw in document.flaws]
    flawed = {flaw.key for flaw in document.flaws}
    for section, content in document.values.items():
        source = _Placed(document, (section,))
        if section not in SECTIONS:
            hint = _section_hint(section)
            layers.problems.append(source.problem((section,), hint, at_key=True))
        elif isinstance(content, dict):
            _add_section(layers, document, section=section, content=content, flawed=flawed)
        elif content is not None:
            text = "is a section: its keys go on the lines below, indented"
            layers.problems.append(source.problem((section,), text))


def _add_section(
    layers: _Layers,
    document: Document,
    *,
    section: str,
    content: dict[str, object],
    flawed: set[tuple[str, ...]],
) -> None:
    for name, value in content.items():
        key = (section, name)
        source = _Placed(document, key)
        if name not in SECTIONS[section].model_fields:
            hint = _key_hint(section, name)
            layers.problems.append(source.problem(key, hint, at_key=True))
        elif any(path[:2] == key for path in flawed):
            continue
        elif value is None:
            text = "has no value (remove the line to use the default)"
            layers.problems.append(source.problem(key, text, at_key=True))
        else:
            layers.put(key, value, source)


def _section_hint(name: str) -> str:
    homes = [section for section, key in KEYS if key == name]
    if homes:
        return f"unknown section; the key '{name}' belongs under '{homes[0]}:'"
    return f"unknown section{suggestion(name, SECTIONS)}"


def _key_hint(section: str, name: str) -> str:
    near = suggestion(name, SECTIONS[section].model_fields)
    homes = [home for home, key in KEYS if key == name]
    if not near and homes:
        return f"unknown key; '{name}' belongs under '{homes[0]}:'"
    return f"unknown key{near}"


# ----------------------------------------------------------------------- environment


def _add_environment(layers: _Layers, environment: Mapping[str, str]) -> None:
    for name, value in sorted(environment.items()):
        if not name.upper().startswith(ENV_PREFIX) or name in ENV_IGNORED:
            continue
        source = _Named(f"env {name}", 1)
        key = _ENV_NAMES.get(name)
        if key is None:
            _add_unknown_variable(layers, source, name=name, value=value)
        elif not value.strip():
            text = "is empty (unset it to use the default)"
            layers.problems.append(source.problem(key, text))
        else:
            layers.put(key, Text(value), source)


def _add_unknown_variable(layers: _Layers, source: _Named, *, name: str, value: str) -> None:
    # Kubernetes and Docker describe a service called "tq..." by variables of this prefix.
    if _SERVICE_LINK.search(name) and (
        _SERVICE_LINK_VALUE.match(value) or not name.endswith("_PORT")
    ):
        return
    hint = f"unknown variable{suggestion(name.upper(), _ENV_NAMES)}"
    rest = name.upper().removeprefix(ENV_PREFIX)
    if "__" in rest or rest.split("_", 1)[0].lower() in SECTIONS:
        layers.problems.append(source.problem((), hint))
    else:
        layers.warnings.append(f"{source.origin}: {hint}")


def _add_listener(layers: _Layers, *, section: str, flag: Flag) -> None:
    source = _Named(f"flag {flag.name}", 2)
    try:
        address = Address.parse(flag.value)
    except ValueError as error:
        layers.problems.append(source.problem((), f"{error}, not {shown(flag.value)}"))
    else:
        layers.put((section, "host"), Text(address.host), source)
        layers.put((section, "port"), Text(address.port), source)


# ------------------------------------------------------------------------ validation


def _validate(layers: _Layers) -> Config:
    """The configuration, or the best that can be made of it when there are problems."""
    wrong: set[Key] = set()
    try:
        config = Config.model_validate(layers.nested())
    except ValidationError as error:
        wrong = set(_report(layers, error))
        for key in wrong:
            del layers.values[key]
        config = Config.model_validate(layers.nested())
    for conflict in config_rules.conflicts(config, given=layers.sources.keys()):
        if wrong.isdisjoint(conflict.keys):
            layers.problems.append(_conflict_problem(layers, conflict))
    return config


def _report(layers: _Layers, error: ValidationError) -> Iterator[Key]:
    for detail in error.errors(include_url=False, include_input=False):
        path = tuple(str(part) for part in detail["loc"])
        key = (path[0], path[1])
        # The reason for a mapping key is filed under "[key]": the place is the key's.
        at_key = path[-1] == "[key]"
        if at_key:
            path = path[:-1]
        cause = detail.get("ctx", {}).get("error")
        text = str(cause) if cause else detail["msg"]
        if at_key:
            text = f"the node id {text}"
        layers.problems.append(layers.sources[key].problem(path, text, at_key=at_key))
        yield key


def _conflict_problem(layers: _Layers, conflict: config_rules.Conflict) -> Problem:
    subject = conflict.keys[0]
    for key in conflict.keys:
        source = layers.sources.get(key)
        if source is not None:
            problem = source.problem(key, conflict.text)
            name = ".".join(subject)
            return Problem(problem.where, name, problem.text, problem.excerpt, problem.order)
    return Problem("default", ".".join(subject), conflict.text)
