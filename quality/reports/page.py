"""The page a report stands on: HTML pieces and the style sheet. Every piece takes plain text and escapes it.

Nothing is loaded from anywhere: system fonts, inline CSS, inline SVG, no script.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape, unescape

# Where values of users stand: the cells of a column of kind "code", and the ends of notes.
_EXAMPLES = re.compile(r'(<td class="code"[^>]*>|, e\.g\. |; observed (?!\d+ of \d+ rows))([^<]+)(?=</td>|</title>)')
# Whole rows, of whom nobody can say once what names them is masked.
_ROWS = re.compile(r'(<td class="row"[^>]*>).*?(?=</td>)', re.DOTALL)
_GONE = "gone: users were forgotten since; make the report again"


# No request whatever: should a value of the data smuggle in an address, the browser refuses it.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


class Html(str):
    """A cell that is HTML already; plain strings are escaped."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Column:
    """A table's column: its head, and "text", "number", "short" (text that stays whole), "name" (code that does),
    "check" (code that wraps), "code" (values of users, a line each) or "row" (the values of a row of somebody's).
    """

    head: str
    kind: str = "text"


@dataclass(frozen=True, slots=True)
class Section:
    """One section: an anchor, a title, what it answers, and its body (HTML)."""

    anchor: str
    title: str
    lead: str
    body: str


def page(title: str, facts: Sequence[tuple[str, str]], sections: Sequence[Section], *, kind: str = "report") -> str:
    """The whole document. `kind` stands above the title."""
    contents = "".join(f'<a href="#{s.anchor}">{escape(s.title)}</a>' for s in sections)
    meta = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    body = "".join(
        f'<section id="{s.anchor}"><h2>{escape(s.title)}</h2><p class="lead">{escape(s.lead)}</p>{s.body}</section>'
        for s in sections
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><meta name="referrer" content="no-referrer">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>{escape(title)} · reclake {escape(kind)}</title><style>{STYLE}</style></head><body>"
        f'<header><p class="eyebrow">reclake {escape(kind)}</p><h1>{escape(title)}</h1><dl>{meta}</dl></header>'
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


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, ids: Sequence[str] = ()) -> str:
    """A table, on a narrow screen a card a row where it has many columns. `ids`: anchors of the rows."""
    head = "".join(f'<th class="{c.kind}">{escape(c.head)}</th>' for c in columns)
    cards = len(columns) > 4 or any(c.kind == "row" for c in columns)
    labels = [f' data-head="{escape(c.head, quote=True)}"' if cards else "" for c in columns]
    lines = []
    for place, row in enumerate(rows):
        cells = "".join(
            f'<td class="{c.kind}"{label}>{text if isinstance(text, Html) else escape(text)}</td>'
            for c, label, text in zip(columns, labels, row, strict=True)
        )
        anchor = f' id="{escape(ids[place], quote=True)}"' if ids else ""
        lines.append(f"<tr{anchor}>{cells}</tr>")
    whole = f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return f'<div class="scroll"><table{" class=cards" if cards else ""}>{whole}</table></div>'


def link(text: str, anchor: str | None, *, note: str = "") -> Html:
    """A link to a place on the page; plain text where there is none."""
    about = f' title="{escape(note, quote=True)}"' if note else ""
    if anchor is None:
        return Html(f"<span{about}>{escape(text)}</span>")
    return Html(f'<a href="#{escape(anchor, quote=True)}"{about}>{escape(text)}</a>')


def under(first: Html, second: str) -> Html:
    """A cell of two parts, the second of them small code."""
    return Html(f'{first}<br><code class="small">{escape(second)}</code>')


def badge(state: str, text: str) -> Html:
    """A word on the colour of a state: "pass", "warn", "quarantine" or "stop"."""
    return Html(f'<span class="badge {state}">{escape(text)}</span>')


def pairs(found: Sequence[tuple[str, str, bool]]) -> Html:
    """Names and values beside each other; those that are marked stand out."""
    return Html(
        " ".join(
            f'<span class="pair"><i>{escape(name)}</i> '
            + (f"<b>{escape(value)}</b></span>" if mark else f"{escape(value)}</span>")
            for name, value, mark in found
        )
    )


def bullets(items: Sequence[tuple[str, str, str]]) -> str:
    """(state, word, text), a line each."""
    lines = "".join(f"<li>{badge(state, word)} {escape(text)}</li>" for state, word, text in items)
    return f'<ul class="plain">{lines}</ul>'


def without_rows(html: str) -> str:
    """Kernel: a page that was made here without the rows of anybody that it showed."""
    return _ROWS.sub(rf"\g<1>{_GONE}", html)


