"""Where configuration values come from, and what is said about the wrong ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.addresses import Address
from node.config import KEYS, Config
from node.config_file import FILE_BYTES_MAX, Document, read_file, read_text
from node.config_load import ConfigError, Flag, Key, Loaded, load
from node.quantities import Duration, Size

PEERS = "1=127.0.0.1:7400,2=127.0.0.1:7410,3=127.0.0.1:7420"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A path whose messages read like an operator's: tq.yaml."""
    monkeypatch.chdir(tmp_path)
    return Path("tq.yaml")


def loaded(
    path: Path | None = None,
    *,
    text: str | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[Key, Flag] | None = None,
) -> Loaded:
    if text is not None:
        assert path is not None
        path.write_text(text)
    return load(path, environment=environment or {}, flags=flags)


def problems(
    path: Path | None = None,
    *,
    text: str | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[Key, Flag] | None = None,
) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(path, text=text, environment=environment, flags=flags)
    return [str(problem) for problem in caught.value.problems]


# ----------------------------------------------------------------------- precedence


def test_without_any_source_everything_is_a_default() -> None:
    result = loaded()

    assert Config() == result.config
    assert {} == result.origins
    assert () == result.warnings


def test_flags_win_over_the_environment_over_the_file_over_defaults(file: Path) -> None:
    result = loaded(
        file,
        text="broker:\n  port: 1\n  max_connections: 2\n  batch_claim_size: 3\n",
        environment={"TQ_BROKER__PORT": "4", "TQ_BROKER__MAX_CONNECTIONS": "5"},
        flags={("broker", "port"): Flag("--listen", "6")},
    )

    broker = result.config.broker
    assert (6, 5, 3) == (broker.port, broker.max_connections, broker.batch_claim_size)
    assert result.config.broker.queue_depth_threshold == 100_000
    assert {
        ("broker", "port"): "flag --listen",
        ("broker", "max_connections"): "env TQ_BROKER__MAX_CONNECTIONS",
        ("broker", "batch_claim_size"): "tq.yaml:4",
    } == result.origins


def test_every_kind_of_value_can_be_given_in_the_file(file: Path) -> None:
    config = loaded(
        file,
        text="""
broker: {host: "::1", advertised_address: "[::1]:9", worker_lease_timeout: 1h30m, frame_max: 12MiB}
persistence: {data_dir: some/where, completed_task_retention: 14d}
raft:
  node_id: 2
  peers: {1: 127.0.0.1:7400, 2: localhost:7410, 3: "127.0.0.1:7420"}
  peer_addresses: {1: 127.0.0.1:9000}
  election_timeout: [1s, 1500ms]
monitoring: {log_level: DEBUG, json_logs: false}
api:
""",
    ).config

    assert config.broker.host == "::1"
    assert config.broker.advertised_address == ("::1", 9)
    assert config.broker.worker_lease_timeout == Duration(5_400_000)
    assert config.broker.frame_max == Size(12 * 2**20)
    assert config.data_dir == Path("some/where")
    assert config.raft.election_timeout == (Duration(1000), Duration(1500))
    assert config.monitoring.log_level == "debug"
    assert config.monitoring.json_logs is False
    assert config.voters == (1, 2, 3)
    assert config.raft_listen == ("localhost", 7410)
    assert config.dial_addresses == {1: ("127.0.0.1", 9000), 3: ("127.0.0.1", 7420)}


def test_every_kind_of_value_can_be_given_as_text() -> None:
    config = loaded(
        environment={
            "TQ_PERSISTENCE__DATA_DIR": "123",
            "TQ_PERSISTENCE__SYNC": "False",
            "TQ_RAFT__ELECTION_TIMEOUT": "400ms, 900ms",
            "TQ_MONITORING__JSON_LOGS": "auto",
            "TQ_BROKER__PAYLOAD_MAX": "1MiB",
        }
    ).config

    assert config.data_dir == Path("123")
    assert config.persistence.sync is False
    assert config.raft.election_timeout == (Duration(400), Duration(900))
    assert config.monitoring.json_logs is None
    assert config.broker.payload_max == Size(2**20)


