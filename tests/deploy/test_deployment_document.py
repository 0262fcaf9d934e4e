"""The commands for a container engine, which are not run here, name what there is."""

from __future__ import annotations

import re
import shlex

import pytest

from tests.deploy import dockerfile
from tests.deploy.compose import COMPOSE_FILE, ROOT, Service, services
from tests.docs.blocks import blocks

DOCUMENT = ROOT / "docs" / "deployment.md"
SERVICES = services()
_VERBS = {"build", "down", "restart", "run", "stop", "up"}
_WITH_VALUE = {"-f", "--profile", "--entrypoint", "--scale", "--target", "-t"}


def commands() -> list[str]:
    """Return every command for the engine: in blocks, in prose, and in comments of the files."""
    found = [
        command.text
        for block in blocks(DOCUMENT.read_text(encoding="utf-8"))
        if block.kind == "console"
        for command in block.commands()
        if command.text.startswith("docker ")
    ]
    found += re.findall(r"`(docker [^`]+)`", DOCUMENT.read_text(encoding="utf-8"))
    for path in (COMPOSE_FILE, dockerfile.DOCKERFILE):
        found += re.findall(r"(?m)^#\s+(docker .+)$", path.read_text(encoding="utf-8"))
    return found


def parted(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Return options by name, and the first words that are none, with all that follows a `run`."""
    options: dict[str, str] = {}
    rest: list[str] = []
    words = list(words)
    while words:
        word = words.pop(0)
        if word in _WITH_VALUE:
            options[word] = words.pop(0)
        elif word.startswith("-"):
            options[word] = ""
        else:
            rest.append(word)
            if rest[0] == "run" and len(rest) == 2:
                return options, rest + words
    return options, rest


def flaw(text: str) -> str:
    """Say what a command names that is not there, "" if all of it is."""
    program, verb, *words = shlex.split(text.partition(" > ")[0])
    assert program == "docker"
    options, rest = parted(words)
    file = options.get("-f")
    if file and not (ROOT / file).is_file():
        return f"no file {file}"
    if verb == "build":
        known = (options.get("--target"), options.get("-t"), rest)
        stage = str(options.get("--target"))
        fits = stage in dockerfile.stages() and known[1:] == (f"tq-{stage}", ["."])
        return "" if fits else f"no such image: {known}"
    assert verb == "compose"
    named, arguments = rest[1:], rest[2:]
    if rest[0] not in _VERBS:
        return f"no command {rest[0]}"
    if rest[0] == "run":
        named = named[:1]
    scaled = [options["--scale"].partition("=")[0]] if "--scale" in options else []
    missing = [name for name in (*named, *scaled) if name not in SERVICES]
    if missing:
        return f"no service {missing[0]}"
    profiles = {name for one in SERVICES.values() for name in one.body.get("profiles", ())}
    if options.get("--profile", "") not in profiles | {""}:
        return f"no profile {options['--profile']}"
    if rest[0] == "run" and named == ["setup"] and "--entrypoint" not in options:
        return "" if arguments in ([], ["renew"]) else "setup.sh has its folder already"
    return _flaw_inside(SERVICES[named[0]], arguments) if rest[0] == "run" else ""


def _flaw_inside(service: Service, arguments: list[str]) -> str:
    """Say which path of a container is not there."""
    targets = tuple(one.target for one in service.mounts)
    paths = [word for word in arguments if word.startswith("/")]
    lost = [path for path in paths if not path.startswith(targets)]
    return f"nothing is at {lost[0]}" if lost else ""


@pytest.mark.parametrize("text", commands())
def test_a_command_names_files_services_and_images_that_are_there(text: str) -> None:
    assert flaw(text) == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("docker compose -f docker-compose.yml up", "no file docker-compose.yml"),
        ("docker compose restart tq-4", "no service tq-4"),
        ("docker compose up --scale workers=3", "no service workers"),
        ("docker compose --profile grafana up", "no profile grafana"),
        ("docker compose run --rm -T --entrypoint cat admin /run/ca.pem", "nothing is at"),
        ("docker compose begin", "no command begin"),
        ("docker compose run setup sh /setup.sh /secrets renew", "setup.sh has its folder"),
        ("docker build -f deploy/Dockerfile --target server -t tq-server .", "no such image"),
    ],
)
def test_a_command_that_names_nothing_is_noticed(text: str, said: str) -> None:
    assert flaw(text).startswith(said)


def test_the_document_knows_every_service() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert [name for name in SERVICES if f"`{name}`" not in text] == []
    assert len(commands()) >= 12
    assert f"export COMPOSE_FILE={COMPOSE_FILE.name}" in text
