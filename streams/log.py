"""The event log and how to open one; see `streams.records` for what every log promises."""

import asyncpg

from streams.log_kafka import KafkaLog
from streams.log_postgres import PostgresLog
from streams.records import Batch, Headers, Log, NewRecord, Offsets, Record, UnknownTopicError, partition_of

__all__ = [
    "Batch",
    "Headers",
    "KafkaLog",
    "Log",
    "NewRecord",
    "Offsets",
    "PostgresLog",
    "Record",
    "UnknownTopicError",
    "open_log",
    "partition_of",
]


def open_log(url: str, pool: asyncpg.Pool | None = None) -> Log:
    """The log at `url`: `postgresql://…` (with the pool to use) or `kafka://host:port[,host:port]`.

    Nothing is connected yet. Raises ValueError for another scheme, or for PostgreSQL without a pool.
    """
    scheme = url.partition("://")[0]
    if scheme == "kafka":
        return KafkaLog(url)
    if scheme not in ("postgresql", "postgres"):
        raise ValueError(f"log must be a postgresql:// or kafka:// address, not {scheme}://")
    if pool is None:
        raise ValueError("the PostgreSQL log needs a connection pool")
    return PostgresLog(pool)
