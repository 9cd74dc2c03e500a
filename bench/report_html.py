"""A report as one HTML file: no script, nothing fetched, light and dark, phone to wide screen.

Each chart is there twice, for narrow and wide screens: scaling one drawing would scale its text.
"""

from collections.abc import Mapping, Sequence
from html import escape

from .charts import Chart
from .plots import run_charts, sweep_charts
from .report import Report, problems, table
from .summary import Distribution, Summary
from .svg import DARK, FONT, LIGHT, Palette, css

_WIDE = (640, 300)
_NARROW = (343, 250)

_LAYOUT = f"""
*{{box-sizing:border-box}}
body{{margin:0;font:15px/1.5 {FONT};font-variant-numeric:tabular-nums}}
html{{-webkit-text-size-adjust:100%;text-size-adjust:100%}}
main{{max-width:1440px;margin:0 auto;padding:28px 24px 56px}}
h1{{font-size:24px;line-height:1.25;margin:0 0 4px;letter-spacing:-.01em}}
h2{{font-size:18px;margin:40px 0 14px;letter-spacing:-.005em}}
p{{margin:0}}
.tiles,.charts,.two{{display:grid}}
.tiles{{grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:0 0 16px}}
.tile{{padding:12px 16px;border:1px solid;border-radius:8px}}
.tile b{{display:block;font-size:24px;line-height:1.25;font-weight:600;letter-spacing:-.01em}}
.tile span{{font-size:13px}}
.unit{{font-size:14px;font-weight:400}}
.charts{{grid-template-columns:repeat(auto-fit,minmax(min(100%,560px),1fr));gap:16px}}
.charts>div,.scroll,.problems{{border:1px solid;border-radius:8px}}
.chart{{display:block;width:100%;height:auto}}
.narrow{{display:none}}
.scroll{{overflow-x:auto}}
table{{border-collapse:collapse;width:100%}}
th,td{{padding:6px 16px;text-align:right;white-space:nowrap;border-top:1px solid}}
th:first-child{{text-align:left;font-weight:400}}
thead th{{border-top:0;font-weight:600}}
tbody .first>*{{border-top-width:2px}}
dl{{display:grid;grid-template-columns:max-content 1fr;gap:2px 20px;margin:0;font-size:14px}}
dd{{margin:0;overflow-wrap:anywhere}}
.two{{grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:24px 40px}}
.problems{{margin-top:16px;padding:12px 16px 12px 34px}}
@media (max-width:640px){{
main{{padding:20px 12px 40px}}
h1{{font-size:21px}}
.narrow{{display:block}}
.wide{{display:none}}
.tiles{{grid-template-columns:1fr 1fr;gap:8px}}
.tile{{padding:10px 12px}}
th,td{{padding:6px 10px}}
th{{white-space:normal;vertical-align:top}}
th:first-child{{min-width:9.5rem}}
}}
@media print{{.charts>div{{break-inside:avoid}}}}
"""


def to_html(report: Report) -> str:
    """The whole page."""
    runs, summaries = report.runs, report.summaries
    parts = [f"<header><h1>{escape(report.title)}</h1>"]
    parts.append(f'<p class="muted">{escape(_subtitle(report))}</p></header>')
    figures = "<h2>Figures</h2>" + _table(report) + _problems(report)
    if len(runs) > 1:
        parts.append("<h2>All loads</h2>")
        parts.append(_charts(sweep_charts(runs, summaries)) + figures)
    for run, summary in zip(runs, summaries, strict=True):
        parts.append(f"<section><h2>{escape(_capital(run.load.label))}</h2>")
        parts.append(_tiles(summary))
        parts.append(_charts(run_charts(run, summary)))
        if not run.gauges:
            parts.append(
                '<p class="muted">No KV usage or queue lengths: the server has no /metrics with '
                "octavo_ or vllm: gauges.</p>"
            )
        parts.append("</section>")
    if len(runs) == 1:
        parts.append(figures)
    parts.append('<h2>Setting</h2><div class="two">')
    parts.append(_definitions({name: str(value) for name, value in report.settings.items()}))
    parts.append(_definitions(report.versions) + "</div>")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{escape(report.title)}</title>'
        f"<style>{_LAYOUT}{_colours(LIGHT, '#f5f6f8')}\n"
        f"@media (prefers-color-scheme:dark){{{_colours(DARK, '#0e1013')}}}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )


def _colours(palette: Palette, page: str) -> str:
    rules = f"""
body{{background:{page};color:{palette.text}}}
.muted,.tile span,.unit,th:first-child,dt{{color:{palette.muted}}}
thead th{{color:{palette.text}}}
.charts>div,.tile,.scroll,.problems{{background:{palette.background};border-color:{palette.border}}}
th,td{{border-color:{palette.grid}}}
tbody .first>*{{border-color:{palette.border}}}
.problems{{color:{palette.series[5]}}}
"""
    return rules + css(palette)


def _subtitle(report: Report) -> str:
    told = [str(report.settings[key]) for key in ("model", "base_url") if key in report.settings]
    dates = [run.started_at.replace("T", " ").replace("+00:00", " UTC") for run in report.runs]
    return " · ".join([*told, *dates[:1]])


def _capital(label: str) -> str:
    return label[:1].upper() + label[1:]


def _tiles(summary: Summary) -> str:
    def median(distribution: Distribution | None) -> str:
        return "–" if distribution is None else _short(distribution.median_ms)

    tiles = [
        ("output token throughput", _short(summary.output_throughput), "tok/s"),
        ("request throughput", _short(summary.request_throughput), "req/s"),
        ("median TTFT", median(summary.ttft), "ms"),
        ("median ITL", median(summary.itl), "ms"),
        (f"requests, {summary.failed:,} failed", f"{summary.successful + summary.failed:,}", ""),
    ]
    if summary.request_goodput is not None:
        tiles.insert(2, ("request goodput", _short(summary.request_goodput), "req/s"))
    shown = [
        f'<div class="tile"><b>{value} <span class="unit">{unit}</span></b>'
        f"<span>{escape(name)}</span></div>"
        for name, value, unit in tiles
    ]
    return f'<div class="tiles">{"".join(shown)}</div>'


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 999.5 else f"{value:.3g}"


def _charts(charts: Sequence[Chart]) -> str:
    drawn = [
        f'<div><div class="wide">{chart.svg(*_WIDE)}</div>'
        f'<div class="narrow">{chart.svg(*_NARROW)}</div></div>'
        for chart in charts
    ]
    return f'<div class="charts">{"".join(drawn)}</div>'


def _table(report: Report) -> str:
    heading, *lines = table(report)
    cells = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in heading)
    body = []
    for label, *values in lines:
        kind = ' class="first"' if label.startswith("Mean ") else ""
        shown = "".join(f"<td>{escape(value)}</td>" for value in values)
        body.append(f'<tr{kind}><th scope="row">{escape(label)}</th>{shown}</tr>')
    return (
        f'<div class="scroll"><table><thead><tr>{cells}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _problems(report: Report) -> str:
    items = "".join(f"<li>{escape(problem)}</li>" for problem in problems(report))
    return f'<ul class="problems">{items}</ul>' if items else ""


def _definitions(pairs: Mapping[str, str]) -> str:
    shown = [f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in pairs.items()]
    return f"<dl>{''.join(shown)}</dl>"
