"""Values that are fine alone and wrong together."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.interface import Timing
from node.config_load import ConfigError, Flag, Loaded, load

PEERS = "1=127.0.0.1:7400,2=127.0.0.1:7410,3=127.0.0.1:7420"


def loaded(**values: str) -> Loaded:
    """Load with values named section__key, as flags of the same name."""
    flags = {}
    for name, value in values.items():
        section, _, key = name.partition("__")
        flags[section, key] = Flag(f"--{key}", value)
    return load(environment={}, flags=flags)


def problems(**values: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(**values)
    return [str(problem) for problem in caught.value.problems]


def test_peers_need_to_know_which_of_them_this_node_is() -> None:
    assert [
        "flag --peers: raft.node_id: is missing: which of the peers 1, 2, 3 is this node?"
    ] == problems(raft__peers=PEERS)


def test_a_node_outside_its_peers_is_refused() -> None:
    assert ["flag --node_id: raft.node_id: is 4, but raft.peers lists only 1, 2, 3"] == problems(
        raft__peers=PEERS, raft__node_id="4"
    )


def test_two_peers_at_one_address_are_refused() -> None:
    assert [
        "flag --peers: raft.peers: nodes 1 and 2 have the same address localhost:7400"
    ] == problems(raft__peers="1=127.0.0.1:7400,2=localhost:7400,3=127.0.0.1:9", raft__node_id="3")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"broker__port": "7402"},
            "127.0.0.1:7402 is used twice: by the client listener and by the HTTP listener",
        ),
        (
            {"broker__port": "7400"},
            "127.0.0.1:7400 is used twice: by the Raft listener and by the client listener",
        ),
        (
            {"api__port": "7410", "api__host": "localhost"},
            "localhost:7410 is used twice: by node 2 and by the HTTP listener",
        ),
        (
            {"raft__port": "7420"},
            "127.0.0.1:7420 is used twice: by the Raft listener and by node 3",
        ),
    ],
)
def test_one_port_for_two_purposes_is_refused(values: dict[str, str], said: str) -> None:
    (found,) = problems(raft__peers=PEERS, raft__node_id="1", **values)

    assert said in found


def test_port_zero_may_be_used_twice() -> None:
    assert loaded(broker__port="0", api__port="0").config.broker.port == 0


PORT_TLS = "certificate=node-1.pem,key=node-1.key"


@pytest.mark.parametrize(
    ("values", "place", "lacks_tls", "lacks_tokens"),
    [
        ({"broker__host": "10.0.0.1"}, "flag --host: broker.host", True, True),
        ({"api__host": "::"}, "flag --host: api.host", True, True),
        ({"api__host": "my-host"}, "flag --host: api.host", True, True),
        (
            {"broker__host": "10.0.0.1", "broker__tls": PORT_TLS},
            "flag --host: broker.host",
            False,
            True,
        ),
        (
            {"broker__host": "10.0.0.1", "auth__tokens_file": "t"},
            "flag --host: broker.host",
            True,
            False,
        ),
        (
            {"api__host": "10.0.0.1", "auth__tokens_file": "t", "broker__tls": PORT_TLS},
            "flag --host: api.host",
            True,
            False,
        ),
    ],
)
def test_a_listener_beyond_loopback_needs_tls_and_tokens(
    values: dict[str, str], place: str, *, lacks_tls: bool, lacks_tokens: bool
) -> None:
    (found,) = problems(**values)

    assert found.startswith(f"{place}: the ")
    assert "which other machines may reach; that needs " in found
    assert lacks_tls is ("'tq-node certificates issue DIR --id 1 --address HOST' makes" in found)
    assert lacks_tokens is ("'tq-node tokens new PRINCIPAL --file FILE' makes one" in found)


def test_with_tls_and_tokens_both_ports_may_be_reached_from_elsewhere() -> None:
    config = loaded(
        broker__host="10.0.0.1",
        api__host="0.0.0.0",
        broker__tls=PORT_TLS,
        api__tls=PORT_TLS,
        auth__tokens_file="tokens",
    ).config
    assert str(config.broker.tls) == PORT_TLS
    assert config.auth.tokens_file == Path("tokens")


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_listener_on_every_address_says_which_one_clients_are_told(host: str) -> None:
    values = {"broker__host": host, "broker__tls": PORT_TLS, "auth__tokens_file": "tokens"}
    (found,) = problems(**values)
    assert found.startswith(f"flag --host: broker.host: is {host}, every address of this host")
    assert "set broker.advertised_address" in found
    loaded(**values, broker__advertised_address="tq-1:7401")


def test_on_loopback_neither_tls_nor_tokens_are_needed_and_both_are_allowed() -> None:
    loaded(broker__tls=PORT_TLS)
    loaded(auth__tokens_file="tokens")
    loaded(api__host="::1", broker__host="127.9.9.9")


TLS = "ca=ca.pem,certificate=node-1.pem,key=node-1.key"
FAR = PEERS.replace("127.0.0.1:7410", "10.0.0.2:7400")


@pytest.mark.parametrize(
    ("values", "place", "host"),
    [
        ({"raft__host": "10.0.0.1", "raft__peers": PEERS}, "flag --host: raft.host", "10.0.0.1"),
        ({"raft__peers": PEERS.replace("127.0.0.1", "::1")}, None, None),
        ({"raft__peers": FAR}, "flag --peers: raft.peers", "10.0.0.2"),
        ({"raft__join": FAR}, "flag --join: raft.join", "10.0.0.2"),
        (
            {"raft__peers": PEERS, "raft__peer_addresses": "2=10.0.0.2:7400"},
            "flag --peer_addresses: raft.peer_addresses",
            "10.0.0.2",
        ),
        (
            {"raft__peers": PEERS.replace("127.0.0.1:7400", "node1.example:7400")},
            "flag --peers: raft.peers",
            "node1.example",
        ),
    ],
    ids=lambda value: str(value)[:20],
)
def test_nodes_on_several_hosts_need_certificates(
    values: dict[str, str], place: str | None, host: str | None
) -> None:
    values = {name: text.replace("::1:", "[::1]:") for name, text in values.items()}
    if place is not None:
        (found,) = problems(raft__node_id="1", **values)
        assert found.startswith(f"{place}: names {host}, which is beyond this host")
        assert "tq-node certificates authority DIR" in found
        assert "issue DIR --id 1'" in found
        assert "raft.tls" in found
    files = loaded(raft__node_id="1", raft__tls=TLS, **values).config.raft.tls
    assert files is not None
    assert str(files) == TLS


@pytest.mark.parametrize(
    ("tls", "said"),
    [
        ("ca.pem", "must be ca=FILE,certificate=FILE,key=FILE"),
        ("ca=ca.pem,certificate=c.pem", "lacks 'key'"),
        ("ca=ca.pem,cert=c.pem,key=k", "does not know 'cert' (did you mean 'certificate'?)"),
        ("ca=ca.pem,certificate=,key=k", "must be the path of a file"),
    ],
)
def test_files_of_certificates_are_named_completely(tls: str, said: str) -> None:
    (found,) = problems(raft__tls=tls)
    assert said in found


def test_files_of_certificates_may_be_a_mapping(tmp_path: Path) -> None:
    path = tmp_path / "tq.yaml"
    path.write_text("raft:\n  tls: {ca: ca.pem, certificate: node-1.pem, key: node-1.key}\n")
    assert str(load(path, environment={}).config.raft.tls) == TLS
    path.write_text("raft:\n  tls: {ca: ca.pem, certificate: node-1.pem, keys: node-1.key}\n")
    with pytest.raises(ConfigError, match=r"raft\.tls.*did you mean 'key'"):
        load(path, environment={})
    environment = {"TQ_RAFT__TLS": TLS}
    assert str(load(environment=environment).config.raft.tls) == TLS


def test_the_election_timeout_leaves_room_for_heartbeats() -> None:
    (found,) = problems(raft__election_timeout="300ms")
    assert "raft.election_timeout: starts at 300ms, which must be more than three times" in found

    (found,) = problems(raft__heartbeat_interval="200ms")
    assert found.startswith("flag --heartbeat_interval: raft.election_timeout: starts at 500ms")

    assert loaded(raft__election_timeout="301ms").config.raft.election_timeout[0].ms == 301


def test_a_leader_asks_its_followers_in_time_to_know_that_they_are_there(tmp_path: Path) -> None:
    (found,) = problems(raft__heartbeat_interval="401ms", raft__election_timeout="5s")
    assert found.startswith("flag --heartbeat_interval: raft.heartbeat_interval: is 401ms")

    path = tmp_path / "tq.yaml"
    path.write_text("raft:\n  election_timeout: [7s, 14s]\n  heartbeat_interval: 2s\n")
    with pytest.raises(ConfigError) as caught:
        load(path, environment={})
    [text] = [str(problem) for problem in caught.value.problems]
    assert text.splitlines()[0] == (
        f"{path}:3:23: raft.heartbeat_interval: is 2s, which must be at most 400ms: a leader "
        "that a majority has not answered for 1.4s steps down, so it has to ask more often than "
        "that"
    )

    raft = loaded(raft__heartbeat_interval="400ms", raft__election_timeout="5s").config.raft
    assert Timing(heartbeat_s=raft.heartbeat_interval.ms / 1000)


def test_a_lease_outlives_a_late_heartbeat() -> None:
    (found,) = problems(broker__worker_lease_timeout="29s")
    assert "broker.worker_lease_timeout: is 29s, which must be at least twice" in found

    assert loaded(broker__worker_lease_timeout="30s").config
    assert problems(worker__heartbeat_interval="16s")


def test_a_payload_fits_into_a_frame() -> None:
    (found,) = problems(broker__frame_max="10MiB")
    assert "broker.payload_max: is 10MiB, which must leave 64KiB of broker.frame_max" in found

    assert loaded(broker__frame_max="1MiB", broker__payload_max="960KiB").config


def test_replicas_always_sync() -> None:
    (found,) = problems(persistence__sync="false", raft__peers=PEERS, raft__node_id="1")

    assert found.startswith("flag --sync: persistence.sync: must be true with more than one node")


def test_a_single_node_may_do_without_sync_and_is_warned() -> None:
    (warning,) = loaded(persistence__sync="false").warnings

    assert warning.startswith("persistence.sync: false: a power failure")


def test_an_override_for_a_stranger_is_refused() -> None:
    (found,) = problems(
        raft__peers=PEERS, raft__node_id="1", raft__peer_addresses="5=127.0.0.1:9000"
    )

    assert "raft.peer_addresses: names node 5, but raft.peers lists only 1, 2, 3" in found


def test_an_even_number_of_voters_is_allowed_with_a_warning() -> None:
    (warning,) = loaded(raft__peers="1=127.0.0.1:1,2=127.0.0.1:2", raft__node_id="1").warnings

    assert warning.startswith("raft.peers: 2 voters bear the loss of 0")


def test_raft_settings_of_a_single_node_are_warned_about() -> None:
    (warning,) = loaded(raft__port="7400").warnings

    assert warning.startswith("raft.port: has no effect on a single node")


def test_a_rule_is_silent_about_values_known_to_be_wrong(tmp_path: Path) -> None:
    path = tmp_path / "tq.yaml"
    path.write_text("raft:\n  heartbeat_interval: often\n  election_timeout: 60ms\n")
    with pytest.raises(ConfigError) as caught:
        load(path, environment={})

    assert ["raft.heartbeat_interval"] == [problem.key for problem in caught.value.problems]


JOIN = "1=127.0.0.1:7400,4=127.0.0.1:7430"


def test_a_node_joins_a_cluster_or_founds_one() -> None:
    assert loaded(raft__node_id="4", raft__join=JOIN).config.joins
    assert loaded(raft__node_id="4", raft__join=JOIN).warnings == ()
    found = problems(raft__node_id="4", raft__join=JOIN, raft__peers=JOIN)
    assert any("raft.join is for a node that comes into a running cluster" in one for one in found)


def test_a_node_that_joins_is_in_its_list_and_so_is_a_member() -> None:
    (found,) = problems(raft__node_id="5", raft__join=JOIN)
    assert "is 5, but raft.join lists only 1, 4" in found
    (found,) = problems(raft__node_id="4", raft__join="4=127.0.0.1:7430")
    assert "names this node alone: which members is it to reach?" in found
    (found,) = problems(raft__join=JOIN)
    assert "which of the peers 1, 4 is this node?" in found


def test_a_node_that_joins_must_sync() -> None:
    found = problems(raft__node_id="4", raft__join=JOIN, persistence__sync="false")
    assert any("persistence.sync: must be true with more than one node" in one for one in found)
