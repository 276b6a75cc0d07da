"""Takes the pictures of this folder from real reports in a headless Chromium: python docs/images/take.py

Needs what `make setup` installs, and Debian's chromium. The pictures are of two simulated weeks, whose JSON lines are
malformed every third day. With the folders of demos, of the simulator and of KuaiRand, their reports are taken too.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "tests" / "shared"))

from browser import Page, browsing  # noqa: E402

import reclake  # noqa: E402
from reclake.pipelines.simulate import simulate  # noqa: E402

DAYS, SCALE, SEED, COLOURS, WIDTH = 14, 0.4, 7, 200, 1100


def quality(folder: Path) -> Path:
    """A lake of two weeks, and its quality report."""
    app = simulate(folder / "source", seed=SEED, scale=SCALE, days=DAYS, media=False)
    lake = reclake.Lake.create(folder / "short_video", buckets=8)
    lake.ingest("events", app.paths)
    return lake.report_quality(folder / "quality.html").path


def data_docs(folder: Path) -> Path:
    """A result of Great Expectations on the first day, as an offline page."""
    import great_expectations as gx

    from reclake.quality.gx import offline_docs

    e = gx.expectations
    context = gx.get_context(mode="file", project_root_dir=folder)
    context.update_data_docs_site("local_site", offline_docs(folder / "site"))
    batches = context.data_sources.add_polars("lake").add_dataframe_asset("events")
    checks = [
        e.ExpectColumnValuesToBeBetween(column="watch_ms", min_value=0, max_value=100_000, mostly=0.99),
        e.ExpectColumnValuesToBeInSet(column="event_type", value_set=["exposure", "click", "long_view", "like"]),
        e.ExpectColumnValuesToNotBeNull(column="user_id"),
    ]
    suite = context.suites.add(gx.ExpectationSuite("short_video", expectations=checks))
    whole = batches.add_batch_definition_whole_dataframe("all")
    validation = context.validation_definitions.add(gx.ValidationDefinition(name="day 1", data=whole, suite=suite))
    docs = [gx.checkpoint.UpdateDataDocsAction(name="docs")]
    checkpoint = gx.Checkpoint(name="day 1", validation_definitions=[validation], actions=docs)
    lake = reclake.Lake.open(folder / "short_video")
    context.checkpoints.add(checkpoint).run(batch_parameters={"dataframe": lake.scan("events")})
    return next((folder / "site" / "validations").rglob("*.html"))


def take(page: Page, html: Path, out: Path, *, first: str, last: str, height: int, dark: bool = False) -> None:
    """From the top of one section (or the page) to the end of another, at most `height`, in few colours."""
    page.size(WIDTH, dark=dark)
    page.open(html)
    page.evaluate("window.scrollTo({top: 0, behavior: 'instant'})")
    edges = f"""[document.querySelector("{first}").getBoundingClientRect().top - 14,
                 document.querySelector("{last}").getBoundingClientRect().bottom + 14]"""
    top, bottom = page.evaluate(edges)
    clip = {"x": 0, "y": max(top, 0), "width": WIDTH, "height": min(bottom - max(top, 0), height), "scale": 1}
    picture = Image.open(io.BytesIO(page.picture(clip))).convert("RGB")
    # The colours of states are few pixels: a palette by frequency would lose them.
    small = picture.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    small.save(out, optimize=True)
    print(f"{out.relative_to(HERE.parent.parent)}   {out.stat().st_size / 1000:.0f} kB")


def main() -> None:
    """Take them all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--demo", type=Path, help="the folder of a demo, whose report is taken too")
    parser.add_argument("--kuairand", type=Path, help="the folder of a demo on KuaiRand, of whose report the model is")
    demos = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, browsing() as (page, _):
        html = quality(Path(folder))
        take(page, html, HERE / "quality.png", first="body", last="#quarantine", height=1500)
        take(page, html, HERE / "quality-rows.png", first="#rows", last="#rows", height=760)
        take(page, html, HERE / "quality-checks.png", first="#checks", last="#checks", height=760, dark=True)
        take(page, html, HERE / "quality-commits.png", first="#verdicts", last="#verdicts", height=520)
        take(page, data_docs(Path(folder)), HERE / "data-docs.png", first="body", last="main", height=900)
        if demos.demo is not None:
            take(page, demos.demo / "report.html", HERE / "report.png", first="body", last="#quality", height=1300)
        if demos.kuairand is not None:
            html = demos.kuairand / "report.html"
            take(page, html, HERE / "report-model.png", first="#model", last="#model", height=1000)


if __name__ == "__main__":
    main()
