"""Gauges: what the state database, the log and the systems tell when asked. Each group is asked on its own.

A group is a coroutine from a context to samples; what may cost something is asked less often (see hub.edge.telemetry).
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from streams import budgets, metrics, tally, watch
from streams.audit_store import ENDS, latest
from streams.context import Context
from streams.ledger import balance, change_topics
from streams.metrics import Metric
from streams.outcomes import OUTCOMES
from streams.plan import STAGE as PLAN
from streams.project import STAGE as PROJECT
from streams.refetch import STAGE as REFETCH
from streams.topics import golden_topic, notices_topic

Sample = tuple[Metric, tuple[str, ...], float]

STARTED = time.time()


@dataclass(frozen=True, slots=True)
class Group:
    """Gauges that are asked together, at most every so many seconds."""

    name: str
    ask: Callable[[Context], Awaitable[list[Sample]]]
    seconds: float


async def lag(context: Context) -> list[Sample]:
    """Records waiting per stage, topic and partition, and the age of the oldest of them."""
    samples: list[Sample] = []
    for stage, topics in stages(context).items():
        ends, starts = await context.log.ends(topics), await context.log.starts(topics)
        rows = await context.pool.fetch(
            "select topic, partition, next_offset from hub.position where stage = $1 and topic = any($2)", stage, topics
        )
        done = {(r["topic"], r["partition"]): r["next_offset"] for r in rows}
        for (topic, partition), end in sorted(ends.items()):
            place = max(done.get((topic, partition), 0), starts.get((topic, partition), 0))
            labels = (stage, topic, str(partition))
            samples.append((metrics.LAG, labels, max(0, end - place)))
            age = await _age(context, topic, partition, place) if end > place else 0.0
            samples.append((metrics.LAG_SECONDS, labels, age))
    return samples


def stages(context: Context) -> dict[str, list[str]]:
    """Every stage that reads the log, with its topics."""
    refetch = {f"{REFETCH}-{system}": [notices_topic(system).name] for system in context.connectors}
    golden = [golden_topic(entity).name for entity in context.model.entities]
    return {PROJECT: change_topics(context), PLAN: golden, **refetch}


async def _age(context: Context, topic: str, partition: int, place: int) -> float:
    waiting = await context.log.read(topic, partition, place, 1)
    return max(0.0, time.time() - waiting[0].timestamp_us / 1_000_000) if waiting else 0.0


async def queue(context: Context) -> list[Sample]:
    """The write queue, what is paused, parked, open or not yet published."""
    targets = sorted({target for entity in context.model.entities for target in context.model.targets(entity)})
    rows = await context.pool.fetch(
        "select t.target, s.state, count(w.target) as n,"
        " coalesce(extract(epoch from now() - min(w.due_at) filter (where w.state = 'due' and w.due_at <= now())), 0) as age"
        " from unnest($1::text[]) as t (target) cross join unnest(array['due', 'held', 'parked']) as s (state)"
        " left join hub.write w on w.target = t.target and w.state = s.state group by 1, 2", targets,
    )  # fmt: skip
    held = await context.pool.fetch(
        "select target, extract(epoch from now() - min(held_since)) as age from hub.write where state = 'held' group by 1"
    )
    waited = {r["target"]: float(r["age"] or 0.0) for r in held}
    open_ = {
        r["target"] for r in await context.pool.fetch("select target from hub.breaker where opened_at is not null")
    }
    paused = {r["target"] for r in await context.pool.fetch("select target from hub.pause")}
    samples: list[Sample] = [(metrics.QUEUE, (r["target"], r["state"]), r["n"]) for r in rows]
    samples += [(metrics.QUEUE_SECONDS, (r["target"],), float(r["age"])) for r in rows if r["state"] == "due"]
    samples += [(metrics.PAUSED, (target,), target in paused) for target in targets]
    samples += [(metrics.CIRCUIT, (target,), target in open_) for target in targets]
    samples += [(metrics.HELD_SECONDS, (target,), waited.get(target, 0.0)) for target in targets]
    return samples + await _set_aside(context)


async def _set_aside(context: Context) -> list[Sample]:
    rows = await context.pool.fetch("select stage, count(*) as n from hub.parked group by 1")
    parked = {r["stage"]: r["n"] for r in rows}
    samples: list[Sample] = [(metrics.PARKED, (stage,), parked.get(stage, 0)) for stage in {*stages(context), *parked}]
    open_ = await context.pool.fetchval("select count(*) from hub.conflict where state = 'open'")
    outbox = await context.pool.fetchval("select count(*) from hub.outbox")
    return [*samples, (metrics.OPEN_CONFLICTS, (), open_), (metrics.OUTBOX, (), outbox)]


async def ledger(context: Context) -> list[Sample]:
    """Every change's outcome, and how many have none. Counts everything there is."""
    balanced = await balance(context)
    samples: list[Sample] = [(metrics.UNACCOUNTED, (), balanced.unaccounted)]
    for target, outcomes in balanced.targets.items():
        samples += [(metrics.LEDGER, (target, name), outcomes.get(name, 0)) for name in (*OUTCOMES, "pending")]
    return samples


