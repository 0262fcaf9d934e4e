"""The switch does to packets what it is told, direction by direction, and nothing else."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.links import CLIENTS, DROP, PASS, Impairment, Policy
from chaos.namespaces import kernel, switch
from chaos.namespaces.addresses import NETWORK, NODE_ID_MAX, address, whose
from chaos.namespaces.network import Streets
from chaos.namespaces.switch import Port, Switch
from chaos.namespaces.ways import CLEAN, Way

MANY = 10_000


def way(seed: int = 1, **impairment: float) -> Way:
    made = Way(random.Random(seed))
    made.impairment = Impairment(**impairment)  # type: ignore[arg-type]  # sizes are whole in tests
    return made


def fates(one: Way, count: int = MANY, *, gap_s: float = 0.001) -> list[tuple[float, ...]]:
    return [one.fate(number * gap_s, 100) for number in range(count)]


def test_without_impairment_every_packet_arrives_once_and_at_once() -> None:
    one = Way(random.Random(1))
    assert [(number * 0.001,) for number in range(MANY)] == fates(one)
    assert {"passed": MANY, "lost": 0, "doubled": 0, "held": 0} == one.counts()


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_about_the_share_is_lost_that_was_asked_for(share: float) -> None:
    one = way(loss=share)
    lost = sum(fate == () for fate in fates(one))
    assert lost == one.lost == MANY - one.passed
    assert abs(lost - share * MANY) < 250  # five standard deviations of the largest


def test_of_a_direction_that_loses_all_nothing_arrives() -> None:
    assert {()} == set(fates(way(loss=1.0)))


def test_the_same_seed_gives_the_same_fates_and_another_one_others() -> None:
    rough = {"loss": 0.2, "reorder": 0.2, "duplicate": 0.2, "low_ms": 1, "high_ms": 9}
    assert fates(way(3, **rough)) == fates(way(3, **rough))
    assert fates(way(3, **rough)) != fates(way(4, **rough))


def test_late_packets_keep_their_order_and_are_late_by_what_was_asked_for() -> None:
    arrivals = [fate[0] for fate in fates(way(low_ms=20, high_ms=120), gap_s=0.5)]
    late_s = [arrival - number * 0.5 for number, arrival in enumerate(arrivals)]
    assert 0.020 <= min(late_s) < 0.030
    assert 0.110 < max(late_s) <= 0.121
    crowded = [fate[0] for fate in fates(way(low_ms=20, high_ms=120), gap_s=0.001)]
    assert sorted(crowded) == crowded


def test_only_those_that_are_held_back_are_overtaken() -> None:
    one = way(reorder=0.1, held_low_ms=5, held_high_ms=30)
    arrivals = [fate[0] for fate in fates(one)]
    held = [number for number, arrival in enumerate(arrivals) if arrival > number * 0.001 + 1e-9]
    assert len(held) == one.held > 0
    assert all(0.005 <= arrivals[number] - number * 0.001 <= 0.0301 for number in held)
    rest = [arrival for number, arrival in enumerate(arrivals) if number not in set(held)]
    assert sorted(rest) == rest
    assert sorted(arrivals) != arrivals


def test_a_doubled_packet_arrives_twice() -> None:
    one = way(duplicate=0.3)
    copies = [len(fate) for fate in fates(one)]
    assert set(copies) == {1, 2}
    assert copies.count(2) == one.doubled
    assert abs(one.doubled - 0.3 * MANY) < 250


def test_large_packets_are_lost_where_only_small_ones_fit() -> None:
    one = way(size_max=600)
    assert one.fate(1.0, 600) == (1.0,)
    assert one.fate(1.0, 601) == ()


def test_what_is_late_is_not_overtaken_when_the_delay_ends() -> None:
    one = way(low_ms=50, high_ms=50)
    [late] = one.fate(1.0, 100)
    one.impairment = CLEAN
    assert one.fate(1.01, 100) == (late,)


@pytest.mark.parametrize(
    "wrong",
    [{"loss": 1.5}, {"reorder": -0.1}, {"low_ms": 5, "high_ms": 1}, {"held_low_ms": 40}],
)
def test_an_impairment_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"is no share|is none"):
        Impairment(**wrong)  # type: ignore[arg-type]  # on purpose


def test_policies_of_the_proxy_mean_the_same_for_packets_where_they_mean_anything() -> None:
    rough = Impairment(loss=0.5, size_max=9)
    assert Impairment.from_dict(rough.to_dict()) == rough
    assert Impairment.from_dict(PASS.to_dict()) == Impairment()
    assert Impairment.from_dict(DROP.to_dict()) == Impairment(loss=1.0)
    late = Impairment.from_dict(Policy("delay", 5, 9).to_dict())
    assert late == Impairment(low_ms=5, high_ms=9)
    for strange in (Policy("slow", rate=5), Policy("refuse")):
        with pytest.raises(ValueError, match="packets know no mode"):
            Impairment.from_dict(strange.to_dict())
    with pytest.raises(ValueError, match="unexpected"):
        Impairment.from_dict({"mode": "packets", "wind": 3})
    with pytest.raises(ValueError, match="no such mode"):
        Policy.from_dict(rough.to_dict())


def test_addresses_lead_back_to_who_has_them() -> None:
    everybody = [CLIENTS, *range(1, NODE_ID_MAX + 1)]
    given = [address(who) for who in everybody]
    assert len(set(given)) == len(everybody)
    assert [whose(int(one.rpartition(".")[2])) for one in given] == everybody
    with pytest.raises(ValueError, match="no address for node 254"):
        address(NODE_ID_MAX + 1)


def test_nodes_dial_each_other_where_there_is_no_proxy() -> None:
    streets = Streets([1, 2, 3])
    assert streets.peers() == "1=192.0.2.1:7400,2=192.0.2.2:7400,3=192.0.2.3:7400"
    assert streets.detours(1) == ""
    assert streets.replace(2, 4) == ([], [])
    assert [ports.address for ports in streets.ports.values()] == [
        *("192.0.2.1:7401", "192.0.2.3:7401", "192.0.2.4:7401")
    ]


class Plugs:
    """A switch whose ports are pipes: what arrives can be read."""

    def __init__(self, *everybody: int) -> None:
        self.switch = Switch(seed=1)
        self._ends: dict[int, int] = {}
        for who in everybody:
            reading, writing = os.pipe()
            os.set_blocking(reading, False)
            self._ends[who] = reading
            self.switch._ports[who] = Port(who, reading, writing)

    def arrived(self, who: int) -> bytes:
        try:
            return os.read(self._ends[who], 1 << 16)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        for port in self.switch._ports.values():
            os.close(port.device)
            os.close(port.namespace)


@pytest.fixture
def plugs() -> Iterator[Plugs]:
    made = Plugs(CLIENTS, 1, 2)
    yield made
    made.close()


def packet(sender: int, target: int, content: bytes = b"") -> bytes:
    numbers = [int(address(who).rpartition(".")[2]) for who in (sender, target)]
    sender_address, target_address = (NETWORK + bytes([number]) for number in numbers)
    return b"\x45" + bytes(11) + sender_address + target_address + content


def test_a_packet_arrives_at_whom_it_is_for_and_nowhere_else(plugs: Plugs) -> None:
    for sender, target in ((1, 2), (2, CLIENTS), (CLIENTS, 1)):
        sent = packet(sender, target, b"content")
        plugs.switch.carry(sender, sent, 1.0)
        assert {target: sent} == {who: got for who in (0, 1, 2) if (got := plugs.arrived(who))}


async def test_a_direction_is_cut_alone(plugs: Plugs) -> None:
    order = {"do": "set", "ways": [[1, 2], [1, 0]], "policy": DROP.to_dict()}
    assert await plugs.switch.obey(order) == {}
    for sender, target in ((1, 2), (1, 0), (2, 1), (0, 1)):
        plugs.switch.carry(sender, packet(sender, target), 1.0)
    assert [plugs.arrived(who) != b"" for who in (0, 1, 2)] == [False, True, False]
    counts = (await plugs.switch.obey({"do": "stats"}))["packets"]
    assert {way: told["lost"] for way, told in counts.items()} == {
        "1>2": 1,
        "1>0": 1,
        "2>1": 0,
        "0>1": 0,
    }
    await plugs.switch.obey({**order, "policy": PASS.to_dict()})
    plugs.switch.carry(1, packet(1, 2), 2.0)
    assert plugs.arrived(2) == packet(1, 2)


async def test_a_late_packet_arrives_later(plugs: Plugs) -> None:
    late = Impairment(low_ms=5, high_ms=5)
    await plugs.switch.obey({"do": "set", "ways": [[1, 2]], "policy": late.to_dict()})
    loop = asyncio.get_running_loop()
    arrived = asyncio.Event()
    loop.add_reader(plugs._ends[2], arrived.set)
    began_s = loop.time()
    plugs.switch.carry(1, packet(1, 2), began_s)
    assert plugs.arrived(2) == b""
    await asyncio.wait_for(arrived.wait(), 10)
    assert loop.time() - began_s >= 0.004
    loop.remove_reader(plugs._ends[2])


async def test_no_more_packets_are_late_at_one_moment_than_a_cable_holds(
    plugs: Plugs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(switch, "_UNDER_WAY_MAX", 2)
    late = Impairment(low_ms=60_000, high_ms=60_000)
    await plugs.switch.obey({"do": "set", "ways": [[1, 2]], "policy": late.to_dict()})
    now_s = asyncio.get_running_loop().time()
    for _ in range(5):
        plugs.switch.carry(1, packet(1, 2), now_s)
    assert plugs.switch.dropped == {"too many under way": 3}


def test_what_is_for_nobody_is_dropped_and_counted(plugs: Plugs) -> None:
    elsewhere = b"\x45" + bytes(11) + NETWORK + b"\x01" + bytes((10, 0, 0, 2))
    for stray in (b"", b"\x60" + bytes(39), elsewhere):
        plugs.switch.carry(1, stray, 1.0)
    plugs.switch.carry(1, packet(1, 3), 1.0)
    assert plugs.switch.dropped == {"not for anybody here": 3, "nobody there": 1}
    assert [plugs.arrived(who) for who in (0, 1, 2)] == [b"", b"", b""]


@pytest.mark.parametrize(
    ("order", "why"),
    [
        ({"do": "jump"}, "no such command"),
        ({"do": "settle", "who": 1}, "plugged in already"),
        ({"do": "set", "ways": [[1, 2]], "policy": {"mode": "slow"}}, "no mode 'slow'"),
    ],
)
async def test_an_order_that_makes_no_sense_is_refused(
    plugs: Plugs, order: dict[str, object], why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        await plugs.switch.obey(order)


def test_what_is_missing_for_namespaces_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str, *arguments: object) -> None:
        del arguments
        raise PermissionError(1, f"{name}: not permitted")

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert kernel.missing() == "it takes root"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(kernel, "DEVICE", tmp_path / "tun")
    assert kernel.missing() == f"there is no {tmp_path / 'tun'}"
    (tmp_path / "tun").touch()
    monkeypatch.setattr(kernel, "_call", refuse)
    assert kernel.missing() == "the kernel refuses: [Errno 1] unshare: not permitted"
