"""Bulk work: one bucket of a rebuild from what is kept to what is kept (files, so that several processes can do it, or memory).

`fold` turns a bucket of events into the claims of its records, kept by golden record; `project` turns a bucket of those
into golden records. What the database takes is written as text for its COPY. A directory of results appears at once or not
at all; doing a bucket again replaces it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import msgspec
import polars as pl

from hub.identity import root
from hub.model import Model
from streams.bulk_fold import events_of, fold_bucket, links_of
from streams.bulk_project import GOLDEN as GOLDEN_COLUMNS
from streams.bulk_project import Projector
from streams.bulk_spill import CLAIMS, Memory, Spill, appearing
from streams.bulk_text import write_copy
from streams.scope import Scope
from streams.steward import SYSTEM

RECORDS, GOLDEN = "records.copy", "golden.copy"
RECORD_COLUMNS = ("system", "object", "external_id", "entity", "golden_id", "home", "claims")
_pack = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class Files:
    """Where a rebuild keeps its files, and in how many buckets; and what it holds in memory instead, if anything."""

    directory: Path
    buckets: int
    memory: Memory | None = None

    @property
    def spill(self) -> Spill:
        """What the topics hold."""
        return Spill(self.directory, self.buckets, self.memory)

    def folded(self, bucket: int) -> Path:
        """The directory of a bucket's records."""
        return self.directory / "folded" / str(bucket)

    def projected(self, bucket: int) -> Path:
        """The directory of a bucket's golden records."""
        return self.directory / "projected" / str(bucket)

    @property
    def named(self) -> Path:
        """The golden ids that a partial rebuild is about."""
        return self.directory / "named"


def name(files: Files, scope: Scope, bucket: int) -> tuple[set[str], set[str]]:
    """Golden ids that the bucket's events name, and those of the scope's entity by the bucket's links."""
    spill, merged = files.spill, _merged(files)
    links, events = links_of(spill, bucket), events_of(spill, bucket)
    homes = {} if links is None else {tuple(row[:3]): row[3] for row in links.iter_rows()}
    of = set() if links is None else {root(merged, r[3]) for r in links.iter_rows() if scope.entity in ("", r[4])}
    if events is None or not scope.by_event:
        return of, of
    chosen = events.filter(scope.chooses()).select("system", "object", "external_id").unique().iter_rows()
    named = (id_[2] if id_[0] == SYSTEM else homes.get(id_, "") for id_ in chosen)
    return {root(merged, home) for home in named if home}, of


def fold(model: Model, files: Files, bucket: int) -> tuple[int, int]:
    """Fold one bucket; how many distinct events it holds, and how many records."""
    named, events = _named(files), events_of(files.spill, bucket)
    records = _living(files, fold_bucket(model, files.spill, bucket, events))
    if named is not None:
        records = records.filter((pl.col("golden_id") == "") | pl.col("golden_id").is_in(named))
    with appearing(files.folded(bucket)) as draft:
        write_copy(records.select(RECORD_COLUMNS), draft / RECORDS)
    files.spill.claims(bucket, records.filter(pl.col("golden_id") != ""))
    return (0 if events is None else int(events["main"].sum())), records.height


def _living(files: Files, records: pl.DataFrame) -> pl.DataFrame:
    """The records with the golden id under which their thing lives."""
    merged, homes = _merged(files), records["home"].unique().to_list()
    lives = {home: root(merged, home) for home in homes if home in merged}
    return records.with_columns(golden_id=pl.col("home").replace(lives) if lives else pl.col("home"))


def project(model: Model, files: Files, bucket: int) -> int:
    """Project the golden records of one bucket; how many."""
    records, made = files.spill.bucket(CLAIMS, bucket), [_NOTHING]
    if records is not None:
        made += [
            Projector(model.entities[name]).golden(some) for name, some in _by_entity(records) if name in model.entities
        ]
    golden = pl.concat(made)
    with appearing(files.projected(bucket)) as draft:
        write_copy(golden, draft / GOLDEN)
    return golden.height


_NOTHING = pl.DataFrame(schema=dict.fromkeys(GOLDEN_COLUMNS, pl.String))


def _by_entity(records: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """The things of each entity: that of the first of a thing's records that has any."""
    entity = pl.col("entity").filter(pl.col("entity") != "").first().over("golden_id").fill_null("")
    parts = records.with_columns(_entity=entity).partition_by("_entity", as_dict=True, include_key=False)
    return ((str(key[0]), part) for key, part in parts.items())


@lru_cache(maxsize=1)
def _merged(files: Files) -> dict[str, str | None]:
    return files.spill.merged()


def _named(files: Files) -> frozenset[str] | None:
    if not files.named.exists():
        return None
    return frozenset(msgspec.msgpack.decode(files.named.read_bytes(), type=list[str]))


def write_named(files: Files, golden_ids: Iterable[str]) -> None:
    """Keep the golden ids that a partial rebuild is about."""
    files.directory.mkdir(parents=True, exist_ok=True)
    files.named.write_bytes(_pack(sorted(golden_ids)))
