"""How fast golden records are rebuilt from the topics, in bulk and event by event, side by side.

    python -m bench.rebuild [--events 100000 1500000] [--rounds 3] [--log postgres kafka] [--decided]

The job is that of bench/fold_job.py: change events of three systems about the same people, seven fields each, 5 % of them
twice, 5 % late. Beside the changes the log holds what live processing decides once: the link of every record to its
golden id. Each run is a process of its own. The first, which is not timed, rebuilds where there are no live golden records;
what it made is held against the job's reference and put in place. The others must find the same. Printed and
written: events/s, CPU seconds per 100,000 events (of the run, its workers and PostgreSQL), the memory of run and workers
together at most. Event by event is measured up to 100,000 events. From 600,000 events up Kafka Streams (see
`make peers`) does its variant A of the job (see bench/fold.py) in turns with the rebuild, tuned and warmed up.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import asyncpg
import orjson
import psutil
from rich.console import Console
from rich.table import Table

from bench.fold import SOURCE, fill_source
from bench.fold_contestants import TUNED, Arena
from bench.fold_hub import model, prepare
from bench.fold_job import OBJECT, SYSTEMS, Golden, Job, Report, deliveries, encoded, golden, wrong
from bench.machine import cpu_of, described
from hub.edge import embedded, kafka_local
from hub.edge.main import collect_seldom
from hub.identity import IdentityEvent
from streams.context import Context
from streams.log import NewRecord, open_log
from streams.project import STAGE
from streams.rebuild import Options
from streams.replay import Rebuilt, replay, replay_by_event
from streams.topics import DECISIONS, IDENTITY, changes_topic

RESULTS = Path(__file__).parent / "results" / "rebuild.json"
CHANGES = {system: changes_topic(system, OBJECT) for system in SYSTEMS}
BY_EVENT_AT_MOST, BESIDE_AT_LEAST = 100_000, 600_000
BESIDE = "Kafka Streams, tuned: A"
PORTION = 20_000


async def fill(context: Context, reports: list[Report], decided: bool = False) -> None:
    """Append the job's events and links, and with `decided` decisions, as if the project stage had processed them."""
    portion: list[NewRecord] = []
    found = decisions(context, reports) if decided else iter(())
    for record in [*links(context, {(r.system, r.person) for r in reports}), *changes(context, reports), *found]:
        portion.append(record)
        if len(portion) == PORTION:
            await context.log.append(portion)
            portion = []
    await context.log.append(portion)
    ends = await context.log.ends([topic.name for topic in CHANGES.values()])
    await context.pool.executemany(
        "insert into hub.position (stage, topic, partition, next_offset) values ($1, $2, $3, $4)",
        [(STAGE, topic, partition, end) for (topic, partition), end in ends.items()],
    )
    await context.pool.execute("analyze")


def changes(context: Context, reports: Any) -> Iterator[NewRecord]:
    """The job's change events."""
    for system, key, value in encoded(reports, context.codec.encode):
        yield NewRecord(CHANGES[system].name, key, value)


def decisions(context: Context, reports: Sequence[Report]) -> Iterator[NewRecord]:
    """Of each event the fields that it repeats from the one before, which live processing finds not to be said."""
    before: dict[tuple[str, int], Report] = {}
    for one in sorted(reports, key=lambda report: report.at):
        last, before[one.system, one.person] = before.get((one.system, one.person)), one
        if last is not None and last.at < one.at:
            event, unsaid = one.event(), [n for n, value in one.fields.items() if last.fields[n] == value]
            datum = {"event_id": event.event_id, "system": one.system, "object": OBJECT, "external_id": event.external_id,
                     "unsaid": unsaid, "echo": False}  # fmt: skip
            key = "/".join(event.record).encode()
            yield NewRecord(DECISIONS.name, key, context.codec.encode("decision", datum))


def links(context: Context, records: set[tuple[str, int]]) -> Iterator[NewRecord]:
    """The link of each record."""
    for system, person in sorted(records):
        golden_id = f"contact_{person:020}"
        link = IdentityEvent("link", golden_id, "contact", "", (system, OBJECT, str(person)), reason="new")
        yield NewRecord(IDENTITY.name, golden_id.encode(), context.codec.encode("identity", link.to_avro()))


async def run(how: str, log_url: str, state_url: str) -> dict[str, Any]:
    """One rebuild, in this process and its workers. The first puts what it rebuilt in place; the others tell how many
    golden records they have otherwise."""
    async with asyncpg.create_pool(state_url, min_size=1, command_timeout=600) as pool:
        log = open_log(log_url, pool)
        context = Context(model(), pool, log, await prepare(pool, log))
        both = (psutil.Process(), psutil.Process(await pool.fetchval("select pg_backend_pid()")).parent())
        memory, before = Memory(), sum(map(cpu_of, both))
        began = time.perf_counter()
        if how == "event":
            found = await replay_by_event(context)
        else:
            options = Options(hashes=False, load_model=model if how == "bulk" else None)
            found = await replay(context, swap=how == "first", options=options)
        took = time.perf_counter() - began
        used = sum(map(cpu_of, both)) - before
        await log.close()
    told = {"golden": _golden(found)} if how == "first" else {"differing": len(found.differences)}
    return {"seconds": took, "cpu": used, "peak_mib": memory.end(), "count": found.golden, **told}


def _golden(found: Rebuilt) -> Golden:
    """What was rebuilt where there was nothing, as the job compares it."""
    rebuilt = ({n: f[0] for n, f in (d.rebuilt or {}).items() if n != "_deleted"} for d in found.differences)
    return {str(fields["email"]): fields for fields in rebuilt}


