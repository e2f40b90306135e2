"""Spill: what the topics hold, in columns, in buckets by record, so that each bucket can be folded by itself.

A chunk is what one read of one partition gave. Its rows are parted by the hash of the record they speak of and held in
memory, if there is one and all chunks fit; else each is written to a directory that appears at once or not at all. Keeping a
chunk again replaces it.
"""

import shutil
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import polars as pl

RECORD = ("system", "object", "external_id")
EVENT: dict[str, Any] = {
    "event_id": pl.String, "system": pl.String, "object": pl.String, "external_id": pl.String, "op": pl.String,
    "version": pl.Int64, "at": pl.Int64, "observed_at": pl.Int64, "payload": pl.Binary, "merged": pl.List(pl.String),
}  # fmt: skip
IDENTITY: dict[str, Any] = {
    "kind": pl.String, "golden_id": pl.String, "entity": pl.String, "system": pl.String, "object": pl.String,
    "external_id": pl.String, "into": pl.String,
}  # fmt: skip
DECISION: dict[str, Any] = {
    "event_id": pl.String, "system": pl.String, "object": pl.String, "external_id": pl.String,
    "unsaid": pl.List(pl.String),
}  # fmt: skip
MERGES, CLAIMS = "merges", "claims"
Parts = dict[int, pl.DataFrame]
"""Bucket -> rows."""


class Memory:
    """What is held here and not on disk, until chunks that are read take more than so many bytes together."""

    def __init__(self, most: int) -> None:
        self._most, self._size = most, 0
        self._chunks: dict[str, Parts] = {}
        self._lock = Lock()
        self.full = False
        """Whether it was too much, and all chunks are on disk."""

    def take(self, name: str, parts: Parts, write: Callable[[str, Parts], None]) -> bool:
        """Hold a chunk; False if it is full. What is too much is written, with all that is held."""
        with self._lock:
            if self.full:
                return False
            self._chunks[name] = parts
            self._size += sum(int(part.estimated_size()) for part in parts.values())
            if self._size > self._most:
                for each in self._chunks.items():
                    write(*each)
                self._chunks.clear()
                self.full = True
            return True

    def settle(self) -> None:
        """Nothing more is read: what is held stays, with what is made of it."""
        self._most = sys.maxsize

    def bucket(self, kind: str, number: int) -> list[pl.DataFrame]:
        """The rows that are held of one kind in a bucket, in the order of the chunks' names."""
        return [parts[number] for parts in self._of(kind) if number in parts]

    def every(self, kind: str) -> list[pl.DataFrame]:
        """All rows that are held of one kind."""
        return [rows for parts in self._of(kind) for rows in parts.values()]

    def _of(self, kind: str) -> list[Parts]:
        return [self._chunks[name] for name in sorted(self._chunks) if name.startswith(f"{kind}/")]


