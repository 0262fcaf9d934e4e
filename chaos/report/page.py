"""The page: figures, the run over time, faults by invariants, and every verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import groupby
from typing import Any, Final

from chaos.evidence import Evidence, Fault
from chaos.report.drawing import Drawing
from chaos.report.series import Series, series
from chaos.summary import Figures, figures, rows
from chaos.verdict import Verdict

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2733; --paper: #fff; --faint: #e3e8ee;
  --good: #1a7f4b; --bad: #c62828; --blue: #1f6fb2; --amber: #b86e00; --soft: #6b7885; }
@media (prefers-color-scheme: dark) { :root { --ink: #dde4ec; --paper: #14191f; --faint: #2a333d;
  --good: #4cc38a; --bad: #ff6b6b; --blue: #6cb2f0; --amber: #f0b35a; --soft: #8c99a6; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 1180px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; }
table { border-collapse: collapse; font-size: .9em; } .wide { overflow-x: auto; }
th, td { padding: .2em .6em; text-align: right; border-bottom: 1px solid var(--faint); }
th:first-child, td:first-child { text-align: left; }
code, pre { font: 13px/1.4 ui-monospace, monospace; } pre { white-space: pre-wrap; }
.good { color: var(--good); } .bad { color: var(--bad); font-weight: 600; }
.soft { color: var(--soft); } details { margin: .3em 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1em 1em; } dd { margin: 0; }
svg { width: 100%; height: auto; } svg text { font: 11px system-ui, sans-serif; fill: var(--ink); }
svg .heading { font-weight: 600; font-size: 13px; } svg .mark { text-anchor: end; }
svg .mark, svg .tick { fill: var(--soft); } svg .tick { text-anchor: middle; }
svg path { fill: none; stroke-width: 1.3; } svg .grid { stroke: var(--faint); stroke-width: 1; }
svg .a { stroke: var(--blue); } svg .b { stroke: var(--bad); } svg .c { stroke: var(--amber); }
svg .a-text { fill: var(--blue); } svg .b-text { fill: var(--bad); }
svg .c-text { fill: var(--amber); } svg .fault { fill: var(--bad); } svg .odd { fill: var(--blue); }
svg .even { fill: var(--good); } svg .gap { fill: var(--bad); opacity: .22; }
"""


def page(run: Mapping[str, Any], evidence: Evidence, verdicts: Sequence[Verdict]) -> str:
    """Return the page of a run.

    Args:
        run: What `run.json` says.
        evidence: Of the run.
        verdicts: Of all checkers.
    """
    told = figures(evidence, verdicts)
    troubles = [str(trouble) for trouble in run.get("troubles") or ()]
    kept = all(verdict.ok for verdict in verdicts) and not troubles
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>chaos, seed {escape(str(run.get('seed', '?')))}</title>",
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>Chaos run: {_mark(kept, 'every promise kept', 'not all is well')}</h1>",
        _facts(run, told),
        *(f'<pre class="bad">{escape(trouble)}</pre>' for trouble in troubles),
        "<h2>The run over time</h2>",
        _picture(evidence, series(evidence)),
        "<h2>Faults by invariants</h2>",
        _matrix(evidence, verdicts),
        "<h2>Verdicts</h2>",
        *map(_verdict, verdicts),
        "</body></html>\n",
    ]
    return "\n".join(parts)


def _mark(good: bool, yes: str, no: str) -> str:
    return f'<span class="{"good" if good else "bad"}">{escape(yes if good else no)}</span>'


def _facts(run: Mapping[str, Any], told: Figures) -> str:
    facts: list[tuple[str, str]] = [
        ("replay", f"<code>{escape(str(run.get('command', '')))}</code>"),
        ("scenarios", escape(str(run.get("scenario", "")).replace(",", ", "))),
        ("nodes", escape(str(run.get("nodes", "")))),
        ("commit", escape(str(run.get("commit") or "unknown"))),
        ("began", escape(str(run.get("began", "")))),
        (
            "operations",
            f"{told.operations:,} in {told.seconds:,.0f} s: {told.answered:,} answered, "
            f"{told.refused:,} refused, {told.unknown:,} of unknown outcome",
        ),
        (
            "submits",
            f"{told.acknowledged:,} of {told.submits:,} acknowledged, {told.tasks:,} tasks",
        ),
        ("faults", f"{told.faults:,} injected"),
        ("longest gap", f"{told.gap_max_ms:,} ms without an acknowledged submit"),
        (
            "result",
            _mark(
                not told.violations,
                "0 lost, 0 doubled, 0 violations",
                f"{told.lost} lost, {told.doubled} doubled, {told.violations} violations",
            ),
        ),
    ]
    return "<dl>" + "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts) + "</dl>"


