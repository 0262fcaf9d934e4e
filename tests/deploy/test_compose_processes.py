"""The commands of the Compose file, run as processes: a cluster comes up and does its work."""

from __future__ import annotations

import http.client
import re
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest
from prometheus_client.parser import text_string_to_metric_families

from deploy.local.processes import ChildProcess
from tests.deploy.compose import NODES, Here, services
from tests.deploy.test_observing import EXPRESSIONS, SCRAPED, asked
from tests.support.ports import free_ports

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

SERVICES = services()
_PATIENCE_S: Final = 60.0
_INSIDE = sorted({int(port) for port in re.findall(r":(74\d\d)\b", str([*SERVICES.values()]))})


class Deployment:
    """Everything of the file that runs here: set up once, then nodes and a worker."""

    def __init__(self, directory: Path) -> None:
        self.here = Here(directory, dict(zip(_INSIDE, free_ports(len(_INSIDE)), strict=True)))
        self.processes: dict[str, ChildProcess] = {}

    def set_up(self) -> None:
        done = self.here.run(SERVICES["setup"])
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self, name: str) -> None:
        # All nodes are on one disk here, where ballast is of no use.
        more = {"TQ_PERSISTENCE__BALLAST": "0B"} if name in NODES else {}
        self.processes[name] = self.here.process(SERVICES[name], **more)
        self.processes[name].start()

    def admin(self, *arguments: str, expected: int = 0) -> str:
        done = self.here.run(SERVICES["admin"], *arguments)
        assert done.returncode == expected, f"{done.stdout}{done.stderr}\n{self.tails()}"
        return done.stdout

    def wait_healthy(self) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while (said := self.here.run(SERVICES["admin"])).returncode != 0:
            assert time.monotonic() < deadline, f"{said.stdout}{said.stderr}\n{self.tails()}"

    def tails(self) -> str:
        return "\n".join(
            f"--- {name}\n" + "\n".join(one.output().splitlines()[-12:])
            for name, one in self.processes.items()
        )


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    made = Deployment(tmp_path_factory.mktemp("compose"))
    made.set_up()
    with ExitStack() as stack:
        for name in (*NODES, "worker"):
            made.start(name)
            stack.callback(made.processes[name].stop)
        made.wait_healthy()
        yield made


def scrape(deployment: Deployment, target: str, *, token: str | None = None) -> tuple[int, str]:
    """Read metrics as Prometheus is told to: by https, the name checked, with the token.

    Args:
        deployment: Where.
        target: Which node, as the file has it.
        token: In place of the one that Prometheus is given.
    """
    prometheus, here = SERVICES["prometheus"], deployment.here
    ca = Path(here.own(SCRAPED["tls_config"]["ca_file"], prometheus))
    if token is None:
        path = here.own(SCRAPED["authorization"]["credentials_file"], prometheus)
        token = Path(path).read_text().strip()
    host, port = here.own(target, prometheus).split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    plain = socket.create_connection((host, int(port)), timeout=20)
    context = ssl.create_default_context(cafile=ca)
    connection.sock = context.wrap_socket(plain, server_hostname=target.partition(":")[0])
    said = f"{SCRAPED['authorization']['type']} {token}"
    connection.request("GET", SCRAPED["metrics_path"], headers={"Authorization": said})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def test_the_worker_of_the_file_does_a_task(deployment: Deployment) -> None:
    said = deployment.admin("submit", "tq.examples:echo", '["from a container"]', "--wait")
    assert "from a container" in said


@pytest.mark.parametrize("name", NODES)
def test_the_health_check_of_a_node_passes_and_fails_when_it_should(
    name: str, deployment: Deployment
) -> None:
    done = deployment.here.check_health(SERVICES[name])
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr
    nowhere = Here(deployment.here.directory, dict.fromkeys(_INSIDE, free_ports(1)[0]))
    assert nowhere.check_health(SERVICES[name]).returncode == 1


def test_what_prometheus_is_told_gets_every_metric_that_rules_and_panels_ask_for(
    deployment: Deployment,
) -> None:
    wanted = {name for text in EXPRESSIONS.values() for name, _, _ in asked(text).selected}
    for target in SCRAPED["static_configs"][0]["targets"]:
        code, text = scrape(deployment, target)
        assert code == 200, text
        families = {
            name
            for family in text_string_to_metric_families(text)
            for name in (family.name, *(sample.name for sample in family.samples))
        }
        known = families | {f"{name}_total" for name in families}
        assert wanted - known == {"up"}


def test_each_role_may_do_its_own_and_no_more(deployment: Deployment) -> None:
    here = deployment.here
    for name in ("worker", "prometheus"):
        tokens = here.volume("secrets", name) / "token"
        done = here.run(SERVICES["admin"], "--token-file", str(tokens), "cluster", "remove", "9")
        assert done.returncode == 4, f"{name}: {done.stdout}{done.stderr}"


def test_a_node_that_is_stopped_hands_over_in_time_and_comes_back(deployment: Deployment) -> None:
    deployment.set_up()  # as a second `up` does; it changes nothing
    grace_s = int(SERVICES["tq-1"].body["stop_grace_period"].removesuffix("s"))
    for name in NODES:
        process = deployment.processes[name]
        process.signal(signal.SIGTERM)
        assert process.wait(timeout_s=grace_s) == 0
        process.start()
        deployment.wait_healthy()
    assert any("handed_over" in deployment.processes[name].output() for name in NODES)
    deployment.admin("submit", "tq.examples:echo", '["after a restart"]', "--wait")


def test_without_a_token_prometheus_is_told_nothing(deployment: Deployment) -> None:
    assert scrape(deployment, "tq-1:7402", token="tq_wrong")[0] == 401
    assert scrape(deployment, "tq-1:7402", token="")[0] == 401