class Spill:
    """What one rebuild has read. `buckets` is how many parts there are; it must not change while there are files."""

    def __init__(self, directory: Path, buckets: int, memory: Memory | None = None) -> None:
        self.directory, self.buckets, self._memory = directory, buckets, memory

    def events(self, place: str, rows: pl.DataFrame) -> None:
        """Keep a chunk of change events."""
        rows = rows.with_columns(order=pl.coalesce("version", "at"), main=pl.lit(value=True)).drop("version")
        self._keep(f"events/{place}", self._by_record(pl.concat([rows.drop("merged"), _ended(rows)])))

    def links(self, place: str, rows: pl.DataFrame) -> None:
        """Keep a chunk of decisions about identity: links and moves by record, merges and unmerges all together."""
        of_record = pl.col("kind").is_in(["link", "move"])
        told = rows.filter(of_record).select(*RECORD, "golden_id", "entity", "kind")
        self._keep(f"links/{place}", self._by_record(told))
        others = rows.filter(~of_record).select("kind", "golden_id", "into")
        self._keep(f"{MERGES}/{place}", {0: others})

    def unsaid(self, place: str, rows: pl.DataFrame) -> None:
        """Keep a chunk of which fields of which events were not said."""
        self._keep(f"unsaid/{place}", self._by_record(rows))

    def claims(self, bucket: int, rows: pl.DataFrame) -> None:
        """Keep the claims of a bucket's records by their golden records."""
        self._keep(f"{CLAIMS}/{bucket}", parted(rows, "golden_id", self.buckets))

    def merged(self) -> dict[str, str | None]:
        """Golden id -> the one it was merged into, or None where it was given back."""
        rows = self.bucket(MERGES, 0)
        into = {} if rows is None else rows.select("golden_id", "kind", "into").iter_rows()
        return {golden_id: target if kind == "merge" else None for golden_id, kind, target in into}

    def bucket(self, kind: str, number: int) -> pl.DataFrame | None:
        """All rows of one kind (events, links, unsaid, claims) in a bucket, in the order of partitions and offsets."""
        if self._memory and not self._memory.full:
            parts = self._memory.bucket(kind, number)
        else:
            chunks = _in_order(path for path in (self.directory / kind).glob("[!.]*") if path.is_dir())
            parts = [pl.read_ipc(file) for chunk in chunks if (file := chunk / f"{number}.arrow").exists()]
        return pl.concat(parts, how="diagonal" if kind == CLAIMS else "vertical") if parts else None

    def seen(self, ids: Collection[str]) -> set[str]:
        """Which of these are ids of events that are kept."""
        wanted, found = pl.col("event_id").is_in(list(set(ids))), set[str]()
        for rows in self._memory.every("events") if self._memory else ():
            found.update(rows.filter(wanted)["event_id"])
        files = list(self.directory.glob("events/[!.]*/*.arrow"))
        return found | set(pl.scan_ipc(files).filter(wanted).select("event_id").collect()["event_id"] if files else ())

    def clear(self) -> None:
        """Remove every file."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _keep(self, name: str, parts: Parts) -> None:
        if not (self._memory and self._memory.take(name, parts, self._write)):
            self._write(name, parts)

    def _write(self, name: str, parts: Parts) -> None:
        # Claims repeat themselves; to pack events would cost as much as decoding them did.
        compression: Literal["lz4", "uncompressed"] = "lz4" if name.startswith(CLAIMS) else "uncompressed"
        with appearing(self.directory / name) as draft:
            for number, part in parts.items():
                part.write_ipc(draft / f"{number}.arrow", compression=compression)

    def _by_record(self, rows: pl.DataFrame) -> Parts:
        return parted(rows, "external_id", self.buckets)


@contextmanager
def appearing(final: Path) -> Iterator[Path]:
    """A directory that is written elsewhere and put in its place at the end."""
    draft = final.with_name(f".{final.name}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    yield draft
    shutil.rmtree(final, ignore_errors=True)
    draft.rename(final)


def place(topic: str, partition: int, start: int) -> str:
    """The name of a chunk; names are in the order of topic, partition and offset."""
    return f"{topic}@{partition:06}@{start:020}"


def parted(rows: pl.DataFrame, column: str, buckets: int) -> Parts:
    """Bucket -> the rows whose content of this column hashes into it."""
    number = (pl.col(column).hash(seed=0) % buckets).alias("_bucket")
    parts = rows.with_columns(number).partition_by("_bucket", as_dict=True, include_key=False)
    return {int(key[0]): part for key, part in parts.items()}


def _in_order(chunks: Iterable[Path]) -> Sequence[Path]:
    return sorted(chunks, key=lambda path: path.name)


def _ended(rows: pl.DataFrame) -> pl.DataFrame:
    """The other records that ended in vendors' merges: a delete of each."""
    merges = rows.filter(pl.col("op") == "merge").drop("external_id", "op", "payload", "main")
    ends = merges.explode("merged").rename({"merged": "external_id"}).drop_nulls("external_id")
    given = {"op": pl.lit("delete"), "payload": pl.lit(b"{}"), "main": pl.lit(value=False)}
    return ends.with_columns(**given).select(*(name for name in rows.columns if name != "merged"))
