"""The media verb: gated content rows, dead letters, resume, placement."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

pytest.importorskip("ray")
pytest.importorskip("av")
pytest.importorskip("PIL")

from hypothesis import given
from hypothesis import strategies as st
from medias import NOW_US, content, letters, only, write
from PIL import Image

from reclake.pipelines.ingest import ingest
from reclake.pipelines.media import on_ray as media_ray
from reclake.pipelines.media import run_media
from reclake.pipelines.media.on_ray import Cluster, place
from reclake.pipelines.media.steps import works_of
from reclake.pipelines.operators.registry import OPERATORS, signatures
from reclake.pipelines.seal import seal as seal_through
from reclake.pipelines.simulate import SimulatedApp, simulate
from reclake.schemas import plan as plans
from reclake.schemas.contract import shipped
from reclake.schemas.errors import PlanError, SourceError, SourceNotFoundError
from reclake.storage.catalog import Catalog
from reclake.storage.table import Table

ALL_OPERATORS = plans.parse(
    {
        "name": "all",
        "steps": [
            {
                "operator": "image_embedding_efficientnet",
                "inputs": {"image": "cover"},
                "outputs": {"image_embedding": "image_embedding"},
            },
            {
                "operator": "text_embedding_minilm",
                "inputs": {"text": "title"},
                "outputs": {"text_embedding": "text_embedding"},
            },
            {"operator": "video_frames", "inputs": {"video": "clip"}, "outputs": {"frames": "video_frames"}},
            {"operator": "log_mel", "inputs": {"audio": "sound"}, "outputs": {"log_mel": "log_mel"}},
        ],
    }
)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> SimulatedApp:
    return simulate(tmp_path_factory.mktemp("app"), seed=5, users=5, items=60, days=1)


@pytest.fixture(scope="module")
def session() -> Iterator[Cluster]:
    """One Ray for all tests of this file that only need some Ray."""
    with media_ray.session(None) as cluster:
        yield cluster


def picture(path: Path, colour: str) -> str:
    Image.new("RGB", (20, 20), colour).save(path)
    return path.name


@pytest.mark.ray
def test_a_simulated_app_becomes_content_and_its_broken_files_dead_letters(
    app: SimulatedApp, session: Cluster, tmp_path: Path
) -> None:
    catalog = Catalog.create(tmp_path / "lake")
    result = run_media(catalog, "short_video", app.manifest, now_us=NOW_US)
    assert (result.read, result.admitted, result.quarantined, result.skipped) == (60, 60, 0, 0)
    assert result.dead_letters == 3
    rows = content(catalog)
    assert rows["item_id"].to_list() == sorted(pl.read_ndjson(app.manifest)["item_id"].to_list())
    assert rows["image_embedding"].null_count() == 1
    assert rows["text_embedding"].null_count() == 0
    assert rows["video_frames"].null_count() == 60 - 40 + 1
    assert rows["video_embedding"].null_count() == 60 - 40 + 1
    assert rows["log_mel"].list.len().drop_nulls().unique().to_list() == [64 * 64]
    assert app.broken is not None
    found = {letter["operator"]: letter for letter in letters(catalog)}
    assert {name: letter["input"] for name, letter in found.items()} == {
        "image_embedding": app.broken.cover,
        "video_frames": app.broken.clip,
        "log_mel": app.broken.sound,
    }
    assert all(letter["reason"] and len(letter["digest"]) == 32 for letter in found.values())
    # An item with a broken file keeps what its other files gave.
    poisoned = rows.filter(pl.col("item_id") == found["image_embedding"]["item_id"]).row(0, named=True)
    assert poisoned["text_embedding"] is not None
    assert poisoned["cover_digest"] == found["image_embedding"]["digest"]


@pytest.mark.ray
def test_ray_and_one_process_say_the_same(
    app: SimulatedApp, session: Cluster, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    first, second = Catalog.create(tmp_path / "ray"), Catalog.create(tmp_path / "here")
    run_media(first, "short_video", app.manifest, now_us=NOW_US)
    request.getfixturevalue("in_process")
    run_media(second, "short_video", app.manifest, now_us=NOW_US)
    assert content(first).equals(content(second))
    assert letters(first) == letters(second)


def test_the_same_run_again_does_nothing(app: SimulatedApp, in_process: None, tmp_path: Path) -> None:
    catalog = Catalog.create(tmp_path / "lake")
    first = run_media(catalog, "short_video", app.manifest, now_us=NOW_US)
    before = content(catalog)
    again = run_media(catalog, "short_video", app.manifest, now_us=NOW_US + 1)
    assert (again.read, again.admitted, again.skipped, again.dead_letters) == (60, 0, 60, 0)
    assert again.version == first.version
    assert content(catalog).equals(before)
    assert len(letters(catalog)) == 3


def test_a_changed_file_is_new_content_and_an_unchanged_one_is_not(in_process: None, tmp_path: Path) -> None:
    catalog = Catalog.create(tmp_path / "lake")
    rows = [{"item_id": n, "title": f"item {n}", "cover": picture(tmp_path / f"{n}.png", "red")} for n in (1, 2)]
    manifest = write(tmp_path / "items.jsonl", rows)
    plan = only("image_embedding", "text_embedding")
    run_media(catalog, plan, manifest, now_us=NOW_US)
    picture(tmp_path / "2.png", "blue")
    second = run_media(catalog, plan, manifest, now_us=NOW_US + 5)
    assert (second.admitted, second.skipped) == (1, 1)
    assert content(catalog).filter(pl.col("item_id") == 2)["cover_digest"].n_unique() == 2


def test_another_version_of_an_operator_is_another_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    before = only("text_embedding").identity(signatures())
    monkeypatch.setattr(OPERATORS["text_embedding"], "version", "2")
    assert only("text_embedding").identity(signatures()) != before
    assert before.startswith("short_video@")


def test_a_missing_file_is_a_dead_letter_until_it_is_there(in_process: None, tmp_path: Path) -> None:
    catalog = Catalog.create(tmp_path / "lake")
    manifest = write(tmp_path / "items.jsonl", [{"item_id": 1, "cover": "1.png"}, {"item_id": 2, "cover": "."}])
    plan = only("image_embedding")
    first = run_media(catalog, plan, manifest, now_us=NOW_US)
    assert (first.admitted, first.dead_letters) == (2, 2)
    assert [(letter["operator"], letter["input"], letter["digest"]) for letter in letters(catalog)] == [
        ("read", "1.png", None),
        ("read", ".", None),
    ]
    assert "No such file" in letters(catalog)[0]["reason"]
    picture(tmp_path / "1.png", "red")
    second = run_media(catalog, plan, manifest, now_us=NOW_US + 5)
    assert (second.admitted, second.skipped, second.dead_letters) == (1, 1, 0)


def test_lines_that_are_no_items_are_quarantined_once_and_counted(in_process: None, tmp_path: Path) -> None:
    catalog = Catalog.create(tmp_path / "lake")
    lines: list[Any] = [
        {"item_id": 1, "title": "fine"},
        '{"item_id": 2, "title"',
        {"item_id": "abc", "title": "no number"},
        {"title": "nobody's"},
        {"item_id": 1, "title": "fine"},
        {"item_id": "7", "title": "a number in a text"},
        {"item_id": 8, "title": "w" * 1001},
        "[1]",
    ]
    manifest = write(tmp_path / "items.jsonl", lines)
    first = run_media(catalog, only("text_embedding"), manifest, now_us=NOW_US)
    assert (first.read, first.admitted, first.quarantined, first.skipped) == (8, 2, 5, 1)
    assert content(catalog)["item_id"].to_list() == [1, 7]
    refused = catalog.table("quarantine").scan().collect().sort("row")
    assert refused["row"].to_list() == [1, 2, 3, 6, 7]
    assert refused["raw"][0] == b'{"item_id": 2, "title"'
    assert refused["reasons"][1][0]["column"] == "item_id"
    assert refused["reasons"][3][0]["check"] == "expect_column_value_lengths_to_be_between"
    again = run_media(catalog, only("text_embedding"), manifest, now_us=NOW_US + 5)
    assert (again.read, again.admitted, again.quarantined, again.skipped) == (8, 0, 0, 8)
    assert catalog.table("quarantine").scan().collect().height == 5


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_manifests_of_every_format_say_the_same(in_process: None, tmp_path: Path, suffix: str) -> None:
    frame = pl.DataFrame(
        {
            "item_id": [2, 1],
            "title": ["two, with a comma", None],
            "available_at": ["2024-02-01T10:00:00Z", None],
            "duration_ms": [1500, None],
            "shelf": ["a", "b"],
        }
    )
    path = tmp_path / f"items{suffix}"
    if suffix == ".parquet":
        frame.with_columns(pl.col("available_at").str.to_datetime(time_zone="UTC")).write_parquet(path)
    else:
        frame.write_csv(path) if suffix == ".csv" else frame.write_ndjson(path)
    catalog = Catalog.create(tmp_path / "lake")
    result = run_media(catalog, only("text_embedding"), path, now_us=NOW_US)
    assert result.ignored_columns == ("shelf",)
    rows = content(catalog).sort("item_id")
    assert rows["title"].to_list() == [None, "two, with a comma"]
    assert rows["duration_ms"].to_list() == [None, 1500]
    # An item without a claim is known from now; a claim is believed as long as nothing is sealed.
    assert rows["known_at"].to_physical().to_list() == [NOW_US, 1_706_781_600_000_000]


SEALED_US = NOW_US - 3_600_000_000


def claims(path: Path) -> Path:
    """Items that claim to have been available just before, at and just after a time that a seal closes."""
    times = ((1, SEALED_US - 1), (2, SEALED_US), (3, SEALED_US + 9))
    return write(path, [{"item_id": n, "title": "x", "available_at": at} for n, at in times])


def seal(catalog: Catalog, folder: Path) -> None:
    row = {"event_id": "e", "user_id": 1, "item_id": 1, "event_type": "click", "event_time": 1, "available_at": 1}
    ingest(catalog, "events", [write(folder / "events.jsonl", [row])])
    seal_through(catalog, through_us=SEALED_US)


def test_a_claim_inside_a_sealed_era_is_not_believed(in_process: None, tmp_path: Path) -> None:
    catalog = Catalog.create(tmp_path / "lake", buckets=2)
    seal(catalog, tmp_path)
    run_media(catalog, only("text_embedding"), claims(tmp_path / "items.jsonl"), now_us=NOW_US)
    found = content(catalog)
    assert found["known_at"].to_physical().to_list() == [NOW_US, SEALED_US, SEALED_US + 9]
    assert found["available_at"].to_physical().to_list() == [SEALED_US - 1, SEALED_US, SEALED_US + 9]


def test_a_claim_that_a_seal_closes_during_the_run_is_not_believed(
    in_process: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = Catalog.create(tmp_path / "lake", buckets=2)
    stage, sealed = Table.stage, []

    def stage_and_seal(table: Table, admitted: Any) -> Any:
        staged = stage(table, admitted)
        if table.name == "content" and not sealed:
            sealed.append(True)
            seal(catalog, tmp_path)
        return staged

    monkeypatch.setattr(Table, "stage", stage_and_seal)
    result = run_media(catalog, only("text_embedding"), claims(tmp_path / "items.jsonl"), now_us=NOW_US)
    assert (result.read, result.admitted) == (3, 3)
    found = content(catalog)
    assert found["known_at"].to_physical().to_list() == [NOW_US, SEALED_US, SEALED_US + 9]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda p: p["steps"][0].update(operator="image_embeding"), "did you mean 'image_embedding'"),
        (lambda p: p["steps"][0].update(inputs={"image": "covr"}), "did you mean 'cover'"),
        (lambda p: p["steps"][0].update(inputs={"picture": "cover"}), "unknown input"),
        (
            lambda p: p["steps"][0].update(outputs={"image_embedding": "image_embeding"}),
            "did you mean 'image_embedding'",
        ),
        (lambda p: p["steps"][0].update(outputs={"image_embedding": "title"}), "another type"),
        (lambda p: p["steps"][0].update(output={}), "did you mean 'outputs'"),
        (lambda p: p["steps"].append(p["steps"][0]), "two steps write one field"),
        (lambda p: p["steps"].reverse(), "earlier step"),
        (lambda p: p.update(steps=[]), "without steps"),
        (lambda p: p.update(name="Short Video"), "not a plan's name"),
        (lambda p: p.pop("name"), "not a plan"),
    ],
)
def test_a_wrong_plan_says_what_is_wrong_and_what_was_meant(change: Callable[[Any], Any], says: str) -> None:
    document = plans.load("short_video").to_json()
    change(document)
    with pytest.raises(PlanError) as caught:
        plans.check(
            plans.parse(document),
            signatures(),
            manifest=["item_id", "title", "cover", "clip", "sound"],
            content=shipped("content").arrow,
        )
    assert says in str(caught.value)


def test_unknown_plans_and_manifests_are_refused(tmp_path: Path) -> None:
    catalog = Catalog.create(tmp_path / "lake")
    with pytest.raises(PlanError, match="unknown plan"):
        run_media(catalog, "long_video", tmp_path / "items.jsonl", now_us=0)
    with pytest.raises(PlanError, match="no such plan file"):
        run_media(catalog, tmp_path / "my.json", tmp_path / "items.jsonl", now_us=0)
    with pytest.raises(SourceNotFoundError):
        run_media(catalog, "short_video", tmp_path / "items.jsonl", now_us=0)
    (tmp_path / "items.xlsx").write_bytes(b"")
    with pytest.raises(SourceError, match="unknown format"):
        run_media(catalog, "short_video", tmp_path / "items.xlsx", now_us=0)


@given(cpus=st.integers(1, 64), gpus=st.integers(0, 8), memory=st.integers(1 << 30, 1 << 40))
def test_all_steps_fit_on_any_cluster_at_once(cpus: int, gpus: int, memory: int) -> None:
    cluster = Cluster(cpus=cpus, gpus=gpus, memory_bytes=memory, nodes=1)
    placed = place(works_of(ALL_OPERATORS), cluster)
    kept = [p for p in placed if p.workers is not None]
    tasks = [p for p in placed if p.workers is None]
    assert sum(p.num_cpus for p in kept) + max(p.num_cpus for p in tasks) <= cpus + 1e-9
    assert sum(p.num_gpus * (p.workers or 0) for p in kept) <= gpus + 1e-9
    assert all((p.num_gpus > 0) == (gpus > 0) for p in kept)
    assert len({p.memory_bytes for p in placed}) == len(placed)  # equal neighbours would be fused
    assert math.fsum(p.memory_bytes for p in placed) <= memory


def run_on(cluster: Cluster, tmp_path: Path) -> tuple[pa.Table, Any]:
    """EfficientNet over four covers: the outputs, and what Ray was asked for."""
    from reclake.storage.blobs import Blobs

    blobs = Blobs(tmp_path / "blobs")
    digests = [blobs.put((tmp_path / picture(tmp_path / f"{c}.png", c)).read_bytes()) for c in ("red", "green", "blue")]
    digests.append(blobs.put(b"no picture"))
    works = works_of(plans.Plan("p", ALL_OPERATORS.steps[:1]))
    table = pa.table({"_place": pa.array(range(4), pa.int64()), "cover": pa.array(digests, pa.string())})
    import ray.data

    with media_ray._quiet(ray.data):
        asked = media_ray._dataset(table, works, blobs.root, cluster)._logical_plan.dag.ray_remote_args
    return media_ray.run(table, works, blobs.root, cluster).sort_by("_place"), asked


@pytest.mark.ray
@pytest.mark.slow
def test_a_gpu_operator_gets_the_gpu_where_there_is_one_and_the_cpu_gives_the_same_shape(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    import ray

    ray.shutdown()
    ray.init(num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)  # a GPU for the scheduler only
    try:
        with media_ray.session(None) as cluster:
            assert cluster.gpus == 1
            with_gpu, asked = run_on(cluster, tmp_path)
        assert ray.is_initialized()  # a session that was there before stays
    finally:
        ray.shutdown()
    assert asked["num_gpus"] == 1
    with media_ray.session(None) as cluster:
        assert cluster.gpus == 0
        without, asked = run_on(cluster, tmp_path)
    assert not asked.get("num_gpus")
    for table in (with_gpu, without):
        assert [None if v is None else len(v) for v in table["image_embedding"].to_pylist()] == [1280, 1280, 1280, None]
        assert table["_failed_0"][3].as_py()[0]["input"] == "image"