async def sources(context: Context) -> list[Sample]:
    """Since when each source was not read to its end (one that never was: since this process started; 0 while it is
    halted), and whether it is halted. How old its newest clock is, what databases keep for the hub, and what disks have
    left."""
    rows = await context.pool.fetch("select system, stream, polled_at from hub.checkpoint where polled_at is not null")
    read = {(r["system"], r["stream"]): r["polled_at"].timestamp() for r in rows}
    streams = watch.streams(context)
    halted = {tuple(r) for r in await context.pool.fetch("select system, stream from hub.source")}
    since = {s: 0.0 if s in halted else max(0.0, time.time() - read.get(s, STARTED)) for s in streams}
    samples: list[Sample] = [(metrics.SOURCE_AGE, s, age) for s, age in since.items()]
    samples += [(metrics.HALTED, s, s in halted) for s in streams]
    samples += [(metrics.DISK_FREE, (where,), free) for where, free in (await watch.disks(context)).items()]
    newest = {name: h.newest for name, h in (await tally.histories(context, tally.YIELD)).items() if h.newest}
    ages = {name: time.time() - clock / 1_000_000 for name, clock in newest.items()}
    samples += [(metrics.NEWEST_AGE, s, ages[name]) for s in streams if (name := "/".join(s)) in ages]
    return samples + await _slots(context)


async def accounts(context: Context) -> list[Sample]:
    """How far vendors' limits are used, by account."""
    samples: list[Sample] = []
    for account, use in (await budgets.uses(context)).items():
        samples += [(metrics.BUDGET_CALLS, (account,), use.calls), (metrics.BUDGET_WAITING, (account,), use.waiting)]
        samples += [(metrics.BUDGET_PAUSED, (account,), use.paused), (metrics.BUDGET_DAY, (account,), use.day_left)]
    return samples


async def _slots(context: Context) -> list[Sample]:
    """A system that does not answer has no sample."""
    states = [(system, await watch.slot_state(context, system)) for system in context.connectors]
    return [(metrics.SLOT_LAG, (system,), state.behind) for system, state in states if state is not None]


async def audits(context: Context) -> list[Sample]:
    """How the last audits of each object ended, of a sample and of all of it, and what they found; deletes that wait are
    told until somebody decides. An object that was never audited is told as clean."""
    rows = await latest(context)
    samples: list[Sample] = []
    for key in context.model.mappings:
        found = [row for row in rows if (row["system"], row["object"]) == key]
        ended = {row["state"] for row in found} or {"clean"}
        samples += [(metrics.AUDIT_STATE, (*key, state), state in ended) for state in ENDS]
        for kind in ("missing", "stale", "extra"):
            samples.append((metrics.DRIFT, (*key, kind), max([0, *(row[kind] for row in found)])))
    return samples


GROUPS = (
    Group("audits", audits, 30.0),
    Group("lag", lag, 5.0),
    Group("queue", queue, 5.0),
    Group("sources", sources, 10.0),
    Group("accounts", accounts, 5.0),
    Group("ledger", ledger, 30.0),
)