class Memory:
    """The most memory that this process and its workers had together, looked at ten times a second."""

    def __init__(self) -> None:
        self._peak, self._done = 0, Event()
        self._thread = Thread(target=self._watch, daemon=True)
        self._thread.start()

    def end(self) -> int:
        """Stop; the peak in MiB."""
        self._done.set()
        self._thread.join()
        return self._peak >> 20

    def _watch(self) -> None:
        here = psutil.Process()
        while not self._done.wait(0.1):
            with suppress(psutil.Error):
                rss = sum(p.memory_info().rss for p in (here, *here.children(recursive=True)))
                self._peak = max(self._peak, rss)


def elsewhere(how: str, log_url: str, state_url: str, expected: Golden) -> dict[str, Any]:
    """A run in a process of its own. Raises SystemExit where what it rebuilt is wrong."""
    with tempfile.NamedTemporaryFile(suffix=".json") as answer:
        command = [sys.executable, "-m", "bench.rebuild", "--one", how, log_url, state_url, answer.name]
        subprocess.run(command, check=True)
        found: dict[str, Any] = orjson.loads(Path(answer.name).read_bytes())
    if (count := found.pop("count")) != len(expected):
        raise SystemExit(f"{how}: {count} golden records, of which there are {len(expected)}")
    if how == "first" and (problem := wrong(found.pop("golden"), expected)):
        raise SystemExit(f"{how}: {problem}")
    if differing := found.pop("differing", 0):
        raise SystemExit(f"{how}: {differing} golden records are other than the first run made them")
    return found


async def measure(options: argparse.Namespace, arena: Arena, console: Console) -> list[dict[str, Any]]:
    """Every size on every log, the ways in turn."""
    results: list[dict[str, Any]] = []
    for events in options.events:
        arena.reports = deliveries(Job(events, options.people or max(1, events // 30)))
        arena.expected = golden(arena.reports)
        beside = events >= BESIDE_AT_LEAST and not TUNED.unavailable()
        arena.source = f"{SOURCE}.{events}"
        if beside:
            await fill_source(arena)
        for where in options.log:
            found = await in_turn(options, arena, where, beside)
            results += [summary(how, where, len(arena.expected), rounds) for how, rounds in found.items()]
            print_table(results, console)
    return results


async def in_turn(
    options: argparse.Namespace, arena: Arena, where: str, beside: bool
) -> dict[str, list[dict[str, Any]]]:
    """The rounds of each way to do it."""
    events = len(arena.reports)
    state_url = await arena.server.create(f"rebuild_{where}_{events}")
    log_url = state_url if where == "postgres" else arena.broker.url
    async with asyncpg.create_pool(state_url, min_size=1) as pool:
        log = open_log(log_url, pool)
        context = Context(model(), pool, log, await prepare(pool, log))
        await fill(context, arena.reports, options.decided)
        await log.close()
    elsewhere("first", log_url, state_url, arena.expected)
    ways = ["bulk", *(["event"] if events <= BY_EVENT_AT_MOST else []), *([BESIDE] if beside else [])]
    found: dict[str, list[dict[str, Any]]] = {how: [] for how in ways}
    for _ in range(options.rounds):
        for how, rounds in found.items():
            done = await TUNED.run(arena) if how == BESIDE else elsewhere(how, log_url, state_url, arena.expected)
            if told := done.get("wrong"):
                raise SystemExit(f"{how}: {told}")
            rounds.append({"events": events, **done})
    return found


def summary(how: str, where: str, things: int, rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians."""
    rate = statistics.median(r["events"] / r["seconds"] for r in rounds)
    used = statistics.median(r["cpu"] / r["events"] * 100_000 for r in rounds)
    peak = max((r["peak_mib"] for r in rounds if "peak_mib" in r), default=None)
    return {
        "how": how, "log": where, "events": rounds[0]["events"], "golden": things, "events_per_second": round(rate),
        "cpu_seconds_per_100_000": round(used, 2), "peak_mib": peak, "rounds": rounds,
    }  # fmt: skip


def print_table(results: list[dict[str, Any]], console: Console) -> None:
    """The medians as a table."""
    table = Table("how", "log", "events", "golden", "events/s", "CPU s / 100,000", "peak MiB", title="Rebuild")
    for r in results:
        peak = f"{r['peak_mib']:,}" if r["peak_mib"] else "not measured"
        table.add_row(r["how"], r["log"], f"{r['events']:,}", f"{r['golden']:,}", f"{r['events_per_second']:,}",
                      f"{r['cpu_seconds_per_100_000']:.2f}", peak)  # fmt: skip
    console.print(table)


async def main(options: argparse.Namespace) -> None:
    """Start the servers, measure, and write the results."""
    console = Console()
    if reason := TUNED.unavailable():
        console.print(f"{BESIDE} takes no part: {reason}")
    with tempfile.TemporaryDirectory(prefix="hub-bench-", ignore_cleanup_errors=True) as directory:
        server = await embedded.start_async(Path(directory) / "pg")
        broker = kafka_local.up(Path(directory) / "kafka", port=0)
        try:
            arena = Arena(server, broker, [], {}, Path(directory), 0, SOURCE)
            results = await measure(options, arena, console)
        finally:
            kafka_local.down(broker.data_dir)
            server.leave()
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({**described(), "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, nargs="+", default=[100_000, 1_500_000], help="sizes of the log")
    parser.add_argument("--people", type=int, default=0, help="golden records; 0: a thirtieth of the events")
    parser.add_argument("--decided", action="store_true", help="most fields of events are said not to have changed")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, of which the median counts")
    parser.add_argument("--log", nargs="+", default=["postgres"], choices=["postgres", "kafka"])
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the results are written")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        collect_seldom()
        Path(given.one[3]).write_bytes(orjson.dumps(asyncio.run(run(*given.one[:3]))))
    else:
        asyncio.run(main(given))
