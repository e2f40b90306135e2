"""Bulk work: one bucket of a rebuild from files to files, so that several processes can do it.

`fold` turns a bucket of events into the claims of its records, parted by golden record; `project` turns a bucket of those
into golden records. What the database takes is written as text for its COPY. A directory of results appears at once or not
at all; doing a bucket again replaces it.
"""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from zlib import crc32

import msgspec
import orjson

from hub.identity import root
from hub.model import Model
from streams.bulk_fold import Folded, events_of, fold_bucket, links_of
from streams.bulk_project import Projector
from streams.bulk_spill import Spill
from streams.scope import Scope
from streams.steward import SYSTEM

RECORDS, GOLDEN = "records.copy", "golden.copy"
RECORD_COLUMNS = ("system", "object", "external_id", "entity", "golden_id", "home", "claims")
GOLDEN_COLUMNS = ("golden_id", "entity", "fields", "deleted")
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[tuple[str, Folded]]).decode


@dataclass(frozen=True, slots=True)
class Files:
    """Where a rebuild keeps its files, and in how many buckets."""

    directory: Path
    buckets: int

    @property
    def spill(self) -> Spill:
        """What the topics hold."""
        return Spill(self.directory, self.buckets)

    def folded(self, bucket: int) -> Path:
        """The directory of a bucket's claims."""
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
    merged, named = _merged(files), _named(files)
    parts: dict[int, list[tuple[str, Folded]]] = {}
    events, count = events_of(files.spill, bucket), 0
    with _appearing(files.folded(bucket)) as draft, (draft / RECORDS).open("wb") as copy:
        for record in fold_bucket(model, files.spill, bucket, events):
            lives = root(merged, record.home)
            if named is None or not lives or lives in named:
                copy.write(_line(record.system, record.object, record.external_id, record.entity, lives, record.home,
                                 orjson.dumps(record.claims).decode()))  # fmt: skip
                parts.setdefault(crc32(lives.encode()) % files.buckets, []).append((lives, record))
                count += 1
        for number, rows in parts.items():
            (draft / f"{number}.part").write_bytes(_pack(rows))
    return (0 if events is None else int(events["main"].sum())), count


def project(model: Model, files: Files, bucket: int) -> int:
    """Project the golden records of one bucket; how many."""
    things: dict[str, list[Folded]] = {}
    for part in sorted(files.directory.glob(f"folded/*/{bucket}.part")):
        for lives, record in _unpack(part.read_bytes()):
            if lives:
                things.setdefault(lives, []).append(record)
    projectors = {entity.name: Projector(entity) for entity in model.entities.values()}
    count = 0
    with _appearing(files.projected(bucket)) as draft, (draft / GOLDEN).open("wb") as copy:
        for golden_id, records in things.items():
            entity = next((r.entity for r in records if r.entity), "")
            if entity in projectors:
                *texts, deleted = projectors[entity].golden(golden_id, records)
                copy.write(_line(*texts, "t" if deleted else "f"))
                count += 1
    return count


@contextmanager
def _appearing(final: Path) -> Iterator[Path]:
    """A directory that is written elsewhere and put in its place at the end."""
    draft = final.with_name(f".{final.name}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    yield draft
    shutil.rmtree(final, ignore_errors=True)
    draft.rename(final)


def _line(*texts: str) -> bytes:
    """A row in the text format of PostgreSQL's COPY."""
    return ("\t".join([_escaped(text) for text in texts]) + "\n").encode()


def _escaped(text: str) -> str:
    text = text.replace("\\", "\\\\")
    return text if text.isprintable() else text.replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


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
