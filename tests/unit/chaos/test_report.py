"""The table and the page of a run, made of a small one that was recorded.

`small_run.tar.gz` holds the files of `python -m chaos --minutes 0.25 --scenario leader-kills
--seed 3 --rate 6`: three real nodes, two kills of the leader.
"""

from __future__ import annotations

import json
import tarfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from chaos.check import judge
from chaos.checkers import CHECKERS
from chaos.evidence import Evidence, Fault, Sample
from chaos.report import page
from chaos.report.series import series
from chaos.summary import ELSEWHERE, figures, rows, text
from chaos.verdict import Verdict
from tests.unit.chaos.recorded import Record, life

RUN = Path(__file__).with_name("small_run.tar.gz")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("run")
    with tarfile.open(RUN) as archive:
        archive.extractall(place, filter="data")
    return place


def test_a_recorded_run_of_real_nodes_keeps_every_promise(small: Path) -> None:
    evidence = Evidence.from_directory(small)
    verdicts = judge(evidence)
    assert [verdict.violations for verdict in verdicts] == [[]] * len(verdicts)
    told = figures(evidence, verdicts)
    assert (told.lost, told.doubled, told.violations) == (0, 0, 0)
    assert (told.faults, told.acknowledged, told.submits) == (2, 136, 139)
    assert told.operations == told.answered + told.refused + told.unknown
    table = text(evidence, verdicts)
    assert "0 lost, 0 doubled, 0 violations" in table
    assert table.splitlines()[1].split()[:3] == ["kill", "leader", "2"]


def test_a_run_in_which_a_task_was_lost_says_so_everywhere(small: Path) -> None:
    evidence = Evidence.from_directory(small)
    lost = next(one for one in evidence.history if one.kind == "get" and one.who == "final")
    lost.outcome, lost.value = "fail", {"code": "NOT_FOUND"}
    verdicts = judge(evidence)
    assert figures(evidence, verdicts).lost == 1
    assert f"task {lost.task} is lost" in page({}, evidence, verdicts)
    assert "1 lost, 0 doubled" in text(evidence, verdicts)


class _Page(HTMLParser):
    """Notes what an HTML page consists of."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loaded: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [value or "" for name, value in attrs if name in {"src", "href"}]


def test_the_page_loads_nothing_and_draws_faults_leaders_and_latencies(small: Path) -> None:
    evidence = Evidence.from_directory(small)
    html = page(json.loads((small / "run.json").read_bytes()), evidence, judge(evidence))
    found = _Page(html)
    assert found.loaded == []
    assert "script" not in found.tags
    assert found.tags.count("details") == len(CHECKERS)
    svg = ET.fromstring(html[html.index("<svg") : html.index("</svg>") + 6])
    kinds = [part.get("class") for part in svg.iter() if part.tag == "rect"]
    assert kinds.count("fault") == 2
    assert kinds.count("odd") + kinds.count("even") == 3  # three terms: two leaders were killed
    assert len([part for part in svg.iter() if part.tag == "path" and part.get("d")]) > 5
    assert "python -m chaos --seed 3" in html


def test_whatever_a_run_says_of_itself_is_text_on_the_page() -> None:
    evil = "<script>alert('x')</script>"
    record = Record()
    life(record, "t1")
    record.note("submit", evil, (1, 2), {"index": 1})
    evidence = record.evidence()
    evidence.faults = [Fault(0, 1_000_000_000, evil, (1,), evil, evil)]
    evidence.samples = [Sample(5, 1, True, "leader", 1, 1)]
    run: dict[str, Any] = {"seed": evil, "command": evil, "scenario": evil, "troubles": [evil]}
    verdict = Verdict(evil, False, {evil: 1, "violations": 1}, [evil], 0.1)
    html = page(run, evidence, [verdict])
    assert "script" not in _Page(html).tags
    assert "&lt;script&gt;" in html


def test_a_violation_belongs_to_the_faults_that_were_under_way() -> None:
    evidence = Record().evidence()
    second = 1_000_000_000
    evidence.faults = [
        Fault(10 * second, 12 * second, "pause leader"),
        Fault(30 * second, None, "kill leader"),
        Fault(31 * second, 50 * second, "partition halves"),
    ]
    evidence.began_ns = 0
    told = [
        "task t: #5 w claim() 16.900000..16.990000 s ok",  # within 5 s of the pause
        "task t: #5 w claim() 17.100000..17.200000 s ok",  # after them
        "task t: #5 w claim() 32.000000..33.000000 s ok",
        "the nodes differ",
    ]
    verdict = Verdict("once", False, {"violations": 25}, told, 0.0)
    table = {row.kind: row for row in rows(evidence, [verdict])}
    assert {kind: row.violations.get("once", 0) for kind, row in table.items()} == {
        "pause leader": 1,
        "kill leader": 1,
        "partition halves": 1,
        ELSEWHERE: 2,
        "": 25,
    }


def test_nothing_recorded_still_makes_a_page() -> None:
    evidence = Record().evidence()
    html = page({}, evidence, judge(evidence))
    assert "not all is well" in html
    assert series(evidence).seconds == 1.0


def test_a_long_run_is_cut_into_spans_that_can_be_drawn() -> None:
    record = Record()
    for number in range(100):
        at = number * 36_000.0
        record.submit(f"t{number}", at, at + 5, number + 1)
    told = series(record.evidence())
    assert len(told.spans) <= 600
    assert sum(span.answered for span in told.spans) * told.span_s == pytest.approx(100)
    assert [span.latency_ms(0.5) for span in told.spans if span.submits_ms] == [5.0] * 100
