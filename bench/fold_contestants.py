"""Who takes part in the fold job: each runs as a process of its own, and what it made is compared with the reference."""

import asyncio
import json
import shutil
import sys
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import psutil

from bench import fold_hub
from bench.fold_hub import GOLDEN
from bench.fold_job import TRUTH, Golden, Report, wrong
from hub.edge.embedded import Embedded
from hub.edge.kafka_jars import KafkaSetupError, java
from hub.edge.kafka_local import Broker
from streams.log import KafkaLog
from streams.log_kafka import servers
from streams.topics import Topic

ROOT = Path(__file__).parents[1]
PEERS = ROOT / "bench" / "peers"
SCHEMA = ROOT / "schemas" / "event.avsc"
LIMIT_SECONDS = 900
QUIX = ROOT / ".venv-peers" / "bin" / "python"


@dataclass
class Arena:
    """The servers, the events, and what must come of them."""

    server: Embedded
    broker: Broker
    reports: list[Report]
    expected: Golden
    scratch: Path
    slow_events: int
    source: str

    def database_cpu(self) -> float:
        """CPU seconds of PostgreSQL so far, with its processes that have ended."""
        postmaster = psutil.Process(int((self.server.data_dir / "postmaster.pid").read_text().split()[0]))
        ended = postmaster.cpu_times()
        total: float = ended.user + ended.system + ended.children_user + ended.children_system
        for process in postmaster.children():
            with suppress(psutil.NoSuchProcess):  # it has ended just now
                total += sum(process.cpu_times()[:2])
        return total


@dataclass(frozen=True)
class Contestant:
    """`command` gets (arena, topic, database, events); `stored` says that golden records end in the database too."""

    command: Callable[[Arena, str, str, int], list[str]]
    stored: bool = False
    slow: bool = False
    hub: bool = False
    unavailable: Callable[[], str | None] = lambda: None

    async def run(self, arena: Arena) -> dict[str, Any]:
        """One run from nothing; what it took, and what is wrong with its output."""
        events = arena.slow_events if self.slow else len(arena.reports)
        name = f"fold_{uuid.uuid4().hex[:12]}"
        topic = GOLDEN.name if self.hub else name
        log = KafkaLog(arena.broker.url)
        await log.ensure_topics([Topic(topic, key="person", compacted=True)])
        url = await arena.server.create(name)
        ends, cpu = await log.ends([topic]), arena.database_cpu()
        took = await _call(self.command(arena, topic, name, events))
        took |= {
            "database_cpu": arena.database_cpu() - cpu if self.stored else 0.0,
            "events": took.get("events", events),
        }
        after = await log.ends([topic])
        took["emitted"] = sum(after.values()) - sum(ends.values())
        if "seconds" in took and not self.slow:
            took["wrong"] = await self._wrong(arena, log, url, ends, after)
        await log.close()
        await _execute(arena.server.url(), f"drop database {name} with (force)")
        return took

    async def _wrong(self, arena: Arena, log: KafkaLog, url: str, start: Any, ends: Any) -> str | None:
        on_topic = None if self.hub else wrong(await _on_topic(log, start, ends), arena.expected)
        if on_topic or not self.stored:
            return on_topic
        found = await (fold_hub.golden(url) if self.hub else _in_table(url))
        return wrong(found, arena.expected)


async def _call(command: list[str]) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=ROOT
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), LIMIT_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
        return {"wrong": f"not done after {LIMIT_SECONDS} s"}
    told = [line for line in out.decode().splitlines() if line.startswith("{")]
    if process.returncode or not told:
        return {"wrong": f"ended with {process.returncode}: {err.decode()[-300:]}"}
    return dict(json.loads(told[-1]))


async def _execute(url: str, statement: str) -> None:
    conn = await asyncpg.connect(url)
    await conn.execute(statement)
    await conn.close()