def test_one_election_timeout_means_it_and_twice_as_much() -> None:
    config = loaded(environment={"TQ_RAFT__ELECTION_TIMEOUT": "700ms"}).config

    assert config.raft.election_timeout == (Duration(700), Duration(1400))


def test_peers_as_text_replace_those_of_the_file(file: Path) -> None:
    config = loaded(
        file,
        text="raft:\n  node_id: 1\n  peers: {1: 127.0.0.1:1, 9: 127.0.0.1:9}\n",
        environment={"TQ_RAFT__PEERS": PEERS},
    ).config

    assert config.voters == (1, 2, 3)
    assert config.raft.peers[2] == Address("127.0.0.1", 7410)


def test_a_node_without_peers_is_a_whole_queue() -> None:
    config = loaded(environment={"TQ_RAFT__NODE_ID": "7"}).config

    assert config.is_single_node
    assert config.voters == (7,)
    assert config.raft_listen is None
    assert config.dial_addresses == {}
    assert config.data_dir == Path("tq-data/node-7")


def test_an_empty_file_is_all_defaults(file: Path) -> None:
    assert Config() == loaded(file, text="# nothing\n").config
    assert Config() == loaded(file, text="").config
    assert Config() == loaded(file, text="broker:\nraft: {}\n").config


# ------------------------------------------------------------------- wrong in the file


def test_an_unknown_key_is_shown_in_its_line_with_a_suggestion(file: Path) -> None:
    assert [
        "tq.yaml:2:3: raft.elction_timeout: unknown key (did you mean 'election_timeout'?)\n"
        "      elction_timeout: 5s\n"
        "      ^"
    ] == problems(file, text="raft:\n  elction_timeout: 5s\n")


def test_a_wrong_value_is_shown_where_it_stands(file: Path) -> None:
    assert [
        "tq.yaml:2:20: broker.max_connections: must be a whole number from 1 to 100000, not 'many'"
        "\n      max_connections: many"
        "\n                       ^"
    ] == problems(file, text="broker:\n  max_connections: many\n")


