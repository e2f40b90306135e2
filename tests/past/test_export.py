"""Export: every value exact, in either format, as it is and as it was; a record's whole history in its documented shape."""

import csv
import json
import os
import stat
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Any

import jsonschema
import pyarrow.parquet
import pytest

from hub.edge import export, history, tables
from hub.entity import Entity, Field
from hub.errors import Reject
from hub.projection import Golden, GoldenField
from hub.rules import Rule
from hub.values import moment
from streams import past
from tests.past.snapshots import Instant, instants, watch
from tests.past.snapshots import live as wrote
from tests.promises.mutations import broken, mutation
from tests.stages.conftest import hub
from tests.stages.histories import live
from tests.stages.support import Stages, empty

__all__ = ["hub"]

KINDS = ("text", "decimal", "integer", "boolean", "timestamp", "date", "tags", "consent", "ref", "json")
ENTITY = Entity("thing", {f"a_{kind}": Field(f"a_{kind}", kind, Rule()) for kind in KINDS})
VALUES: dict[str, Any] = {
    "a_text": 'a "quoted", line\nand another', "a_decimal": "12345678901234567890123456.7890123456", "a_integer": 2**62,
    "a_boolean": False, "a_timestamp": "2026-11-01T12:00:00.000001Z", "a_date": "2026-11-01", "a_tags": ["a;b", "c"],
    "a_consent": {"status": "out", "at": "2026-11-01T12:00:00Z"}, "a_ref": {"system": "crm", "object": "firms", "id": "7"},
    "a_json": {"deep": [1, None]},
}  # fmt: skip


def thing(golden_id: str, **values: Any) -> Golden:
    return Golden(golden_id, "thing", {name: GoldenField(value) for name, value in values.items()})


async def given(*goldens: Golden) -> Any:
    for golden in goldens:
        yield golden


THREE = (thing("full", **VALUES), thing("empty", **dict.fromkeys(VALUES)), thing("unknown"))


async def test_parquet_keeps_every_value_exactly(tmp_path: Path) -> None:
    path = tmp_path / "things.parquet"
    assert await tables.write(path, "parquet", ENTITY, given(*THREE)) == 3
    full, empty_, unknown = pyarrow.parquet.read_table(path).to_pylist()
    assert full["a_decimal"] == Decimal(VALUES["a_decimal"])
    assert full["a_timestamp"] == datetime(2026, 11, 1, 12, 0, 0, 1, tzinfo=UTC)
    assert (full["a_date"], full["a_boolean"], full["a_integer"]) == (date(2026, 11, 1), False, 2**62)
    assert (full["a_tags"], full["a_ref"], full["a_text"]) == (VALUES["a_tags"], VALUES["a_ref"], VALUES["a_text"])
    assert full["a_consent"] == {"status": "out", "at": datetime(2026, 11, 1, 12, tzinfo=UTC)}
    assert json.loads(full["a_json"]) == VALUES["a_json"]
    assert all(empty_[name] is None for name in VALUES)
    assert (full["_unknown"], empty_["_unknown"], unknown["_unknown"]) == ([], [], sorted(VALUES))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["things.parquet"]


async def test_csv_keeps_every_value_exactly(tmp_path: Path) -> None:
    path = tmp_path / "things.csv"
    await tables.write(path, "csv", ENTITY, given(*THREE))
    full, empty_, unknown = csv.DictReader(path.open(newline=""))
    assert (full["a_decimal"], full["a_integer"], full["a_boolean"]) == (VALUES["a_decimal"], str(2**62), "false")
    assert (full["a_text"], json.loads(full["a_tags"])) == (VALUES["a_text"], VALUES["a_tags"])
    assert (full["a_consent.status"], full["a_consent.at"]) == ("out", "2026-11-01 12:00:00.000000Z")
    assert [full[f"a_ref.{part}"] for part in ("system", "object", "id")] == ["crm", "firms", "7"]
    assert (empty_["a_text"], json.loads(empty_["_unknown"])) == ("", [])
    assert json.loads(unknown["_unknown"]) == sorted(VALUES)


@pytest.mark.parametrize("value", ["1.00000000001", "1" + "0" * 28, str(10**27) + ".5"])
async def test_a_number_that_its_column_cannot_hold_is_refused_and_leaves_no_file(tmp_path: Path, value: str) -> None:
    path = tmp_path / "things.parquet"
    if value.endswith(".5"):
        assert await tables.write(path, "parquet", ENTITY, given(thing("odd", a_decimal=value))) == 1
        return
    with pytest.raises(Reject, match="a_decimal of odd"):
        await tables.write(path, "parquet", ENTITY, given(THREE[0], thing("odd", a_decimal=value)))
    assert os.listdir(tmp_path) == []


