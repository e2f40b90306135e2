"""Positions in the write-ahead log, and the one growing number that orders all changes of a record.

A change is ordered by where its transaction *committed*. The place of the change's own log record would not do: an
insert writes its row before it looks into the unique index, so it may stand in the log before a delete of the same key
that it follows. A commit record takes more than 32 bytes, so a commit position divided by 32 still tells any two
commits apart. The 13 bits below it count steps inside one transaction (see `hub.change.Change.version`): 2^55 bytes
of log (36 PB, ten years at 100 MB/s) fit into a signed 64-bit number.

A number read from the server's clock (`WAL_CLOCK`) while a row is locked is greater than the version of every earlier
change of that row, and not greater than that of the change that the same transaction is going to make: commit records
of earlier transactions end before that place, and the own one begins behind it.
"""

STEP_BITS = 13
STEPS = 1 << STEP_BITS
WAL_CLOCK = f"(((pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint >> 5) << {STEP_BITS})"
"""SQL for the version of this moment."""


def version(commit: int, step: int = 0) -> int:
    """The version of the changes in step `step` of the transaction whose commit record begins at `commit`.

    From step 8191 on all steps share one version; see `exact`.
    """
    return (commit >> 5) << STEP_BITS | min(step, STEPS - 1)


def exact(step: int) -> bool:
    """Whether a version with this step belongs to one content only."""
    return step < STEPS - 1


def parse_lsn(text: str) -> int:
    """`16/B374D848` as a number of bytes."""
    high, low = text.split("/")
    return int(high, 16) << 32 | int(low, 16)


def format_lsn(lsn: int) -> str:
    """The inverse of `parse_lsn`."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"