async def _on_topic(log: KafkaLog, start: Any, ends: Any) -> Golden:
    """The newest golden record of every key that was put on the topic."""
    newest: dict[bytes, Any] = {}
    for (topic, partition), end in sorted(ends.items()):
        at = start.get((topic, partition), 0)
        while at < end and (some := await log.read(topic, partition, at, 20_000)):
            newest |= {record.key: record.value for record in some}
            at = some[-1].offset + 1
    records = (orjson.loads(value) for value in newest.values())
    return {fields["email"]: fields for fields in records}


async def _in_table(url: str) -> Golden:
    """The golden records in a peer's table: a column of JSON, or a column for each field."""
    conn = await asyncpg.connect(url)
    rows = await conn.fetch("select * from golden")
    await conn.close()
    records = (orjson.loads(row["fields"]) if "fields" in dict(row) else {n: row[n] for n in TRUTH} for row in rows)
    return {fields["email"]: fields for fields in records}


def _peer(script: str, python: str = sys.executable, sink: bool = False) -> Callable[[Arena, str, str, int], list[str]]:
    def command(arena: Arena, topic: str, database: str, events: int) -> list[str]:
        given = [servers(arena.broker.url)[0], arena.source, topic, str(events), str(SCHEMA), json.dumps(TRUTH)]
        return [python, str(PEERS / script), *given, *([f"{arena.server.data_dir}#{database}"] if sink else [])]

    return command


def _java(threads: int, *settings: str, sink: bool = False) -> Callable[[Arena, str, str, int], list[str]]:
    def command(arena: Arena, topic: str, database: str, events: int) -> list[str]:
        target = PEERS / "streams" / "target"
        given = [servers(arena.broker.url)[0], arena.source, topic, str(events), str(SCHEMA), json.dumps(TRUTH)]
        socket = f"{arena.server.data_dir}/.s.PGSQL.5432"
        url = (
            f"jdbc:postgresql://localhost/{database}?user=postgres&sslmode=disable&reWriteBatchedInserts=true"
            f"&socketFactory=org.newsclub.net.unix.AFUNIXSocketFactory$FactoryArg&socketFactoryArg={socket}"
        )
        state = str(arena.scratch / topic)
        path = f"{target / 'classes'}:{target / 'lib'}/*"
        return [java(), *settings, "-cp", path, "Fold", *given, state, str(threads), *([url] if sink else [])]

    return command


def _hub(arena: Arena, topic: str, database: str, events: int) -> list[str]:
    return [sys.executable, "-m", "bench.fold_hub", arena.broker.url, arena.server.url(database), str(events)]


def _hub_apart(arena: Arena, topic: str, database: str, events: int) -> list[str]:
    return [*_hub(arena, topic, database, events), "apart"]


def _no_java() -> str | None:
    if not (PEERS / "streams" / "target" / "lib").is_dir():
        return "not built: see `make peers`" if shutil.which("mvn") else "there is no Maven (`mvn`) to build it"
    try:
        java()
    except KafkaSetupError as error:
        return str(error)
    return None


def _no_quix() -> str | None:
    return None if QUIX.exists() else "not installed: see `make peers`"


CONTESTANTS = {
    "hub: B": Contestant(_hub, stored=True, hub=True),
    "Kafka Streams: B": Contestant(_java(1, sink=True), stored=True, unavailable=_no_java),
    "Kafka Streams: A": Contestant(_java(1), unavailable=_no_java),
    "Quix Streams: A": Contestant(_peer("quix.py", str(QUIX)), unavailable=_no_quix),
    "Quix Streams, its sink: B": Contestant(_peer("quix.py", str(QUIX), sink=True), stored=True, unavailable=_no_quix),
    "bare aiokafka, a dict: A": Contestant(_peer("bare.py")),
    "stock Faust, a Table: A": Contestant(_peer("stock_faust.py"), slow=True),
    "hub, one event of a record a call: B": Contestant(_hub_apart, stored=True, hub=True),
}

TUNED = Contestant(_java(1, "-Dfold.cache=134217728", "-Dfold.warm=300000"), unavailable=_no_java)
"""Kafka Streams, variant A, with 128 MiB of its store in memory; the first 300,000 events are not timed."""
