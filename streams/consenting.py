"""Consenting: a second look at the consent just before a call. A step prepares many writes at once, and whoever opts out
while it is under way is not written to any more."""

from collections.abc import Sequence

import orjson

from hub import projection
from hub.diff import consented, only_consent
from hub.failure import Failure
from hub.receipt import Deferred
from hub.write import Write
from streams.log_postgres import Connection

WITHHELD = Deferred("the opt-in was lifted meanwhile", 0.0, failure=Failure.conflict)
"""Prepared anew, it is held for consent."""


async def withheld(conn: Connection, writes: Sequence[Write]) -> set[str]:
    """Keys of the writes that may not be made any more."""
    asking = [write for write in writes if _needs_opt_in(write)]
    if not asking:
        return set()
    rows = await conn.fetch(
        "select golden_id, entity, fields, deleted from hub.golden where golden_id = any($1) and merged_into is null",
        [write.golden_id for write in asking],
    )
    goldens = (projection.load(r["golden_id"], r["entity"], orjson.loads(r["fields"]), r["deleted"]) for r in rows)
    allowed = {golden.golden_id for golden in goldens if consented(golden)}
    return {write.key for write in asking if write.golden_id not in allowed}


def _needs_opt_in(write: Write) -> bool:
    """Whether it says more than an opt-out to a marketing target."""
    return write.mapping.marketing and write.op != "delete" and dict(write.values) != only_consent(write.values)
