"""Templates that stand before Great Expectations' own of the same names, and the one style sheet of all pages."""

from __future__ import annotations

from ..reports.page import POLICY

_PAGE = """<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta http-equiv="Content-Security-Policy" content="POLICY">
    <meta name="referrer" content="no-referrer">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="color-scheme" content="light dark">
    <link rel="icon" href="data:,">
    <title>{{ (page_title or "Data Docs") | e }}</title>
    <style>{% include 'data_docs_default_styles.css' %}</style>
    <style>{% include 'data_docs_custom_styles.css' ignore missing %}</style>
  </head>
  <body>
    {% include 'top_navbar.j2' %}
    <div class="page">
      <aside>{% include 'sidebar.j2' %}</aside>
      <main>
        {% for section in sections %}
          {% set section_loop = loop -%}
          {% include 'section.j2' %}
        {% endfor %}
      </main>
    </div>
  </body>
</html>
""".replace("POLICY", POLICY)

_TOP = """
{% set dots = (expectation_suite_name or "").count(".") %}
{% if "ValidationResults" in renderer_type or "ProfilingResults" in renderer_type %}
  {% set home_url = ((dots + 4) * "../") + "index.html" %}
{% elif "ExpectationSuite" in renderer_type %}
  {% set home_url = ((dots + 1) * "../") + "index.html" %}
{% else %}
  {% set home_url = "#" %}
{% endif %}
<header><a href="{{ home_url }}">Data Docs</a>{% if page_title %} <span>{{ page_title | e }}</span>{% endif %}</header>
"""

_ABOUT = """
{% if renderer_type == "ValidationResultsPageRenderer" %}<h4>Validation result</h4>
{% elif renderer_type == "ExpectationSuitePageRenderer" %}<h4>Expectation suite</h4>
{% elif renderer_type == "ProfilingResultsPageRenderer" %}<h4>Profile</h4>
{% else %}<p>Made by Great Expectations {{ ge_version }}.</p>{% endif %}
"""

_FAILED_ONLY = '<p><label><input type="checkbox" id="failed-only"> Failed only</label></p>'

_CONTENTS = """
<div class="card"><strong>Table of Contents</strong>
<ul class="nav">
  {% for section in sections %}
    <li><a href="#section-{{ loop.index }}">{{ section["section_name"] | e }}</a></li>
  {% endfor %}
</ul></div>
"""

# Filled here and not by a script; a row's first cell is the link to what it tells of.
_INDEX_TABLE = """
{% include 'content_block_header.j2' %}
{% set columns = content_block["table_columns"] %}
{% set options = content_block.get("table_options", {}) %}
{% set sorted_by = options.get("sortName", columns[0]["field"]) %}
{% set by = "_run_time_sort" if sorted_by == "run_time" else sorted_by %}
<table class="table">
  <thead><tr>{% for column in columns %}<th>{{ column["title"] | e }}</th>{% endfor %}</tr></thead>
  <tbody>
  {% for row in content_block["table_data"] | sort(attribute=by, reverse=options.get("sortOrder") == "desc") %}
    <tr>
    {% for column in columns %}
      {% set cell = row[column["field"]] %}
      {% set text = "" if cell is none else cell | string | e %}
      {% set shown = (cell | render_content_block) if cell is mapping else text %}
      {% set path = row.get("_table_row_link_path") %}
      <td>{% if column["field"] in ("run_time", "expectation_suite_name") and path and cell is not mapping %}
        <a href="{{ path | string | e }}">{{ shown }}</a>{% else %}{{ shown }}{% endif %}</td>
    {% endfor %}
    </tr>
  {% endfor %}
  </tbody>
</table>
"""

# Great Expectations' own, but for cells of text, which it sets as they are: values of the data are text and no markup.
_TABLE = """
{% include 'content_block_header.j2' %}
{% set styling = content_block.get("styling", {}).get("body", {}) | render_styling %}
<table id="{{ content_block_id }}-body"
  {{ styling | replace("{{section_id}}", section_id) | replace("{{content_block_id}}", content_block_id) }}>
  {% if content_block.get("header_row") %}
  <thead><tr>{% for head in content_block["header_row"] %}
    <th>{{ (head | render_content_block) if head is mapping else head | string | e }}</th>
  {% endfor %}</tr></thead>
  {% endif %}
  <tbody>
  {% for row in content_block["table"] %}
    <tr>
    {% for cell in row %}
      {% set place = content_block_id ~ "-cell-" ~ loop.index %}
      {% set about = cell.get("styling", {}).get("parent", {}) if cell is mapping else {} %}
      {% set nested = cell is mapping or (cell is sequence and cell is not string) %}
      <td {{ about | render_styling | replace("{{section_id}}", section_id) }}>{% if nested -%}
        {{ cell | render_content_block(content_block_id=place) }}
      {%- else %}{{ "" if cell is none else cell | string | e }}{% endif %}</td>
    {% endfor %}
    </tr>
  {% endfor %}
  </tbody>
</table>
"""