def test_all_mistakes_of_all_sources_are_told_at_once(file: Path) -> None:
    found = problems(
        file,
        text="brokr: {}\nbroker:\n  port: x\n  port: 4\n  host: 0.0.0.0\napi: 7\n",
        environment={"TQ_API__PORT": "x", "TQ_RAFT__PERS": "1"},
        flags={("raft", "node_id"): Flag("--id", "one")},
    )

    assert [
        "tq.yaml:1:1",
        "tq.yaml:4:3",
        "tq.yaml:5:9",
        "tq.yaml:5:9",
        "tq.yaml:6:6",
        "env TQ_API__PORT",
        "env TQ_RAFT__PERS",
        "flag --id",
    ] == sorted(
        (text.split(": ")[0] for text in found),
        key=lambda where: (where[:3] != "tq.", where[:3] != "env", where),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("port: 1\n", "tq.yaml:1:1: port: unknown section; the key 'port' belongs under 'broker:'"),
        ("rafft: {}\n", "tq.yaml:1:1: rafft: unknown section (did you mean 'raft'?)"),
        (
            "broker:\n  node_id: 1\n",
            "tq.yaml:2:3: broker.node_id: unknown key; 'node_id' belongs under 'raft:'",
        ),
        ("broker:\n  zzz: 1\n", "tq.yaml:2:3: broker.zzz: unknown key"),
        ("broker: 5\n", "tq.yaml:1:9: broker: is a section"),
        ("broker: [a]\n", "tq.yaml:1:9: broker: is a section"),
        ("- broker\n", "tq.yaml:1:1: must be sections of keys"),
        ("hello\n", "tq.yaml:1:1: must be sections of keys"),
        ("broker:\n  port:\n", "tq.yaml:2:3: broker.port: has no value"),
        ("broker:\n  port: ~\n", "tq.yaml:2:3: broker.port: has no value"),
        ("broker:\n  port: 1\n  port: 2\n", "tq.yaml:3:3: broker.port: repeated key (first on li"),
        ("api: {}\nbroker: {}\napi: {}\n", "tq.yaml:3:1: api: repeated key (first on line 1)"),
        ("broker:\n  port: '7401'\n", "tq.yaml:2:9: broker.port: must be a whole number"),
        ("broker:\n  port: 70000\n", "tq.yaml:2:9: broker.port: must be a whole number"),
        ("broker:\n  port: -1\n", "tq.yaml:2:9: broker.port: must be a whole number"),
        ("broker:\n  port: 1.0\n", "tq.yaml:2:9: broker.port: must be a whole number"),
        ("broker:\n  port: true\n", "tq.yaml:2:9: broker.port: must be a whole number"),
        ("broker:\n  port: [1]\n", "tq.yaml:2:9: broker.port: must be a whole number"),
        ("broker:\n  batch_claim_size: 0\n", "tq.yaml:2:21: broker.batch_claim_size: must be a wh"),
        ("broker:\n  host: 5\n", "tq.yaml:2:9: broker.host: must be a host name"),
        ("broker:\n  host: a b\n", "tq.yaml:2:9: broker.host: 'a b' is not a host name"),
        ("broker:\n  advertised_address: x\n", "tq.yaml:2:23: broker.advertised_address: must be "),
        ("broker:\n  worker_lease_timeout: 30\n", "tq.yaml:2:25: broker.worker_lease_timeout: mus"),
        ("broker:\n  worker_lease_timeout: 10d\n", "tq.yaml:2:25: broker.worker_lease_timeout: mu"),
        ("broker:\n  frame_max: 64M\n", "tq.yaml:2:14: broker.frame_max: must be a size with a u"),
        ("broker:\n  frame_max: 17MiB\n", "tq.yaml:2:14: broker.frame_max: must be from 64KiB to"),
        ("persistence:\n  sync: maybe\n", "tq.yaml:2:9: persistence.sync: must be true or false"),
        ("persistence:\n  sync: 1\n", "tq.yaml:2:9: persistence.sync: must be true or false"),
        ("persistence:\n  data_dir: 5\n", "tq.yaml:2:13: persistence.data_dir: must be the path"),
        ("persistence:\n  data_dir: ''\n", "tq.yaml:2:13: persistence.data_dir: must be the path"),
        ("raft:\n  node_id: 0\n", "tq.yaml:2:12: raft.node_id: must be a whole number from 1 to"),
        ("raft:\n  election_timeout: []\n", "tq.yaml:2:21: raft.election_timeout: must be [MIN, "),
        ("raft:\n  election_timeout: [2s, 1s]\n", "tq.yaml:2:21: raft.election_timeout: the sec"),
        ("raft:\n  election_timeout: [1s, 1s]\n", "tq.yaml:2:21: raft.election_timeout: the sec"),
        ("raft:\n  peers: 5\n", "tq.yaml:2:10: raft.peers: must map node ids to HOST:PORT"),
        ("raft:\n  peers: [a]\n", "tq.yaml:2:10: raft.peers: must map node ids to HOST:PORT"),
        ("raft:\n  peers: {0: a:1}\n", "tq.yaml:2:11: raft.peers.0: the node id must be a whole"),
        ("raft:\n  peers: {01: a:1}\n", "tq.yaml:2:11: raft.peers.01: the node id must be a who"),
        ("raft:\n  peers: {1: a}\n", "tq.yaml:2:14: raft.peers.1: must be HOST:PORT"),
        ("raft:\n  peers: {1: 5}\n", "tq.yaml:2:14: raft.peers.1: must be HOST:PORT, not 5"),
        ("raft:\n  peers: {1: a:0}\n", "tq.yaml:2:14: raft.peers.1: the port must not be 0"),
        ("raft:\n  peers: {1: a:1, 1: b:1}\n", "tq.yaml:2:19: raft.peers.1: repeated key"),
        ("raft:\n  peers: 1=a:1,1=b:2\n", "tq.yaml:2:10: raft.peers: names node 1 twice"),
        ("raft:\n  peers: a:1\n", "tq.yaml:2:10: raft.peers: must be ID=HOST:PORT"),
        ("raft:\n  peers:\n    ? [1]\n    : a\n", "tq.yaml:3:7: raft.peers: a key must be a pla"),
        ("monitoring:\n  log_level: loud\n", "tq.yaml:2:14: monitoring.log_level: must be one of"),
        ("monitoring:\n  json_logs: 5\n", "tq.yaml:2:14: monitoring.json_logs: must be auto, tru"),
        ("auth:\n  enabled: true\n", "tq.yaml:2:3: auth.enabled: unknown key"),
        ("auth:\n  tokens_file: 7\n", "tq.yaml:2:16: auth.tokens_file: must be the path of a fi"),
        ("broker:\n  tls: {ca: a}\n", "tq.yaml:2:8: broker.tls: does not know 'ca'"),
        ("api:\n  tls: {key: a}\n", "tq.yaml:2:8: api.tls: lacks 'certificate': it names certif"),
        ("api:\n  tls: a.pem\n", "tq.yaml:2:8: api.tls: must be certificate=FILE,key=FILE"),
        ("a: [\n", "tq.yaml:2:1: not valid YAML"),
        ("\tbroker: 1\n", "tq.yaml:1:1: not valid YAML"),
        ("a: b: c\n", "tq.yaml:1:5: not valid YAML"),
        ("a: \x01\n", "tq.yaml:1:4: not valid YAML: a character that is not allowed"),
        ("a: *b\n", "tq.yaml:1:4: not valid YAML: found undefined alias"),
        ("broker: &a {}\nraft: *a\n", "tq.yaml:1:9: raft: anchors and aliases are not supported"),
        ("broker: &a\n  port: *a\n", "tq.yaml:1:9: broker.port: anchors and aliases are not supp"),
        ("a: {}\n---\nb: {}\n", "tq.yaml:2:1: not valid YAML"),
        ("broker:\n  port: 2026-99-99\n", "tq.yaml:2:9: broker.port: cannot be read as a value"),
        (
            "broker:\n  port: !!python/object:os.system x\n",
            "tq.yaml:2:9: broker.port: cannot be read as a value",
        ),
        ("a: " + "[" * 5000 + "\n", "tq.yaml: is nested too deeply"),
    ],
)
def test_each_mistake_in_the_file_is_named(file: Path, text: str, said: str) -> None:
    assert [said] == [found[: len(said)] for found in problems(file, text=text)][:1]


