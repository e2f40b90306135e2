"""Ledger: proves that every captured change has, for every target, exactly one outcome; and says when all is done."""

from dataclasses import dataclass, field
from datetime import datetime

from streams import outcomes
from streams.capture import behind
from streams.context import Context
from streams.plan import STAGE as PLAN
from streams.project import STAGE as PROJECT
from streams.refetch import STAGE as REFETCH
from streams.steward import OBJECT, SYSTEM
from streams.topics import changes_topic, golden_topic, notices_topic


@dataclass(frozen=True, slots=True)
class Ledger:
    """captured = events + duplicates + parked + waiting + unaccounted; per target the outcomes of all events.

    captured      records on the change topics
    events        distinct events processed; duplicates: records whose event was known
    parked        records that could not be processed
    waiting       records not yet processed
    targets       target -> outcome -> events; the outcome "pending" is on its way
    missing       rows that should be there for an event and a target, and are not
    """

    captured: int
    events: int
    duplicates: int
    parked: int
    waiting: int
    missing: int
    targets: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def unaccounted(self) -> int:
        """What got lost: 0, or the hub broke its promise."""
        return abs(self.captured - self.events - self.duplicates - self.parked - self.waiting) + self.missing

    @property
    def pending(self) -> int:
        """Outcomes that are not decided yet."""
        return sum(counts.get("pending", 0) for counts in self.targets.values())


def change_topics(context: Context) -> list[str]:
    """Every topic that holds changes, the stewards' decisions among them."""
    return [changes_topic(s, o).name for s, o in context.model.mappings] + [changes_topic(SYSTEM, OBJECT).name]


async def balance(context: Context) -> Ledger:
    """Count everything. Positions are read before the log's ends, so that nothing in flight looks lost."""
    topics = change_topics(context)
    rows = await context.pool.fetch(
        "select topic, partition, next_offset, processed, duplicates, parked from hub.position"
        " where stage = $1 and topic = any($2)", PROJECT, topics,
    )  # fmt: skip
    events = await context.pool.fetchval("select count(*) from hub.event where topic = any($1)", topics)
    processed, duplicates, parked = (sum(r[name] for r in rows) for name in ("processed", "duplicates", "parked"))
    ends, starts = await context.log.ends(topics), await context.log.starts(topics)
    done = {(r["topic"], r["partition"]): r["next_offset"] for r in rows}
    waiting = sum(max(0, end - max(done.get(key, 0), starts.get(key, 0))) for key, end in ends.items())
    return Ledger(
        captured=sum(ends.values()) - sum(starts.values()),
        events=events if events <= processed else processed,
        duplicates=duplicates,
        parked=parked,
        waiting=waiting,
        missing=await _missing(context),
        targets=await _targets(context),
    )


async def _targets(context: Context) -> dict[str, dict[str, int]]:
    rows = await context.pool.fetch(
        "select target, coalesce(outcome, 'pending') as outcome, count(*) as n from hub.ledger group by 1, 2 order by 1, 2"
    )
    targets: dict[str, dict[str, int]] = {}
    for row in rows:
        targets.setdefault(row["target"], {})[row["outcome"]] = row["n"]
    return targets


async def _missing(context: Context) -> int:
    """Events that lack a row for one of their entity's targets; plus pending rows that nobody works on."""
    missing = 0
    for entity in context.model.entities:
        expected = len(context.model.targets(entity)) or 1
        missing += await context.pool.fetchval(
            "select coalesce(sum(greatest(0, $2 - n)), 0)::bigint from (select e.event_id,"
            " (select count(*) from hub.ledger l where l.event_id = e.event_id) as n from hub.event e"
            " join hub.record r using (system, object, external_id) where r.entity = $1 and e.system <> $3"
            " and not exists (select from hub.ledger l where l.event_id = e.event_id and l.target = $4)) as counted",
            entity, expected, SYSTEM, outcomes.NOWHERE,
        )  # fmt: skip
    return missing


@dataclass(frozen=True, slots=True)
class Idle:
    """What is still to do."""

    lag: dict[str, int]
    queued: int
    stalled: int
    unread: list[str]

    @property
    def done(self) -> bool:
        """Whether every change has its outcome and every source was read since the last write."""
        return not any(self.lag.values()) and not self.queued and not self.unread


async def idle(context: Context, since: datetime | None = None) -> Idle:
    """What is left to do now: lag per stage, due writes, sources not read since the last activity, nor since `since`.

    Asked in the order in which a change goes its way, and of the sources at both ends: what moves on between two of the
    questions is seen by a later one.
    """
    unread = await _unread(context, since)
    lag = await lags(context)
    return Idle(
        lag=lag,
        queued=await context.pool.fetchval("select count(*) from hub.write where state = 'due'"),
        stalled=await context.pool.fetchval("select count(*) from hub.write where state <> 'due'"),
        unread=sorted({*unread, *await _unread(context, since)}),
    )


async def lags(context: Context) -> dict[str, int]:
    """Stage -> records waiting."""
    fetching = {
        f"{REFETCH}-{system}": await behind(context, f"{REFETCH}-{system}", [notices_topic(system).name])
        for system in context.connectors
    }
    return {
        PROJECT: await behind(context, PROJECT, change_topics(context)),
        PLAN: await behind(context, PLAN, [golden_topic(e).name for e in context.model.entities]),
        **fetching,
    }


async def _unread(context: Context, since: datetime | None) -> list[str]:
    """Streams not read since their system was last written to: an echo may still be out there; but for those that were
    halted. Systems not primed; snapshots under way."""
    rows = await context.pool.fetch("select target, at from hub.activity")
    written = {r["target"]: r["at"] for r in rows}
    streams = {(s, stream.name) for s, c in context.connectors.items() for stream in c.streams()}
    rows = await context.pool.fetch("select system, stream, complete, polled_at, error from hub.checkpoint")
    read = {
        (r["system"], r["stream"])
        for r in rows
        if r["complete"]
        and r["error"] is None
        and (r["system"] not in written or r["polled_at"] > written[r["system"]])
        and (since is None or r["polled_at"] >= since)
    }
    read |= {tuple(r) for r in await context.pool.fetch("select system, stream from hub.source")}
    going = await context.pool.fetch("select system, object from hub.snapshot where state = 'running'")
    primed = await context.pool.fetch("select label from hub.counter where name = 'primed'")
    gate = {r["label"] for r in primed}
    return sorted(f"{s}/{stream}" for s, stream in streams - read) + sorted(
        [
            *(s for s in context.model.systems if s not in gate),
            *(f"snapshot {r['system']}/{r['object']}" for r in going),
        ]
    )
