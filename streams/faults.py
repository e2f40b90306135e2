"""Which errors mean that the world is down, and which that one record is bad."""

import traceback

import asyncpg
from aiokafka.errors import KafkaError


class Contention(Exception):
    """Another worker changed the same identity meanwhile: the transaction must be done anew."""


class Replaced(Exception):
    """Another configuration is in effect than the one that this process works by: it waits, to be restarted."""


INFRASTRUCTURE: tuple[type[Exception], ...] = (
    Contention,
    Replaced,
    OSError,
    TimeoutError,
    KafkaError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that broke while its transaction was rolled back
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.TransactionRollbackError,
    asyncpg.InvalidTransactionStateError,
    asyncpg.exceptions.LockNotAvailableError,
)
"""The same work may succeed later: the stage waits with it."""


def where(error: BaseException) -> str:
    """Where in the code an error was raised. Of a connector that breaks on every record, a line each is enough."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