def test_a_merge_key_is_unknown_like_any_other(file: Path) -> None:
    assert (
        "tq.yaml:2:3: broker.<<: unknown key"
        in problems(file, text="broker:\n  <<: {port: 1}\n")[0]
    )


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    missing, folder = tmp_path / "none.yaml", tmp_path

    assert [f"{missing}: cannot read the file: no such file or directory"] == problems(missing)
    assert [f"{folder}: cannot read the file: is a directory"] == problems(folder)


def test_a_file_that_is_not_text_says_where(file: Path) -> None:
    file.write_bytes(b"api:\n  host: \xff\n")
    assert problems(file)[0].startswith("tq.yaml:2:1: is not UTF-8 text here")


def test_a_huge_file_is_not_read(file: Path) -> None:
    file.write_bytes(b"#" * (FILE_BYTES_MAX + 1))
    assert ["tq.yaml: is larger than 1 MiB, this is not a configuration file"] == problems(file)


def test_a_byte_order_mark_is_harmless(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbfapi:\r\n  port: 9\r\n")
    assert loaded(file).config.api.port == 9


@given(st.text(max_size=200))
def test_no_text_makes_the_reader_raise(text: str) -> None:
    read_text(text, document=Document(name="x"))


@given(st.binary(max_size=200))
def test_no_bytes_make_the_loader_raise_anything_else(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(data)
    try:
        loaded(path)
    except ConfigError as error:
        assert error.problems  # noqa: PT017 - either outcome is fine, another exception is not


# ---------------------------------------------------------------------------- secrets


@pytest.mark.parametrize(
    "text",
    [
        "auth:\n  token: hunter2\n",
        "auth:\n  Admin_Password: 'hunter2'\n",
        "auth: {api_key: hunter2}\n",
        "auth:\n  secret: [hunter2\n",
    ],
)
def test_what_looks_like_a_secret_is_not_repeated(file: Path, text: str) -> None:
    found = "\n".join(problems(file, text=text))

    assert "tq.yaml:" in found
    assert "hunter2" not in found


def test_an_unknown_variable_is_named_without_its_value() -> None:
    found = "\n".join(problems(environment={"TQ_AUTH__TOKEN": "hunter2"}))

    assert "env TQ_AUTH__TOKEN: unknown variable" in found
    assert "hunter2" not in found


def test_control_characters_of_the_file_do_not_reach_the_terminal(file: Path) -> None:
    found = "\n".join(problems(file, text='broker:\n  host: "a\u009b31mb"\n'))

    assert "\u009b" not in found


def test_a_long_line_is_shown_around_the_mistake(file: Path) -> None:
    found = problems(file, text="broker: {" + " " * 5000 + "port: x}\n")[0]

    assert "port: x" in found
    assert max(len(line) for line in found.split("\n")) < 200


# ------------------------------------------------------------------------ environment


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("TQ_BROKER__PROT", "unknown variable (did you mean 'TQ_BROKER__PORT'?)"),
        ("TQ_BROKR__PORT", "unknown variable (did you mean 'TQ_BROKER__PORT'?)"),
        ("TQ_BROKER_PORT", "unknown variable (did you mean 'TQ_BROKER__PORT'?)"),
        ("TQ_BROKER__port", "unknown variable (did you mean 'TQ_BROKER__PORT'?)"),
        ("TQ_RAFT", "unknown variable"),
        ("TQ_RAFT__PEERS__1", "unknown variable (did you mean 'TQ_RAFT__PEERS'?)"),
    ],
)
def test_a_mistyped_variable_is_an_error_with_a_suggestion(name: str, said: str) -> None:
    found = problems(environment={name: "1"})

    assert [f"env {name}: {said}"] == [found[0][: len(f"env {name}: {said}")]]


