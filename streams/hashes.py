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


def partition_hashes(rows: Iterable[Row]) -> dict[str, str]:
    """ "<entity>/<partition>" -> hexadecimal digest; the rows' order and that of the keys in them do not matter."""
    digests: dict[str, Any] = {}
    for golden_id, entity, fields, deleted in sorted(rows, key=lambda row: row[0]):
        place = f"{entity}/{partition_of(golden_id.encode(), golden_topic(entity).partitions)}"
        content = orjson.dumps([golden_id, entity, fields, deleted], option=orjson.OPT_SORT_KEYS)
        digest = digests.setdefault(place, hashlib.blake2b(digest_size=16))
        digest.update(len(content).to_bytes(8, "big") + content)
    return {place: digests[place].hexdigest() for place in sorted(digests)}