async def test_rows_go_out_in_groups(tmp_path: Path) -> None:
    count = 2 * tables.ROWS + 1
    path = tmp_path / "things.parquet"
    await tables.write(path, "parquet", ENTITY, given(*(thing(f"thing_{n}", a_integer=n) for n in range(count))))
    written = pyarrow.parquet.ParquetFile(path)
    assert (written.metadata.num_rows, written.metadata.num_row_groups) == (count, 3)


async def check_as_it_was(hub: Stages, directory: Path, seed: int) -> int:
    """Tables of a random history as it was at some instants, and as it is, hold what live wrote."""
    one = await watch(await empty(hub))
    await live(one, seed, 40)
    rows = 0
    for drawn in await instants(one, Random(seed), 3):
        rows += await assert_table(one, directory / "then.parquet", drawn.at)
    path = directory / "now.parquet"
    await export.export(one.context, "contact", "parquet", path, None, True)
    ids = {row["golden_id"] for row in pyarrow.parquet.read_table(path).to_pylist()}
    assert ids == {id_ for id_, golden in (await one.goldens()).items() if golden.entity == "contact"}
    return rows


async def assert_table(hub: Stages, path: Path, at: int) -> int:
    await export.export(hub.context, "contact", "parquet", path, moment(at), True)
    found = {row["golden_id"]: row for row in pyarrow.parquet.read_table(path).to_pylist()}
    for (golden_id,) in await hub.context.pool.fetch("select distinct golden_id from seen.golden"):
        then = await wrote(hub, Instant(golden_id, at))
        if not golden_id.startswith("contact"):
            continue
        assert (then is not None) == (golden_id in found), f"{golden_id} at {at}"
        if then is not None:
            held = {name: row[0] for name, row in then["fields"].items() if name in ("name", "city", "tags", "phone")}
            assert {name: found[golden_id][name] for name in held} == held, f"{golden_id} at {at}"
    return len(found)


async def test_a_table_is_as_live_had_it(hub: Stages, tmp_path: Path, figures: Callable[..., None]) -> None:
    rows = [await check_as_it_was(hub, tmp_path, seed) for seed in range(2)]
    assert sum(rows) > 3, "hardly anything was there"
    figures("P7", exported=sum(rows))


async def test_the_check_of_tables_fails_where_the_instant_does_not_count(hub: Stages, tmp_path: Path) -> None:
    with mutation(past.Past, "upto", lambda self, at: len(self.steps)), broken("an export as it is"):
        for seed in range(4):
            await check_as_it_was(hub, tmp_path, seed)


async def test_a_records_history_is_one_document_of_its_shape(hub: Stages) -> None:
    schema = json.loads(files("schemas").joinpath("record_history.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    for seed in range(2):
        one = await empty(hub)
        await live(one, seed, 40)
        for golden_id, golden in (await one.goldens()).items():
            document = json.loads(json.dumps(await history.document(one.context, golden.entity, golden_id)))
            jsonschema.validate(document, schema)
            assert document["golden"][document["golden_id"]]["fields"].keys() == golden.fields.keys()
            thing_ = await past.load(one.context, golden_id)
            assert [step["id"] for step in document["steps"]] == [step.id for step in thing_.steps]
            assert told_by_changes(document, golden_id) == golden.values(), f"seed {seed}: {golden_id}"


def told_by_changes(document: dict[str, Any], golden_id: str) -> dict[str, Any]:
    """The values that the changes of all steps add up to."""
    values: dict[str, Any] = {}
    for change in (c for step in document["steps"] for c in step["changes"] if c["golden_id"] == golden_id):
        values = {} if change["what"] in ("begins", "ends") else values
        for name, sides in change["fields"].items():
            values.pop(name, None)
            values |= {name: sides["after"]} if "after" in sides else {}
    return values


async def test_what_cannot_be_exported_is_refused(hub: Stages, tmp_path: Path) -> None:
    for entity, format_, at in (("none", "csv", None), ("contact", "xlsx", None), ("contact", "csv", "yesterday")):
        with pytest.raises(Reject):
            await export.export(hub.context, entity, format_, tmp_path / "file", at, False)
