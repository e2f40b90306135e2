"""Bulk fold: the claims of all records of one bucket, from its events and links.

Events of one object are put in order by columns, each record's together and newest first; see streams.bulk_claims for
what is found in them. Portions of an object's records are folded one after another, so that what is read of payloads does
not pile up.
"""

from collections.abc import Iterator

import orjson
import polars as pl

from hub.mapping import ObjectMap
from hub.model import Model
from streams import steward
from streams.bulk_claims import claims_by_record
from streams.bulk_hear import by_record, pins
from streams.bulk_spill import RECORD, Spill

PORTION = 40_000  # events
CLOCK = ("order", "observed_at", "event_id")


def events_of(spill: Spill, bucket: int) -> pl.DataFrame | None:
    """Every event of the bucket's records once, in the order of the log: the first delivery counts. An event's id tells it
    from those of all other objects."""
    rows = spill.bucket("events", bucket)
    return None if rows is None else rows.filter(pl.struct("external_id", "event_id").is_first_distinct())


def links_of(spill: Spill, bucket: int) -> pl.DataFrame | None:
    """Record -> golden id and entity: the first link of each record of the bucket, or where it was moved last. All moves of
    a record stand in one partition."""
    rows = spill.bucket("links", bucket)
    if rows is None:
        return None
    first = rows.filter(pl.col("kind") == "link").unique([*RECORD], keep="first", maintain_order=True)
    moves = rows.filter(pl.col("kind") == "move").unique([*RECORD], keep="last", maintain_order=True)
    joined = first.join(moves.select(*RECORD, moved="golden_id"), on=RECORD, how="left", maintain_order="left")
    return joined.select(*RECORD, pl.coalesce("moved", "golden_id").alias("golden_id"), "entity")


def fold_bucket(model: Model, spill: Spill, bucket: int, events: pl.DataFrame | None) -> pl.DataFrame:
    """The bucket's records, each once, from its events: RECORD, entity and home (empty where it was never linked), and what
    `claims_by_record` tells of each; also those that were linked and have not said anything."""
    links = links_of(spill, bucket)
    parts = [] if events is None else list(_objects(model, _with_unsaid(spill, bucket, events)))
    folded = pl.concat(parts, how="diagonal") if parts else _silent(_NOBODY)
    if links is None:
        return folded
    told = folded.join(links.select(*RECORD, _home="golden_id"), on=RECORD, how="left", maintain_order="left")
    told = told.with_columns(home=pl.coalesce("_home", "home")).drop("_home")
    return pl.concat([told, _silent(links.join(folded, on=RECORD, how="anti"))], how="diagonal")


_NOBODY = pl.DataFrame(schema={name: pl.String for name in (*RECORD, "entity", "golden_id")})


def _silent(links: pl.DataFrame) -> pl.DataFrame:
    """Records that have said nothing."""
    nothing = {"claims": pl.lit("{}"), "gone": pl.lit(value=False)}
    return links.select(*RECORD, "entity", home="golden_id", **nothing)


def _objects(model: Model, events: pl.DataFrame) -> Iterator[pl.DataFrame]:
    for (system, object_), rows in events.partition_by("system", "object", as_dict=True).items():
        mapping = None if system == steward.SYSTEM else model.mapping(system, object_)
        if mapping or system == steward.SYSTEM:
            for some, sizes in _portions(_newest_first(rows)):
                yield _claiming(mapping, some, sizes) if mapping else _pinned(some, sizes)


def _claiming(mapping: ObjectMap, rows: pl.DataFrame, sizes: list[int]) -> pl.DataFrame:
    entity, nowhere = pl.lit(mapping.entity.name).alias("entity"), pl.lit("").alias("home")
    records = rows[_starts(sizes)].select(*RECORD, entity, nowhere)
    return records.hstack(claims_by_record(mapping, rows, sizes))


def _pinned(rows: pl.DataFrame, sizes: list[int]) -> pl.DataFrame:
    """What stewards pinned on golden records; nothing of those on which nothing ever was."""
    claims = [orjson.dumps(pins(each)).decode() for each in by_record(rows, sizes)]
    records = rows[_starts(sizes)].select(*RECORD, entity=pl.lit(""), home="external_id")
    return records.with_columns(pl.Series("claims", claims), gone=pl.lit(value=False)).filter(pl.col("claims") != "{}")


def _newest_first(rows: pl.DataFrame) -> pl.DataFrame:
    """The events of one object with each record's together. Sorting texts is dear, so the texts' hashes are sorted where
    they tell all records and events apart."""
    hashed = rows.with_columns(_id=pl.col("external_id").hash())
    ordered = hashed.sort("_id", "order", "observed_at", descending=[False, True, True])
    same = pl.col("_id") == pl.col("_id").shift(1)
    other = pl.col("external_id") != pl.col("external_id").shift(1)
    tied = (pl.col("order") == pl.col("order").shift(1)) & (pl.col("observed_at") == pl.col("observed_at").shift(1))
    if ordered.select((same & (other | tied)).any()).item():
        ordered = rows.sort("external_id", *CLOCK, descending=[False, True, True, True])
    return ordered


def _portions(rows: pl.DataFrame) -> Iterator[tuple[pl.DataFrame, list[int]]]:
    """The rows in portions that part no record, with how many belong to each record."""
    sizes = rows.select(pl.col("external_id").rle().struct.field("len"))["len"].to_list()
    start = end = first = 0
    for n, size in enumerate(sizes, 1):
        end += size
        if end - start >= PORTION or n == len(sizes):
            yield rows[start:end], sizes[first:n]
            start, first = end, n


def _starts(sizes: list[int]) -> list[int]:
    starts, at = [], 0
    for size in sizes:
        starts.append(at)
        at += size
    return starts


def _with_unsaid(spill: Spill, bucket: int, events: pl.DataFrame) -> pl.DataFrame:
    """The events with what they were found not to say. Every event counts that names itself so in its record's bucket."""
    rows = spill.bucket("unsaid", bucket)
    if rows is None:
        return events.with_columns(unsaid=pl.lit(None, dtype=pl.List(pl.String)))
    last = rows.unique(["event_id", "external_id"], keep="last", maintain_order=True)
    return events.join(last.select("event_id", "external_id", "unsaid"), on=["event_id", "external_id"], how="left")
