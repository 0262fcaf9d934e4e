"""What watches a cluster: every rule and panel can be read, and asks for what there is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import promql_parser
import pytest
import yaml

from node.metrics import DEFINITIONS, OUTCOMES
from tests.deploy.compose import NODES, ROOT, services
from tests.tidy.checks import anchors
from tq.protocol import Code

DEPLOY: Final = ROOT / "deploy"
PROMETHEUS: Final[dict[str, Any]] = yaml.safe_load((DEPLOY / "prometheus.yml").read_text("utf-8"))
ALERTS: Final[dict[str, Any]] = yaml.safe_load((DEPLOY / "alerts.yml").read_text("utf-8"))
DASHBOARD: Final[dict[str, Any]] = json.loads((DEPLOY / "grafana" / "tq.json").read_text("utf-8"))

RULES: Final[list[dict[str, Any]]] = [rule for group in ALERTS["groups"] for rule in group["rules"]]
EXPRESSIONS: Final = {
    **{rule["alert"]: str(rule["expr"]) for rule in RULES},
    **{
        f"{panel['title']} {target['refId']}": target["expr"].replace("$__rate_interval", "1m")
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
    },
}
SCRAPED: Final[dict[str, Any]] = PROMETHEUS["scrape_configs"][0]
_GROUP: Final = next(iter(SCRAPED)).removesuffix("_name")
"""What Prometheus calls a group of targets; its word, not one of ours."""
_OF_PROMETHEUS: Final = {"instance", _GROUP}
"""Labels that the scraper adds to every sample."""
_FROM_ELSEWHERE: Final[dict[str, tuple[str, ...]]] = {
    "up": (),
    "process_resident_memory_bytes": (),
    "process_cpu_seconds_total": (),
}
VALUES: Final = {"outcome": set(OUTCOMES), "code": {*map(str, Code), "ACK", "REDIRECT"}}


class Query(NamedTuple):
    """What an expression asks for.

    Attributes:
        selected: (metric, label, value or None) for each label that a selector names, and
            (metric, "", None) for each selector.
        labels: Every label it groups by or matches on.
        ranged: Metrics under a function that only counters may have.
    """

    selected: list[tuple[str, str, str | None]]
    labels: set[str]
    ranged: set[str]


def series() -> dict[str, tuple[str, ...]]:
    """Return the labels of every series that a node exports, by name."""
    found = dict(_FROM_ELSEWHERE)
    for one in DEFINITIONS:
        if one.kind == "histogram":
            found[f"{one.name}_bucket"] = (*one.labels, "le")
            found |= {f"{one.name}_{part}": one.labels for part in ("sum", "count")}
        else:
            found[one.name] = one.labels
    return found


SERIES: Final = series()


def asked(text: str) -> Query:
    """Read an expression; what cannot be read raises ValueError."""
    query = Query([], set(), set())

    def visit(node: Any) -> bool | None:
        if isinstance(node, promql_parser.VectorSelector):
            query.selected.extend(_selected(node))
        elif isinstance(node, promql_parser.AggregateExpr) and node.modifier:
            query.labels.update(node.modifier.labels)
        elif isinstance(node, promql_parser.BinaryExpr) and node.modifier:
            if node.modifier.matching is not None:
                query.labels.update(node.modifier.matching.labels)
            query.labels.update(node.modifier.group_labels or ())
        elif isinstance(node, promql_parser.Call) and node.func.name in {"rate", "increase"}:
            query.ranged.add(str(node.args[0].vector_selector.name))
        return None

    promql_parser.walk(promql_parser.parse(text), visit)
    return query


def _selected(node: promql_parser.VectorSelector) -> Iterator[tuple[str, str, str | None]]:
    name = str(node.name)
    yield name, "", None
    for matcher in node.matchers.matchers:
        for value in matcher.value.split("|"):
            yield name, matcher.name, value


def kept(node: Any) -> frozenset[str]:
    """Return the labels that the result of an expression has."""
    match node:
        case promql_parser.VectorSelector():
            return frozenset((*SERIES[str(node.name)], *_OF_PROMETHEUS))
        case promql_parser.MatrixSelector():
            return kept(node.vector_selector)
        case promql_parser.AggregateExpr():
            return frozenset(node.modifier.labels if node.modifier else ())
        case promql_parser.ParenExpr():
            return kept(node.expr)
        case promql_parser.Call():
            lost = {"histogram_quantile": {"le"}}.get(node.func.name, set())
            inside = frozenset[str]().union(*(kept(one) for one in node.args))
            return frozenset() if node.func.name == "absent" else inside - lost
        case promql_parser.BinaryExpr():
            many = node.modifier.card if node.modifier else None
            if many == promql_parser.VectorMatchCardinality.OneToMany:
                return kept(node.rhs)
            return kept(node.lhs) or (frozenset() if many else kept(node.rhs))
    return frozenset()


def flaws(text: str) -> list[str]:
    """Return what is wrong with an expression: what no node exports, what cannot be read."""
    try:
        query = asked(text)
    except ValueError as error:
        return [f"cannot be read: {error}"]
    found = []
    there: set[str] = set(_OF_PROMETHEUS)
    for name, label, value in query.selected:
        if name not in SERIES:
            found.append(f"no metric {name}")
            continue
        there |= set(SERIES[name])
        if label and label not in {*SERIES[name], *_OF_PROMETHEUS}:
            found.append(f"{name} has no label {label}")
        elif value not in VALUES.get(label, {value}):
            found.append(f"{label} is never {value}")
    found += [f"no label {label}" for label in sorted(query.labels - there)]
    counters = {one.name for one in DEFINITIONS if one.kind == "counter"} | {
        name for name in SERIES if name.endswith(("_bucket", "_sum", "_count", "_seconds_total"))
    }
    found += [f"{name} is no counter" for name in sorted(query.ranged - counters)]
    return found or ([] if query.selected else ["asks for nothing"])


@pytest.mark.parametrize("text", EXPRESSIONS.values(), ids=list(EXPRESSIONS))
def test_an_expression_asks_for_what_a_node_exports(text: str) -> None:
    assert flaws(text) == []


@pytest.mark.parametrize(
    ("text", "flaw"),
    [
        ("sum(tq_raft_is_leader", "cannot be read"),
        ("rate(tq_tasks_total)", "cannot be read"),
        ("sum(tq_raft_is_leadr)", "no metric tq_raft_is_leadr"),
        ("sum by (queue) (tq_raft_term)", "no label queue"),
        ('tq_tasks_total{outcom="lost"}', "tq_tasks_total has no label outcom"),
        ('tq_tasks_total{outcome=~"lost|died"}', "outcome is never died"),
        ("rate(tq_raft_term[1m])", "tq_raft_term is no counter"),
        ("tq_raft_term - on(node) tq_raft_is_leader", "no label node"),
        ("1 + 1", "asks for nothing"),
    ],
)
def test_a_wrong_expression_is_noticed(text: str, flaw: str) -> None:
    (found,) = flaws(text)
    assert found.startswith(flaw)


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_an_alert_says_what_is_wrong_what_to_do_and_where_to_read_on(rule: dict[str, Any]) -> None:
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"Tq[A-Z][A-Za-z]+", rule["alert"])
    assert rule["labels"]["severity"] in {"critical", "warning"}
    notes = rule["annotations"]
    assert set(notes) == {"summary", "action", "runbook_url"}
    assert notes["summary"].endswith(".")
    assert notes["action"].endswith(".")
    path, _, anchor = notes["runbook_url"].partition("#")
    assert anchor in anchors((ROOT / path).read_text(encoding="utf-8"))
    told = set(re.findall(r"\$labels\.(\w+)", notes["summary"]))
    assert told <= kept(promql_parser.parse(rule["expr"]))
    assert re.fullmatch(r"\d+[sm]", rule.get("for", "0s"))


def test_the_labels_that_a_result_has_are_known() -> None:
    for text, labels in {
        "sum(tq_raft_term) > 1": set(),
        "sum by (reason) (rate(tq_client_refusals_total[5m])) > 0.1": {"reason"},
        "absent(tq_raft_term)": set(),
        "max(tq_raft_term) - on() group_right() tq_raft_is_leader > 0": _OF_PROMETHEUS,
        "2 * abs(tq_clock_skew_seconds)": _OF_PROMETHEUS,
        "histogram_quantile(0.9, sum by (le, instance) (rate(tq_fsync_seconds_bucket[5m])))": {
            "instance"
        },
    }.items():
        assert kept(promql_parser.parse(text)) == labels, text


def test_no_alert_is_there_twice_and_what_is_worst_is_covered() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names)
    watched = {name for rule in RULES for name, _, _ in asked(rule["expr"]).selected}
    assert watched >= {
        *("up", "tq_raft_is_leader", "tq_raft_applied_index", "tq_state_divergence"),
        *("tq_disk_low", "tq_fsync_seconds_bucket", "tq_clock_skew_seconds"),
        *("tq_tasks_pending", "tq_workers_connected", "tq_client_refusals_total"),
        *("tq_peer_refusals_total", "tq_certificate_expiry_timestamp_seconds"),
    }


def test_prometheus_scrapes_every_node_with_a_token_and_checks_who_it_is() -> None:
    assert PROMETHEUS["scrape_configs"] == [SCRAPED]
    assert (SCRAPED["scheme"], SCRAPED["metrics_path"]) == ("https", "/metrics")
    every = services()
    (listed,) = SCRAPED["static_configs"]
    assert listed["targets"] == [
        f"{name}:{every[name].body['command'][-1].rpartition(':')[2]}" for name in NODES
    ]
    (place,) = [one.target for one in every["prometheus"].mounts if one.source == "secrets"]
    assert SCRAPED["authorization"] == {"type": "Bearer", "credentials_file": f"{place}/token"}
    assert SCRAPED["tls_config"] == {"ca_file": f"{place}/ca.pem"}
    asked_for = {
        value
        for text in EXPRESSIONS.values()
        for _, label, value in asked(text).selected
        if label == _GROUP
    }
    assert asked_for == {SCRAPED[f"{_GROUP}_name"]}


def test_prometheus_finds_its_files_where_they_are_mounted() -> None:
    service = services()["prometheus"]
    mounted = {one.target: one.source for one in service.mounts}
    told = dict(word.removeprefix("--").split("=", 1) for word in service.body["command"])
    assert mounted[told["config.file"]] == "./deploy/prometheus.yml"
    folder = told["config.file"].rpartition("/")[0]
    assert [mounted[f"{folder}/{name}"] for name in PROMETHEUS["rule_files"]] == [
        "./deploy/alerts.yml"
    ]
    assert told["storage.tsdb.path"] in mounted


def test_grafana_finds_its_source_and_its_dashboard() -> None:
    service = services()["grafana"]
    mounted = {one.source.rpartition("/")[2]: one.target for one in service.mounts}
    (source,) = yaml.safe_load((DEPLOY / "grafana/datasource.yml").read_text())["datasources"]
    host, port = source["url"].removeprefix("http://").split(":")
    assert (host, int(port)) in {
        (name, inside) for name, one in services().items() for _, _, inside in one.published
    }
    (provider,) = yaml.safe_load((DEPLOY / "grafana/dashboards.yml").read_text())["providers"]
    assert mounted["tq.json"] == f"{provider['options']['path']}/tq.json"
    assert service.environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == mounted["tq.json"]
    for name, kind in (("datasource.yml", "datasources"), ("dashboards.yml", "dashboards")):
        assert mounted[name].startswith(f"/etc/grafana/provisioning/{kind}/")


def test_the_dashboards_panels_do_not_overlap_and_read_the_chosen_source() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        own = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
        assert cells.isdisjoint(own), panel["title"]
        cells |= own
        sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
        assert {source["uid"] for source in sources} == {"${datasource}"}
        assert panel["description"]
    titles = [panel["title"] for panel in DASHBOARD["panels"]]
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(titles)) == len(set(ids)) == len(titles)
    assert [one["name"] for one in DASHBOARD["templating"]["list"]] == ["datasource"]
