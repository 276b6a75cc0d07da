"""The page a report stands on: HTML pieces and the style sheet. Every piece takes plain text and escapes it.

Nothing is loaded from anywhere: system fonts, inline CSS, inline SVG, no script.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape, unescape

# Where values of users stand: the cells of a column of kind "code", and the ends of notes.
_EXAMPLES = re.compile(r'(?<=<td class="code">)[^<]+(?=</td>)|(?<=, e\.g\. )[^<]+(?=</title>)')


@dataclass(frozen=True, slots=True)
class Column:
    """A table's column: its head, and "text", "number", "name" (code that stays whole) or "code" (a line each)."""

    head: str
    kind: str = "text"


@dataclass(frozen=True, slots=True)
class Section:
    """One section: an anchor, a title, what it answers, and its body (HTML)."""

    anchor: str
    title: str
    lead: str
    body: str


def page(title: str, facts: Sequence[tuple[str, str]], sections: Sequence[Section]) -> str:
    """The whole document."""
    contents = "".join(f'<a href="#{s.anchor}">{escape(s.title)}</a>' for s in sections)
    meta = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    body = "".join(
        f'<section id="{s.anchor}"><h2>{escape(s.title)}</h2><p class="lead">{escape(s.lead)}</p>{s.body}</section>'
        for s in sections
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>{escape(title)} · reclake report</title><style>{STYLE}</style></head><body>"
        f'<header><p class="eyebrow">reclake report</p><h1>{escape(title)}</h1><dl>{meta}</dl></header>'
        f"<nav>{contents}</nav><main>{body}</main></body></html>\n"
    )


def tiles(items: Sequence[tuple[str, str, str, str]]) -> str:
    """Big figures: (CSS class of the series or "", name, figure, a line below)."""
    cells = "".join(
        f'<div class="tile"><span class="name">{_swatch(series)}{escape(name)}</span>'
        f'<span class="value">{escape(value)}</span><span class="below">{escape(below)}</span></div>'
        for series, name, value, below in items
    )
    return f'<div class="tiles">{cells}</div>'


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th class="{c.kind}">{escape(c.head)}</th>' for c in columns)
    lines = (
        "".join(f'<td class="{c.kind}">{escape(text)}</td>' for c, text in zip(columns, row, strict=True))
        for row in rows
    )
    body = "</tr><tr>".join(lines)
    whole = f"<thead><tr>{head}</tr></thead><tbody><tr>{body}</tr></tbody>"
    return f'<div class="scroll"><table>{whole}</table></div>'


def with_examples(html: str, change: Callable[[str], str]) -> str:
    """Kernel: a page that was made here with every example passed through `change`, as plain text."""
    return _EXAMPLES.sub(lambda found: escape(change(unescape(found[0]))), html)


def law(bar: str) -> str:
    """The bar of where everything went. `bar` is HTML."""
    return f'<div class="law">{bar}</div>'


def figure(title: str, caption: str, chart: str) -> str:
    """A chart with its title and, in small, what to know about it. `chart` is HTML."""
    below = f'<p class="caption">{escape(caption)}</p>' if caption else ""
    return f"<figure><figcaption>{escape(title)}</figcaption>{chart}{below}</figure>"


def columns_of(figures: Sequence[str]) -> str:
    """Figures side by side where there is room."""
    return f'<div class="figures">{"".join(figures)}</div>'


def legend(entries: Sequence[tuple[str, str]]) -> str:
    """(CSS class, name) of each series."""
    return '<p class="legend">' + "".join(f"<span>{_swatch(c)}{escape(n)}</span>" for c, n in entries) + "</p>"


def say(text: str, kind: str = "say") -> str:
    """A paragraph: "say", "good", "bad" or "caption". What stands between backticks is set as code."""
    parts = [f"<code>{escape(part)}</code>" if i % 2 else escape(part) for i, part in enumerate(text.split("`"))]
    return f'<p class="{kind}">{"".join(parts)}</p>'


def heading(text: str) -> str:
    return f"<h3>{escape(text)}</h3>"


def empty(what: str, command: str) -> str:
    """What a section without rows says: what is missing and what fills it."""
    return f'<div class="empty"><p>{escape(what)}</p><code>{escape(command)}</code></div>'


