"""Who of a consumer group reads which partition of the PostgreSQL log.

Everything hangs on one database session: advisory locks. Every member holds a shared lock that makes it visible, and an
exclusive lock for each partition it reads. A member that dies, however, loses its session and with it all of its locks at
once; there are no leases to run out and no clocks to agree. Session locks need a direct connection to PostgreSQL (or a
pooler in session mode).
"""

from collections.abc import Callable, Sequence

import asyncpg

from streams.records import UnknownTopicError

RECORDS_CHANNEL = "hub_log"
MEMBERS_CHANNEL = "hub_log_members"

# The first half of a lock's key: members of a group (second half: group id), and partitions of group n (second half:
# partition id) counted from there.
_MEMBERS = 0x68756201
_PARTITIONS = 0x68800000

# A peer that vanished without closing its connection (power, network) is given up by the server within about 15 seconds.
_SETTINGS = {"tcp_keepalives_idle": "5", "tcp_keepalives_interval": "3", "tcp_keepalives_count": "3"}

_SEEN = (
    "select l.pid from pg_locks l where l.locktype = 'advisory' and l.classid = $1 and l.objid = $2 and l.objsubid = 2"
    " and l.granted and l.database = (select oid from pg_database where datname = current_database()) order by l.pid"
)
_PARTITION_IDS = (
    "select p.id, t.name, p.number from hub_log.partition p join hub_log.topic t on t.id = p.topic_id"
    " where t.name = any($1) order by t.name, p.number"
)
_JOIN = "insert into hub_log.consumer_group (name) values ($1) on conflict do nothing"

Callback = Callable[[], None]


class Membership:
    """One worker's membership of one group, over a session of its own."""

    def __init__(self, conn: asyncpg.Connection, group_id: int, group: str, topics: Sequence[str]) -> None:
        self._conn = conn
        self._topics = sorted(topics)
        self._group = group
        self.group_id = group_id
        self.held: set[int] = set()
        self.partitions: dict[int, tuple[str, int]] = {}

    @classmethod
    async def join(
        cls, dsn: str, group: str, topics: Sequence[str], *, on_records: Callback, on_change: Callback
    ) -> "Membership":
        """Connect and become visible. Raises UnknownTopicError when a topic does not exist, and connection errors.

        Calls `on_records` when partitions that are held got records, and `on_change` when a member joined, left or
        released partitions, and when the session ends.
        """
        conn = await asyncpg.connect(dsn, server_settings={**_SETTINGS, "application_name": group})
        try:
            await conn.execute(_JOIN, group)
            group_id = await conn.fetchval("select id from hub_log.consumer_group where name = $1", group)
            self = cls(conn, group_id, group, topics)
            await self._find_partitions()
            await conn.add_listener(RECORDS_CHANNEL, lambda *event: self._on_records(on_records, event[3]))
            await conn.add_listener(MEMBERS_CHANNEL, lambda *_: on_change())
            conn.add_termination_listener(lambda _: on_change())
            await conn.execute("select pg_advisory_lock_shared($1, $2)", _MEMBERS, group_id)
            await self._announce()
        except BaseException:
            conn.terminate()
            raise
        return self

    async def share(self) -> set[int]:
        """The ids of the partitions that are this member's by rights: every member sees the same list and counts it off."""
        await self._find_partitions()
        members = [pid for (pid,) in await self._conn.fetch(_SEEN, _MEMBERS, self.group_id)]
        me = self._conn.get_server_pid()
        if me not in members:
            return set()
        return {pid for n, pid in enumerate(self.partitions) if members[n % len(members)] == me}

    async def take(self, wanted: set[int]) -> set[int]:
        """Lock those of the wanted partitions that nobody else still holds; returns them, and counts them as held."""
        taken = await self._conn.fetch(
            "select id from unnest($2::int[]) id where pg_try_advisory_lock($1, id)",
            self._lock_class,
            sorted(wanted - self.held),
        )
        new = {row[0] for row in taken}
        self.held |= new
        return new

    async def release(self, unwanted: set[int]) -> None:
        """Give the partitions up and tell the other members."""
        if not unwanted:
            return
        await self._conn.execute(
            "select pg_advisory_unlock($1, id) from unnest($2::int[]) id", self._lock_class, sorted(unwanted)
        )
        self.held -= unwanted
        await self._announce()

    async def leave(self) -> None:
        """Close the session, which gives up every lock, and tell the other members."""
        try:
            await self._conn.execute("select pg_advisory_unlock_all()")
            await self._announce()
        finally:
            await self._conn.close(timeout=5)

    def abandon(self) -> None:
        """Drop a session that no longer works."""
        self._conn.terminate()

    def _on_records(self, callback: Callback, payload: object) -> None:
        """The payload names partitions by their ids; an empty one means too many to name."""
        if not payload or any(int(id_) in self.held for id_ in str(payload).split(",")):
            callback()

    @property
    def _lock_class(self) -> int:
        return _PARTITIONS + self.group_id

    async def _announce(self) -> None:
        await self._conn.execute("select pg_notify($1, $2)", MEMBERS_CHANNEL, str(self.group_id))

    async def _find_partitions(self) -> None:
        rows = await self._conn.fetch(_PARTITION_IDS, self._topics)
        self.partitions = {id_: (topic, number) for id_, topic, number in rows}
        if missing := set(self._topics) - {topic for topic, _ in self.partitions.values()}:
            raise UnknownTopicError(f"topics {', '.join(sorted(missing))} do not exist; ensure_topics creates them")
