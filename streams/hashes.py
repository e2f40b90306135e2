"""Hashes: one per entity and partition of its golden records, over every byte of them, so that two states can be compared
by a few lines of text, whoever made them, where and when."""

import hashlib
from collections.abc import Iterable
from typing import Any

import orjson

from streams.records import partition_of
from streams.topics import golden_topic

Row = tuple[str, str, Any, bool]
"""(golden id, entity, stored fields with provenance, deleted)."""


class Hashes:
    """Hashes being made of rows that come in the order of their golden ids."""

    def __init__(self) -> None:
        self._digests: dict[str, Any] = {}

    def add(self, row: Row) -> None:
        """Take in the next row; the order of the keys in its fields does not matter."""
        place = f"{row[1]}/{partition_of(row[0].encode(), golden_topic(row[1]).partitions)}"
        content = orjson.dumps(row, option=orjson.OPT_SORT_KEYS)
        digest = self._digests.setdefault(place, hashlib.blake2b(digest_size=16))
        digest.update(len(content).to_bytes(8, "big") + content)

    def told(self) -> dict[str, str]:
        """ "<entity>/<partition>" -> hexadecimal digest."""
        return {place: self._digests[place].hexdigest() for place in sorted(self._digests)}


def partition_hashes(rows: Iterable[Row]) -> dict[str, str]:
    """The hashes of rows in any order."""
    hashes = Hashes()
    for row in sorted(rows, key=lambda row: row[0]):
        hashes.add(row)
    return hashes.told()