def with_examples(html: str, change: Callable[[str], str]) -> str:
    """Kernel: a page that was made here with every example passed through `change`, as plain text."""
    return _EXAMPLES.sub(lambda found: found[1] + escape(change(unescape(found[2]))), html)


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


def bars(rows: Sequence[tuple[str, float, str]], *, series: str) -> str:
    """A horizontal bar for each (name, size, size in words), the longest as wide as there is room."""
    top = max((size for _, size, _ in rows), default=0) or 1
    lines = "".join(
        f'<div><span>{escape(name)}</span><i class="{series}" style="width:{size / top:.1%}"></i>'
        f"<b>{escape(said)}</b></div>"
        for name, size, said in rows
    )
    return f'<div class="bars">{lines}</div>'


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
--stop:#d33f49;--on-stop:#fff;--link:#1d4ed8;--met:#6cbf93;--good:#1d7a4b;--good-bg:#e9f6ef;--bad:#b3261e;--bad-bg:#fdecea}
@media (prefers-color-scheme:dark){:root{--paper:#0f141b;--card:#171e28;--ink:#e8edf4;--soft:#a3b0c0;--faint:#74818f;
--line:#2a3442;--rule:#242e3b;--model:#7aa2ff;--base:#6d7a8b;--quarantined:#f29a4a;--duplicates:#a98cf5;--late:#3fc1c1;
--admitted:#7aa2ff;--pass:#1f4a36;--on-pass:#a7e3c3;--warn:#7d5c00;--on-warn:#fff6d8;--quarantine:#a3531c;
--on-quarantine:#fff;--stop:#c23b46;--on-stop:#fff;--link:#93b7ff;--met:#2f8a60;--good:#6fd3a0;--good-bg:#14291f;--bad:#ff9b93;--bad-bg:#351b1a}}
*{box-sizing:border-box}html{scroll-behavior:smooth;-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue","Liberation Sans",Arial,sans-serif}
header,nav,main{max-width:1160px;margin:0 auto;padding:0 28px}
header{padding-top:44px}
.eyebrow{margin:0;color:var(--soft);font-size:14px;font-weight:600;letter-spacing:.12em;text-transform:uppercase}
h1{margin:2px 0 14px;font-size:34px;line-height:1.2;letter-spacing:-.02em;overflow-wrap:anywhere}
dl{display:flex;flex-wrap:wrap;gap:6px 34px;margin:0}dl div{display:flex;gap:8px}dt{color:var(--soft)}
dd{margin:0;font-weight:550}
nav{display:flex;flex-wrap:wrap;gap:8px;margin-top:22px}
nav a{padding:4px 12px;border:1px solid var(--line);border-radius:99px;background:var(--card);color:var(--soft);
font-size:15px;text-decoration:none}nav a:hover{color:var(--ink);border-color:var(--faint)}
main{padding-bottom:64px}
section{margin-top:22px;padding:26px 30px 28px;background:var(--card);border:1px solid var(--line);border-radius:14px;
scroll-margin-top:16px}
h2{margin:0;font-size:22px;letter-spacing:-.01em}.lead{margin:2px 0 18px;color:var(--soft)}
h3{margin:26px 0 8px;font-size:16px}
section>:last-child{margin-bottom:0}section>.wide+figure,section>p+figure{margin-top:26px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:1px;
border:1px solid var(--line);border-radius:10px;overflow:hidden}
.tile{box-shadow:0 0 0 1px var(--line);display:flex;flex-direction:column;padding:14px 18px;background:var(--card)}
.tile .name{color:var(--soft);font-size:15px}
.value{font-size:27px;font-weight:620;letter-spacing:-.02em;line-height:1.3;
font-variant-numeric:tabular-nums;white-space:nowrap}.below{color:var(--soft);font-size:14px}
.law{margin-top:22px}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(290px,1fr));gap:22px 28px}
figure{margin:0;min-width:0}section>figure,section>.tiles+figure{margin-top:26px}figcaption{margin-bottom:6px;font-size:16px;font-weight:600}
figure.wide{grid-column:1/-1}
a{color:var(--link)}tr:target td{background:var(--good-bg)}
.badge{display:inline-block;padding:0 9px;border-radius:99px;font-size:14px;font-weight:600;white-space:nowrap}
.badge.pass{background:var(--pass);color:var(--on-pass)}.badge.warn{background:var(--warn);color:var(--on-warn)}
.badge.quarantine{background:var(--quarantine);color:var(--on-quarantine)}
.badge.stop{background:var(--stop);color:var(--on-stop)}
.bars div{display:grid;grid-template-columns:minmax(0,30ch) minmax(0,1fr) 9ch;gap:3px 12px;align-items:center;
padding:3px 0}.bars span{overflow-wrap:anywhere}.bars i{display:block;height:16px;min-width:2px;border-radius:2px}
.bars b{font-weight:550;font-variant-numeric:tabular-nums;text-align:right}
.small{white-space:pre-line;font-size:12.5px;color:var(--soft);overflow-wrap:anywhere}
ul.plain{margin:16px 0 0;padding:0;list-style:none}ul.plain li{margin:6px 0}ul.plain .badge{margin-right:6px}
table.cards td{vertical-align:top}
svg.spark{width:180px;height:30px;min-width:180px;margin-top:-6px}
.met{fill:none;stroke:var(--met);stroke-width:2}
.join.value{stroke:var(--soft);opacity:.8}
.pair{display:inline-block;margin-right:14px}.pair i{color:var(--soft);font-style:normal}
.pair b{padding:0 3px;border-radius:4px;background:var(--warn);color:var(--on-warn);font-weight:600}
svg{display:block;width:100%;height:auto;overflow:visible}
svg text{font-size:13px;fill:var(--ink);font-variant-numeric:tabular-nums}
svg .tick,svg .axis{fill:var(--soft)}svg .group{font-size:14px;font-weight:650}svg .label{font-size:14px}
svg .figure{font-size:13.5px}svg .mono{font:12.5px ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace}
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
svg .inside{font-size:12.5px;pointer-events:none}
svg .inside.pass{fill:var(--on-pass)}svg .inside.warn{fill:var(--on-warn)}
svg .inside.quarantine{fill:var(--on-quarantine)}svg .inside.stop{fill:var(--on-stop)}
.legend{display:flex;flex-wrap:wrap;gap:4px 20px;margin:12px 0;color:var(--soft);font-size:14px}
.legend i,.tile .name i{display:inline-block;width:11px;height:11px;
margin-right:7px;border-radius:3px;vertical-align:-1px}
.caption{margin:6px 0 0;color:var(--soft);font-size:14px}.say{margin:14px 0}
.good,.bad{margin:14px 0;padding:9px 14px;border-radius:8px;font-weight:550}
.good{background:var(--good-bg);color:var(--good)}.bad{background:var(--bad-bg);color:var(--bad)}
.scroll{overflow-x:auto}table{width:100%;border-collapse:collapse;font-size:15px}
th{padding:7px 12px;border-bottom:1px solid var(--line);color:var(--soft);font-size:14px;font-weight:600;
text-align:left;white-space:nowrap}
td{padding:7px 12px;border-bottom:1px solid var(--rule);vertical-align:baseline;overflow-wrap:break-word}
td.code,td.row{overflow-wrap:anywhere;white-space:pre-line}
td.name,td.short,table:not(.cards) td:first-child{white-space:nowrap}
th:first-child,td:first-child{padding-left:0}th:last-child,td:last-child{padding-right:0}
tr:last-child td{border-bottom:0}
.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td.code,td.name,td.check,td.row,code{font:14px/1.45 ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace}
.empty{padding:18px 20px;border:1.5px dashed var(--line);border-radius:10px;color:var(--soft)}.empty p{margin:0 0 8px}
.empty code{display:inline-block;padding:4px 10px;border-radius:6px;background:var(--paper);color:var(--ink)}
@media screen and (max-width:1000px){.wide svg{width:1040px}}
@media screen and (max-width:760px){table.cards thead{display:none}table.cards tr{display:block;padding:10px 0;
border-bottom:1px solid var(--line)}table.cards td{display:grid;grid-template-columns:112px 1fr;gap:10px;padding:3px 0;
border:0;text-align:left;white-space:normal}table.cards td.row,table.cards td.code{white-space:pre-line}
table.cards td:empty{display:none}table.cards td::before{content:attr(data-head);color:var(--soft);
font:14px/1.5 system-ui,sans-serif}table.cards .badge{justify-self:start}
.bars div{grid-template-columns:minmax(0,1fr) 9ch}.bars span{grid-column:1/-1}}
@media (max-width:640px){header,nav,main{padding-left:14px;padding-right:14px}section{padding:20px 16px}}
@page{size:A4 landscape;margin:12mm}
@media print{:root{--paper:#fff;--card:#fff;--ink:#000;--soft:#444}body{font-size:10.5pt}nav{display:none}
header,main{padding:0}.tiles{grid-template-columns:repeat(6,1fr)}
.scroll{overflow:visible}.wide svg{max-height:165mm}td{padding-top:4px;padding-bottom:4px}
header{padding-top:0}section{border:0;padding:0;margin-top:26px}h2,h3,figcaption{break-after:avoid}
figure,.tiles,.wide,tr,.empty{break-inside:avoid}h2,h3,.lead,.legend{break-after:avoid}*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""