_TABS = """
{% for tab in content_block["tabs"] %}
  <h4>{{ tab.get("tab_name", "") | e }}</h4>
  {{ tab.get("tab_content") | render_content_block(content_block_id=content_block_id ~ '-' ~ loop.index) }}
{% endfor %}
"""

_COLLAPSE = """
<details class="more">
  <summary>{{ content_block.get("collapse_toggle_link", "Show more...") | render_content_block }}</summary>
  {% include 'content_block_header.j2' %}
  {% for block in content_block["collapse"] %}
    {{ block | render_content_block(content_block_id=content_block_id ~ "-collapse-item-" ~ loop.index) }}
  {% endfor %}
</details>
"""

_CHART = """
{% include 'content_block_header.j2' %}
<p class="small">A chart stands here on pages that load scripts from elsewhere; its figures are in the result.</p>
"""

_STYLE = """
:root{--paper:#f6f7f9;--card:#fff;--ink:#16202e;--soft:#5a6779;--line:#dfe4ea;--link:#1d4ed8;--code:#eef1f5;
--good:#1d7a4b;--bad:#b3261e;--warn:#7a5500;--head:#eaf0fb}
@media (prefers-color-scheme:dark){:root{--paper:#0f141b;--card:#171e28;--ink:#e8edf4;--soft:#a3b0c0;--line:#2a3442;
--link:#93b7ff;--code:#222c39;--good:#6fd3a0;--bad:#ff9b93;--warn:#f0c75a;--head:#1d2837}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue","Liberation Sans",Arial,sans-serif}
a{color:var(--link)}header{padding:14px 28px;border-bottom:1px solid var(--line);background:var(--card)}
header a{margin-right:14px;font-weight:650;text-decoration:none}header span{color:var(--soft);overflow-wrap:anywhere}
.page{display:grid;grid-template-columns:220px minmax(0,1fr);gap:28px;max-width:1400px;margin:0 auto;padding:22px 28px}
aside ul{margin:0;padding:0;list-style:none}aside h4{margin:0 0 6px}aside .sticky{position:sticky;top:16px}
.ge-section{margin:0 0 22px;padding:20px 24px;border:1px solid var(--line);border-radius:12px;background:var(--card)}
.row{display:flex;flex-wrap:wrap;gap:8px 20px}[class*=col-]{flex:1 1 100%;min-width:0}
.col-6,.col-4,.col-3{flex:1 1 320px}
h1,h2,h3,h4,h5,h6{margin:0 0 8px;font-size:18px;line-height:1.35}h5,h6,.h6{font-size:16px;font-weight:650}
table+h4{margin-top:26px}.alert{margin-bottom:8px;padding:10px 14px;border-radius:8px;background:var(--head)}
table{width:100%;border-collapse:collapse}.table-responsive,.show-scrollbars{overflow:auto}
th,td{padding:7px 10px;border-bottom:1px solid var(--line);text-align:left;vertical-align:top;overflow-wrap:anywhere}
th{color:var(--soft);font-size:14px;white-space:nowrap}thead[hidden]{display:none}
.badge{padding:1px 7px;border-radius:5px;background:var(--code);color:var(--ink);font-size:.94em;overflow-wrap:anywhere}
pre,code{font:14px/1.45 ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace;white-space:pre-wrap}
.fas{font-style:normal;font-weight:700}.fa-check-circle::before{content:"\\2713"}.fa-times::before{content:"\\2717"}
.fa-exclamation-triangle::before{content:"!"}.fa-question-circle::before{content:"?"}
.text-success,.fa-check-circle{color:var(--good)!important}.text-danger,.fa-times{color:var(--bad)!important}
.text-warning{color:var(--warn)!important}
.cooltip{position:relative}.cooltip .top{display:none;position:absolute;z-index:2;bottom:100%;left:0;width:max-content;
max-width:320px;padding:8px 12px;border:1px solid var(--line);border-radius:8px;background:var(--card);font-size:14px;
white-space:pre-wrap}.cooltip:hover .top{display:block}
.more{margin:8px 0}.more summary{cursor:pointer;color:var(--link)}.small{color:var(--soft);font-size:14px}
body:has(#failed-only:checked) tr:has(.hide-succeeded-validation-target-child){display:none}
@media (max-width:1000px){.page{grid-template-columns:minmax(0,1fr);padding:14px}.ge-section{padding:14px}
aside .card{display:none}[class*=col-]{overflow-x:auto}th,td{padding:6px}}
"""

TEMPLATES = {
    "page.j2": _PAGE,
    "index_page.j2": _PAGE,
    "top_navbar.j2": _TOP,
    "ge_info.j2": _ABOUT,
    "page_action_card.j2": _FAILED_ONLY,
    "table_of_contents.j2": _CONTENTS,
    "bootstrap_table.j2": _INDEX_TABLE,
    "table.j2": _TABLE,
    "tabs.j2": _TABS,
    "collapse.j2": _COLLAPSE,
    "graph.j2": _CHART,
    "data_docs_default_styles.css": _STYLE,
}
