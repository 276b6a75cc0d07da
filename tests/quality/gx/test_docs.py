"""Offline Data Docs: everything Great Expectations has to say, and no request, whatever the values try."""

from __future__ import annotations

import os

os.environ["GX_ANALYTICS_ENABLED"] = "false"  # before Great Expectations is imported: no test reports usage

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from browser import Knocks, Page, browsing

HOSTILE = '<img src="http://a.example/x.png"><script src="http://b.example/x.js"></script>'


def validated(root: Path, *, offline: bool) -> Path:
    """A stored context with one failing and one passing expectation, and its site, built by a checkpoint's action."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # GX, pandas and marshmallow deprecate among themselves
        import great_expectations as gx

        from reclake.quality.gx import offline_docs

        return _built(gx, root, offline_docs(root / "site") if offline else None)


def _built(gx: Any, root: Path, site: dict[str, Any] | None) -> Path:
    e = gx.expectations
    context = gx.get_context(mode="file", project_root_dir=root)
    if site is not None:
        context.update_data_docs_site("local_site", site)
    batches = context.data_sources.add_polars("lake").add_dataframe_asset("events")
    definition = batches.add_batch_definition_whole_dataframe("all")
    checks = [e.ExpectColumnValuesToBeInSet(column="kind", value_set=["view"]), e.ExpectColumnToExist(column="kind")]
    # Of one that is there, and of one whose exception names it.
    checks += [e.ExpectColumnValuesToNotBeNull(column=column) for column in (HOSTILE, f"no {HOSTILE}")]
    suite = context.suites.add(gx.ExpectationSuite("shop.events", expectations=checks))
    validation = context.validation_definitions.add(gx.ValidationDefinition(name="v", data=definition, suite=suite))
    docs = gx.checkpoint.UpdateDataDocsAction(name="docs")
    checkpoint = context.checkpoints.add(gx.Checkpoint(name="c", validation_definitions=[validation], actions=[docs]))
    frame = pl.DataFrame({"kind": ["view", "view", HOSTILE, "buy"], HOSTILE: [1, 2, 3, 4]})
    assert not checkpoint.run(batch_parameters={"dataframe": frame}).success
    return root / "gx" / "uncommitted" / "data_docs" / "local_site" if site is None else root / "site"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("docs")
    return validated(root, offline=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[tuple[Page, Knocks]]:
    with browsing() as found:
        yield found


def result_page(site: Path) -> Path:
    return next((site / "validations").rglob("*.html"))


def test_no_request_leaves_any_page(site: Path, browser: tuple[Page, Knocks]) -> None:
    page, knocks = browser
    pages = sorted(site.rglob("*.html"))
    assert len(pages) == 3
    for path in pages:
        for width, dark in ((1280, False), (900, False), (390, True)):
            page.size(width, dark=dark)
            page.open(path)
            assert page.requests == [path.as_uri()]
            assert page.evaluate("getComputedStyle(document.body).fontSize") == "16px"
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate("document.querySelectorAll('script, img').length") == 0
            if path.parent != site:
                assert page.evaluate("document.querySelector('main').textContent").count(HOSTILE) > 1
    assert knocks.heard == []


def test_the_default_pages_are_what_they_are_said_to_be(browser: tuple[Page, Knocks], tmp_path: Path) -> None:
    page, knocks = browser
    path = result_page(validated(tmp_path, offline=False))
    page.open(path)
    assert len([address for address in page.requests if address.startswith("http")]) > 10
    assert any("dataContextId=" in address for address in page.requests)
    knocks.heard.clear()


def test_should_a_value_become_markup_the_browser_lets_nothing_through(
    site: Path, browser: tuple[Page, Knocks], tmp_path: Path
) -> None:
    page, knocks = browser
    path = tmp_path / "smuggled.html"
    path.write_text(result_page(site).read_text().replace("<main>", f"<main>{HOSTILE}"))
    page.open(path)
    assert page.evaluate("document.querySelectorAll('main > script').length") == 1
    assert knocks.heard == []


def test_the_index_names_the_site_and_links_to_results_and_suites(site: Path, browser: tuple[Page, Knocks]) -> None:
    page, _ = browser
    page.open(site / "index.html")
    assert "local_site" in page.evaluate("document.body.innerText")
    links = page.evaluate("[...document.querySelectorAll('main a')].map(a => a.href)")
    wanted = {result_page(site).as_uri(), (site / "expectations" / "shop" / "events.html").as_uri()}
    assert wanted <= set(links)


def test_a_result_says_what_failed_and_can_show_that_alone(site: Path, browser: tuple[Page, Knocks]) -> None:
    page, _ = browser
    page.open(result_page(site))
    told = page.evaluate("document.body.innerText")
    assert "2 unexpected values found" in told
    assert "buy" in told
    hidden = "[...document.querySelectorAll('main tr')].filter(r => getComputedStyle(r).display == 'none').length"
    before = page.evaluate(hidden)
    page.evaluate("document.getElementById('failed-only').click()")
    assert page.evaluate(hidden) == before + 2  # those that are met


def test_every_page_links_home(site: Path, browser: tuple[Page, Knocks]) -> None:
    page, _ = browser
    for path in [*sorted((site / "expectations").rglob("*.html")), result_page(site)]:
        page.open(path)
        assert page.evaluate("document.querySelector('header a').href") == (site / "index.html").as_uri()
