"""The Compose file: right by the specification, closed to other machines, true to the tree."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from node.config import KEYS, Config
from node.config_load import Flag, load
from tests.deploy import dockerfile
from tests.deploy.compose import COMPOSE_FILE, NODES, ROOT, Here, Service, read, services

NODE_FILE = ROOT / "deploy" / "compose" / "node.yaml"
SERVICES = services()

_OF_ONE_NODE = {
    *(("broker", key) for key in ("host", "port", "advertised_address", "tls")),
    *(("api", key) for key in ("host", "port", "tls")),
    *(
        ("raft", key)
        for key in ("node_id", "peers", "join", "host", "port", "peer_addresses", "tls")
    ),
    ("persistence", "data_dir"),
    ("auth", "tokens_file"),
}
"""What says who a node is, where it is, and what it proves itself with."""


def validate(path: Path) -> subprocess.CompletedProcess[str]:
    """Check a file against the JSON schema of the Compose specification, which is on this disk."""
    command = ["check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, check=False, timeout=60
    )


def configuration(service: Service, *, here: Here) -> tuple[Config, tuple[str, ...]]:
    """Return what a node of the file is configured to be, addresses and all; and the warnings."""
    arguments = dict(zip(service.body["command"][::2], service.body["command"][1::2], strict=True))
    assert set(arguments) == {"--id", "--listen", "--http"}
    environment = dict(service.environment)
    path = Path(here.own(environment.pop("TQ_CONFIG"), service))
    loaded = load(
        path,
        environment=environment,
        flags={("raft", "node_id"): Flag("--id", arguments["--id"])},
        listeners={
            "broker": Flag("--listen", arguments["--listen"]),
            "api": Flag("--http", arguments["--http"]),
        },
    )
    return loaded.config, loaded.warnings


def test_the_file_is_valid_by_the_compose_specification() -> None:
    done = validate(COMPOSE_FILE)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("restart: unless-stopped", "restrat: unless-stopped"),
        ("condition: service_completed_successfully", "condition: service_done"),
        ("read_only: true\n  tmpfs", "read_only: [yes]\n  tmpfs"),
        ("volume: {subpath: tq-1, nocopy: true}", "volume: {subfolder: tq-1}"),
    ],
)
def test_a_mistake_in_the_file_is_found(right: str, wrong: str, tmp_path: Path) -> None:
    text = COMPOSE_FILE.read_text(encoding="utf-8")
    assert right in text
    path = tmp_path / "compose.yml"
    path.write_text(text.replace(right, wrong), encoding="utf-8")
    assert validate(path).returncode == 1


def test_nothing_is_published_beyond_this_host_and_no_port_twice() -> None:
    published = [port for one in SERVICES.values() for port in one.published]
    assert {host for host, _, _ in published} == {"127.0.0.1"}
    outside = [port for _, port, _ in published]
    assert sorted(outside) == sorted(set(outside))
    assert set(outside) == {7401, 7402, 7411, 7412, 7421, 7422, 9090, 3000}


@pytest.mark.parametrize("service", SERVICES.values(), ids=list(SERVICES))
def test_what_a_service_mounts_is_there(service: Service) -> None:
    declared = set(read()["volumes"])
    for one in service.mounts:
        assert one.source in declared or one.kind == "bind"
        if one.kind == "bind":
            assert (ROOT / one.source).is_file(), one.source
            assert one.read_only
        if one.source == "secrets":
            assert service.name == "setup" or (one.read_only and one.subpath == service.name)
    assert len({one.target for one in service.mounts}) == len(service.mounts)


@pytest.mark.parametrize("service", SERVICES.values(), ids=list(SERVICES))
def test_a_service_has_no_privilege_and_bounds(service: Service) -> None:
    body = service.body
    assert body["read_only"] is True
    assert body["cap_drop"] == ["ALL"]
    assert body["security_opt"] == ["no-new-privileges:true"]
    assert set(body["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    assert set(body["logging"]["options"]) == {"max-size", "max-file"}
    assert {"privileged", "network", "user", "pid"}.isdisjoint(body)
    lasting = service.name not in {"setup", "admin"}
    assert body.get("restart", "no") == ("unless-stopped" if lasting else "no")


@pytest.mark.parametrize("service", SERVICES.values(), ids=list(SERVICES))
def test_an_image_is_built_here_or_pinned(service: Service) -> None:
    if service.target:
        build = service.body["build"]
        assert service.target in dockerfile.stages()
        assert (ROOT / build["context"] / build["dockerfile"]).samefile(dockerfile.DOCKERFILE)
        assert service.body["image"] == f"tq-{service.target}"
    else:
        assert re.fullmatch(r"[a-z]+/[a-z]+:v?\d+\.\d+\.\d+", service.body["image"])


def test_whatever_needs_secrets_waits_for_those_who_make_them() -> None:
    for service in SERVICES.values():
        if any(one.source == "secrets" for one in service.mounts) and service.name != "setup":
            waits = service.body["depends_on"]["setup"]
            assert waits == {"condition": "service_completed_successfully"}


def test_the_group_of_the_secrets_is_the_one_of_the_image() -> None:
    assert SERVICES["prometheus"].body["group_add"] == [dockerfile.last("node", "USER")[-5:]]


@pytest.mark.parametrize("name", NODES)
def test_a_node_may_start_with_what_the_file_tells_it(name: str, tmp_path: Path) -> None:
    service = SERVICES[name]
    config, warnings = configuration(service, here=Here(tmp_path, {}))
    assert warnings == ()
    assert config.voters == (1, 2, 3)
    assert f"tq-{config.node_id}" == name == service.body["hostname"]
    assert str(config.listed[config.node_id].host) == name
    assert str(config.broker.advertised_address) == f"{name}:{config.broker.port}"
    assert [inside for _, _, inside in service.published] == [config.broker.port, config.api.port]
    assert all(outside == inside for _, outside, inside in service.published)
    assert service.body["healthcheck"]["test"][-1] == f"https://127.0.0.1:{config.api.port}"
    assert [one.source for one in service.mounts if one.target == str(config.data_dir)] == [name]


def test_the_nodes_differ_in_who_they_are_and_in_nothing_else() -> None:
    told = [SERVICES[name].environment for name in NODES]
    for one in told:
        del one["TQ_BROKER__ADVERTISED_ADDRESS"]
    assert told[0] == told[1] == told[2]
    addresses = SERVICES["worker"].environment["TQ_SERVERS"].split(",")
    assert addresses == [
        SERVICES[name].environment["TQ_BROKER__ADVERTISED_ADDRESS"] for name in NODES
    ]


def test_a_stop_leaves_a_service_the_time_it_needs() -> None:
    shutdown_s = load(NODE_FILE, environment={}).config.worker.shutdown_timeout.ms / 1000
    grace = {name: one.body.get("stop_grace_period", "10s") for name, one in SERVICES.items()}
    assert int(grace["worker"].removesuffix("s")) > shutdown_s
    assert {grace[name] for name in NODES} == {"30s"}


def test_the_file_that_nodes_share_holds_every_key_but_those_of_one_node() -> None:
    document = yaml.safe_load(NODE_FILE.read_text(encoding="utf-8"))
    held = {(section, key) for section, body in document.items() for key in body}
    assert held == set(KEYS) - _OF_ONE_NODE
    assert load(NODE_FILE, environment={}).warnings == ()


def test_no_secret_stands_in_what_is_kept_in_the_tree() -> None:
    files = [COMPOSE_FILE, *(p for p in (ROOT / "deploy").rglob("*") if p.suffix != ".pyc")]
    found = re.compile(rb"tq_[A-Za-z0-9_-]{43}|BEGIN [A-Z ]*PRIVATE KEY|\b[0-9a-f]{64}\b")
    assert [p for p in files if p.is_file() and found.search(p.read_bytes())] == []


def test_others_can_read_what_is_mounted_from_the_tree() -> None:
    files = [ROOT / one.source for s in SERVICES.values() for one in s.mounts if one.kind == "bind"]
    assert [path for path in files if not path.stat().st_mode & 0o004] == []
