"""A lake's places: contracts and recipes by version, pins that outlive compaction and vacuum."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from reclake.pipelines.lake import Lake
from reclake.schemas import contract as contracts
from reclake.schemas.errors import ContractError, LakeExistsError, LakeNotFoundError, PinError
from reclake.storage.catalog import Catalog

AVSC = contracts.shipped("events").avro_schema


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog.create(tmp_path / "lake", buckets=2)


def with_field(name: str, **more: object) -> contracts.Contract:
    fields = [*AVSC["fields"], {"name": name, "type": ["null", "long"], "field-id": 99} | more]
    return contracts.parse("events", AVSC | {"fields": fields}, suite=contracts.shipped("events").expectations)


def test_a_lake_is_created_once_and_keeps_its_buckets(catalog: Catalog) -> None:
    assert Catalog.create(catalog.root, buckets=2) == Catalog.open(catalog.root) == catalog
    with pytest.raises(LakeExistsError, match="another number of buckets"):
        Catalog.create(catalog.root, buckets=3)
    assert {c.name for c in catalog.contracts()} == {"content", "events", "kuairand"}
    assert {r.name for r in catalog.recipes()} >= {"ctr"}


@pytest.mark.parametrize("where", ["nowhere", "."])
def test_a_folder_without_a_lake_is_refused(tmp_path: Path, where: str) -> None:
    with pytest.raises(LakeNotFoundError, match="no lake here"):
        Catalog.open(tmp_path / where)


def test_a_contract_that_old_rows_can_be_read_by_is_the_next_version(catalog: Catalog) -> None:
    assert catalog.add_contract(contracts.shipped("events")).version == 1
    assert catalog.add_contract(with_field("tip", default=None)).version == 2
    assert catalog.contract("events").version == 2
    assert "tip" not in [f.name for f in catalog.contract("events", 1).fields]


def test_a_contract_that_old_rows_cannot_be_read_by_is_refused(catalog: Catalog) -> None:
    with pytest.raises(ContractError, match="old rows"):
        catalog.add_contract(with_field("tip", type="long"))
    assert catalog.contract("events").version == 1


def ingest(lake: Lake, folder: Path, name: str, users: list[int]) -> None:
    row = {"item_id": 1, "event_type": "view", "event_time": "2024-03-01", "available_at": "2024-03-01"}
    lines = [json.dumps(row | {"event_id": f"{name}{n}", "user_id": user}) for n, user in enumerate(users)]
    (folder / f"{name}.jsonl").write_text("\n".join(lines))
    lake.ingest("events", folder / f"{name}.jsonl")


def test_a_pins_name_is_not_given_to_other_versions(catalog: Catalog, tmp_path: Path) -> None:
    lake = Lake(catalog)
    ingest(lake, tmp_path, "a", [1])
    assert lake.pin("x") == lake.pin("x")
    ingest(lake, tmp_path, "b", [2])
    with pytest.raises(PinError, match="taken"):
        lake.pin("x")
    with pytest.raises(PinError, match="unknown pin"):
        catalog.pin("y")
    with pytest.raises(PinError, match="not a pin name"):
        lake.pin("../x")


def test_a_contract_is_what_its_json_says(catalog: Catalog) -> None:
    for contract in catalog.contracts():
        assert contracts.Contract.from_json(contract.to_json()) == contract
        assert replace(contract, version=7).fingerprint == contract.fingerprint


@pytest.mark.parametrize("name", ["", "a b", "x*y", "../x", ".x", "-x"])
def test_a_pin_has_a_name_that_every_file_system_and_shell_takes(catalog: Catalog, name: str) -> None:
    with pytest.raises(PinError, match="not a pin name"):
        catalog.create_pin(name)


@pytest.mark.parametrize("about", [[], {"format": 1}, {"format": 2, "buckets": 2}])
def test_a_lake_that_says_nothing_sensible_of_itself_is_refused(catalog: Catalog, about: object) -> None:
    (catalog.root / "lake.json").write_text(json.dumps(about))
    with pytest.raises(LakeNotFoundError, match="another format"):
        Catalog.open(catalog.root)


def test_a_name_may_be_an_enum_in_one_contract_and_text_in_another(catalog: Catalog) -> None:
    record = contracts.shipped("events").avro_schema
    record["fields"][3]["type"] = {"type": "enum", "name": "types", "symbols": ["view", "click"]}
    added = catalog.add_contract(contracts.parse("other", record))
    assert added.field("event_type").column == "event_type"