def _picture(evidence: Evidence, told: Series) -> str:
    drawing = Drawing(told.seconds)
    drawing.heading("faults")
    top = drawing.height
    for kind, faults in groupby(
        sorted(evidence.faults, key=lambda fault: (fault.kind, fault.at)),
        key=lambda fault: fault.kind,
    ):
        drawing.bars(kind, [_fault_bar(evidence, fault) for fault in faults])
    drawing.heading("leaders, by node")
    for node in sorted({sample.node for sample in evidence.samples}):
        reigns = [reign for reign in told.reigns if reign.node == node]
        drawing.bars(
            f"node {node}",
            [
                (
                    reign.begins_s,
                    reign.ends_s,
                    "odd" if reign.term % 2 else "even",
                    f"node {node} leads term {reign.term}, seen from {reign.begins_s:.1f} s to "
                    f"{reign.ends_s:.1f} s",
                )
                for reign in reigns
            ],
        )
    middles = [(number + 0.5) * told.span_s for number in range(len(told.spans))]
    drawing.heading("operations per second")
    answered = [(at, span.answered) for at, span in zip(middles, told.spans, strict=True)]
    refused = [(at, span.refused) for at, span in zip(middles, told.spans, strict=True)]
    drawing.lines(
        [("a", "answered", answered), ("b", "refused or unknown", refused)], height=110, unit="/s"
    )
    drawing.heading("time to acknowledge a submit (logarithmic)")
    latencies = [
        (kind, name, [(at, s.latency_ms(share)) for at, s in zip(middles, told.spans, strict=True)])
        for kind, name, share in (("a", "p50", 0.5), ("c", "p99", 0.99), ("b", "max", 1.0))
    ]
    drawing.lines(latencies, height=130, unit="ms", logarithmic=True)
    drawing.shades(top, [_gap_bar(begins, ends) for begins, ends in told.gaps])
    drawing.axis()
    shown = "shaded: no submit was acknowledged, though some were called"
    return f'{drawing.svg()}<p class="soft">minutes:seconds since the run began; {shown}</p>'


def _fault_bar(evidence: Evidence, fault: Fault) -> tuple[float, float, str, str]:
    begins = (fault.at - evidence.origin_ns) / 1e9
    ends = begins if fault.to is None else (fault.to - evidence.origin_ns) / 1e9
    hit = ", ".join(map(str, fault.nodes))
    return begins, ends, "fault", f"{fault.kind}: nodes {hit}; {fault.detail} at {begins:.1f} s"


def _gap_bar(begins: float, ends: float) -> tuple[float, float, str]:
    length_ms = (ends - begins) * 1000
    return begins, ends, f"no submit acknowledged for {length_ms:.0f} ms from {begins:.1f} s"


def _matrix(evidence: Evidence, verdicts: Sequence[Verdict]) -> str:
    names = [verdict.name for verdict in verdicts]
    head = ["fault", "times", "gap p50, ms", "p99", "max", *names]
    body = []
    for row in rows(evidence, verdicts):
        gaps = [f"{gap:,}" if gap >= 0 else "" for gap in row.gaps_ms]
        cells = [escape(row.kind or "all"), str(row.injected), *gaps]
        cells += [_mark(not (n := row.violations.get(name, 0)), "0", str(n)) for name in names]
        body.append(_row("td", cells))
    table = f"<table><thead>{_row('th', map(escape, head))}</thead>{''.join(body)}</table>"
    return (
        f'<div class="wide">{table}</div>'
        '<p class="soft">Violations that name a moment of the fault, or of the 5 s after it.</p>'
    )


def _row(kind: str, cells: Iterable[str]) -> str:
    return "<tr>" + "".join(f"<{kind}>{cell}</{kind}>" for cell in cells) + "</tr>"


def _verdict(verdict: Verdict) -> str:
    counts = ", ".join(f"{count:,} {escape(name)}" for name, count in verdict.counts.items())
    mark = _mark(verdict.ok, "kept", "violated")
    told = "".join(f"<pre>{escape(violation)}</pre>" for violation in verdict.violations)
    is_open = "" if verdict.ok else " open"
    return (
        f"<details{is_open}><summary>{mark} <b>{escape(verdict.name)}</b> "
        f'<span class="soft">{verdict.seconds:.2f} s</span></summary>'
        f"<p>{counts}</p>{told}</details>"
    )