def _swatch(series: str) -> str:
    return f'<i class="{series}"></i>' if series else ""


STYLE = """
:root{--paper:#f6f7f9;--card:#fff;--ink:#16202e;--soft:#5a6779;--faint:#8a96a6;--line:#e3e7ed;--rule:#e9edf2;
--model:#2557d6;--base:#94a0b0;--quarantined:#d9730d;--duplicates:#7b5bd6;--late:#0f8a8a;--admitted:#2557d6;
--pass:#cfe9d9;--on-pass:#1d6b43;--warn:#f6d56b;--on-warn:#5b4300;--quarantine:#f0975b;--on-quarantine:#4a1d00;
--stop:#d33f49;--on-stop:#fff;--good:#1d7a4b;--good-bg:#e9f6ef;--bad:#b3261e;--bad-bg:#fdecea}
@media (prefers-color-scheme:dark){:root{--paper:#0f141b;--card:#171e28;--ink:#e8edf4;--soft:#a3b0c0;--faint:#74818f;
--line:#2a3442;--rule:#242e3b;--model:#7aa2ff;--base:#6d7a8b;--quarantined:#f29a4a;--duplicates:#a98cf5;--late:#3fc1c1;
--admitted:#7aa2ff;--pass:#1f4a36;--on-pass:#a7e3c3;--warn:#a97f12;--on-warn:#fff6d8;--quarantine:#c2662a;
--on-quarantine:#fff;--stop:#d5505a;--on-stop:#fff;--good:#6fd3a0;--good-bg:#14291f;--bad:#ff9b93;--bad-bg:#351b1a}}
*{box-sizing:border-box}html{scroll-behavior:smooth;-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue","Liberation Sans",Arial,sans-serif}
header,nav,main{max-width:1160px;margin:0 auto;padding:0 28px}
header{padding-top:44px}
.eyebrow{margin:0;color:var(--soft);font-size:12px;font-weight:600;letter-spacing:.12em;text-transform:uppercase}
h1{margin:2px 0 14px;font-size:34px;line-height:1.2;letter-spacing:-.02em;overflow-wrap:anywhere}
dl{display:flex;flex-wrap:wrap;gap:6px 34px;margin:0}dl div{display:flex;gap:8px}dt{color:var(--soft)}
dd{margin:0;font-weight:550}
nav{display:flex;flex-wrap:wrap;gap:8px;margin-top:22px}
nav a{padding:4px 12px;border:1px solid var(--line);border-radius:99px;background:var(--card);color:var(--soft);
font-size:13px;text-decoration:none}nav a:hover{color:var(--ink);border-color:var(--faint)}
main{padding-bottom:64px}
section{margin-top:22px;padding:26px 30px 28px;background:var(--card);border:1px solid var(--line);border-radius:14px;
scroll-margin-top:16px}
h2{margin:0;font-size:20px;letter-spacing:-.01em}.lead{margin:2px 0 18px;color:var(--soft)}
h3{margin:26px 0 8px;font-size:14px}
section>:last-child{margin-bottom:0}section>.wide+figure,section>p+figure{margin-top:26px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:1px;
border:1px solid var(--line);border-radius:10px;overflow:hidden}
.tile{box-shadow:0 0 0 1px var(--line);display:flex;flex-direction:column;padding:14px 18px;background:var(--card)}
.tile .name{color:var(--soft);font-size:13px}
.value{font-size:27px;font-weight:620;letter-spacing:-.02em;line-height:1.3;
font-variant-numeric:tabular-nums;white-space:nowrap}.below{color:var(--soft);font-size:12.5px}
.law{margin-top:22px}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(290px,1fr));gap:22px 28px}
figure{margin:0;min-width:0}figcaption{margin-bottom:6px;font-size:13.5px;font-weight:600}
figure.wide{grid-column:1/-1}
svg{display:block;width:100%;height:auto;overflow:visible}
svg text{font-size:11px;fill:var(--ink);font-variant-numeric:tabular-nums}
svg .tick,svg .axis{fill:var(--soft)}svg .group{font-size:12px;font-weight:650}svg .label{font-size:12px}
svg .figure{font-size:12px}svg .mono{font:10.5px ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace}
.rule{stroke:var(--rule);stroke-width:1}.reference{stroke:var(--faint);stroke-dasharray:3 3}
.whisker{stroke-width:2;stroke-linecap:round;opacity:.55}.join{fill:none;stroke-width:1.2;opacity:.4}
.bar.model,.dot.model,i.model{fill:var(--model);background:var(--model)}
.bar.base,.dot.base,i.base{fill:var(--base);background:var(--base)}
.bar.quarantined,.dot.quarantined,i.quarantined{fill:var(--quarantined);background:var(--quarantined)}
.bar.duplicates,.dot.duplicates,i.duplicates{fill:var(--duplicates);background:var(--duplicates)}
.bar.late,.dot.late,i.late{fill:var(--late);background:var(--late)}
.bar.admitted,i.admitted{fill:var(--admitted);background:var(--admitted)}
.whisker.model,.join.model{stroke:var(--model)}.whisker.base,.join.base{stroke:var(--base)}
.whisker.late,.join.late{stroke:var(--late)}
.cell.pass,i.pass{fill:var(--pass);background:var(--pass)}.cell.warn,i.warn{fill:var(--warn);background:var(--warn)}
.cell.quarantine,i.quarantine{fill:var(--quarantine);background:var(--quarantine)}
.cell.stop,i.stop{fill:var(--stop);background:var(--stop)}
svg .inside{font-size:10.5px;pointer-events:none}
svg .inside.pass{fill:var(--on-pass)}svg .inside.warn{fill:var(--on-warn)}
svg .inside.quarantine{fill:var(--on-quarantine)}svg .inside.stop{fill:var(--on-stop)}
.legend{display:flex;flex-wrap:wrap;gap:4px 20px;margin:12px 0;color:var(--soft);font-size:13px}
.legend i,.tile .name i{display:inline-block;width:11px;height:11px;
margin-right:7px;border-radius:3px;vertical-align:-1px}
.caption{margin:6px 0 0;color:var(--soft);font-size:12.5px}.say{margin:14px 0}
.good,.bad{margin:14px 0;padding:9px 14px;border-radius:8px;font-weight:550}
.good{background:var(--good-bg);color:var(--good)}.bad{background:var(--bad-bg);color:var(--bad)}
.scroll{overflow-x:auto}table{width:100%;border-collapse:collapse;font-size:13.5px}
th{padding:7px 12px;border-bottom:1px solid var(--line);color:var(--soft);font-size:12px;font-weight:600;
text-align:left;white-space:nowrap}
td{padding:7px 12px;border-bottom:1px solid var(--rule);vertical-align:baseline;overflow-wrap:break-word}
td.code{overflow-wrap:anywhere;white-space:pre-line}td.name{white-space:nowrap}td:first-child{white-space:nowrap}
th:first-child,td:first-child{padding-left:0}th:last-child,td:last-child{padding-right:0}
tr:last-child td{border-bottom:0}
.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td.code,td.name,code{font:12.5px ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace}
.empty{padding:18px 20px;border:1.5px dashed var(--line);border-radius:10px;color:var(--soft)}.empty p{margin:0 0 8px}
.empty code{display:inline-block;padding:4px 10px;border-radius:6px;background:var(--paper);color:var(--ink)}
@media screen and (max-width:900px){.wide svg{width:860px}td{min-width:90px}}
@media (max-width:640px){header,nav,main{padding-left:14px;padding-right:14px}section{padding:20px 16px}}
@page{size:A4 landscape;margin:12mm}
@media print{:root{--paper:#fff;--card:#fff;--ink:#000;--soft:#444}body{font-size:10.5pt}nav{display:none}
header,main{padding:0}.tiles{grid-template-columns:repeat(6,1fr)}
.scroll{overflow:visible}.wide svg{max-height:165mm}td{padding-top:4px;padding-bottom:4px}
header{padding-top:0}section{border:0;padding:0;margin-top:26px}h2,h3,figcaption{break-after:avoid}
figure,.tiles,.wide,tr,.empty{break-inside:avoid}h2,h3,.lead,.legend{break-after:avoid}*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""