def test_a_variable_that_may_be_someone_elses_is_a_warning() -> None:
    result = loaded(environment={"TQ_COLOUR": "red"})

    assert ("env TQ_COLOUR: unknown variable",) == result.warnings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TQ_SERVERS", "127.0.0.1:7401"),
        ("TQ_CONFIG", "tq.yaml"),
        ("TQ_PORT", "tcp://10.0.0.1:7401"),
        ("TQ_PORT_7401_TCP_ADDR", "10.0.0.1"),
        ("TQ_SERVICE_HOST", "10.0.0.1"),
        ("TQ_BROKER_PORT", "tcp://10.0.0.1:7401"),
        ("TQ_BROKER_SERVICE_PORT_CLIENTS", "7401"),
        ("PATH", "/bin"),
    ],
)
def test_variables_of_others_are_left_alone(name: str, value: str) -> None:
    result = loaded(environment={name: value})

    assert () == result.warnings
    assert {} == result.origins


def test_an_empty_variable_is_an_error() -> None:
    assert ["env TQ_BROKER__PORT: broker.port: is empty (unset it to use the default)"] == problems(
        environment={"TQ_BROKER__PORT": ""}
    )


def test_a_wrong_variable_names_its_key() -> None:
    assert [
        "env TQ_BROKER__PORT: broker.port: must be a whole number from 0 to 65535, not 'http'"
    ] == problems(environment={"TQ_BROKER__PORT": "http"})


@pytest.mark.parametrize("key", KEYS)
def test_every_key_can_be_set_by_a_variable(key: Key) -> None:
    name = f"TQ_{key[0]}__{key[1]}".upper()
    found = problems(environment={name: " "})

    assert [f"env {name}: {'.'.join(key)}: is empty (unset it to use the default)"] == found


def test_a_file_says_what_a_document_holds(file: Path) -> None:
    file.write_text("a:\n  b: [1, x]\n")
    document = read_file(file)

    assert {"a": {"b": [1, "x"]}} == document.values
    assert (1, 2) == document.key_marks["a", "b"]
    assert (1, 9) == document.value_marks["a", "b", "1"]
