"""A local Kafka broker for development and tests: one KRaft node on loopback, started and stopped by pid file.

broker = up(Path(".hub/kafka"))     # running when this returns
broker.url                          # kafka://127.0.0.1:9092
down(Path(".hub/kafka"))
"""

import base64
import signal
import subprocess
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import psutil

from connectors.kit.serving import free_port
from hub.edge.kafka_jars import KafkaSetupError, jars, java

DEFAULT_DATA_DIR = Path(".hub/kafka")
DEFAULT_PORT = 9092
START_SECONDS = 180.0
STOP_SECONDS = 60.0

_STARTED = "Kafka Server started"
_HEAP = "-Xmx512m"
# One small broker for a while: what the second compiler would win later, it takes twice over at the start.
_LIGHT = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
# Warnings only, and the one line that says the broker is up.
_LOGGING = (
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
)
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
message.max.bytes=10485760
"""


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker: where it listens, its process (None: not running) and its directory."""

    port: int
    pid: int | None
    data_dir: Path

    @property
    def url(self) -> str:
        """The log's address."""
        return f"kafka://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self.pid is not None


def up(data_dir: Path = DEFAULT_DATA_DIR, port: int = DEFAULT_PORT) -> Broker:
    """Start the broker of the data directory, unless it runs; returns when it answers.

    A directory keeps the port it was created with; `port` 0 picks a free one. Raises KafkaSetupError.
    """
    data_dir = data_dir.expanduser().resolve()
    if (broker := status(data_dir)) and broker.running:
        return broker
    classpath, runtime = f"{jars()}/*", java()
    if broker is None:
        _create(data_dir, port, [runtime, *_LIGHT, *_LOGGING, "-cp", classpath])
    return _start(data_dir, [runtime, _HEAP, *_LIGHT, *_LOGGING, "-cp", classpath])


def down(data_dir: Path = DEFAULT_DATA_DIR) -> bool:
    """Stop the broker; False when none was running. Its data stay."""
    broker = status(data_dir)
    if broker is None or broker.pid is None:
        return False
    process = psutil.Process(broker.pid)
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except psutil.TimeoutExpired:
        process.kill()
        process.wait(STOP_SECONDS)
    _pid_file(broker.data_dir).unlink(missing_ok=True)
    return True


def status(data_dir: Path = DEFAULT_DATA_DIR) -> Broker | None:
    """The broker of the data directory, running or not; None when the directory holds none."""
    data_dir = data_dir.expanduser().resolve()
    try:
        lines = (data_dir / "server.properties").read_text().splitlines()
    except FileNotFoundError:
        return None
    settings = dict(line.split("=", 1) for line in lines)
    port = int(settings["advertised.listeners"].rpartition(":")[2])
    return Broker(port, _running_pid(data_dir), data_dir)


def _create(data_dir: Path, port: int, command: list[str]) -> None:
    """Write the settings and format the storage with a cluster id of its own."""
    data_dir.mkdir(parents=True, exist_ok=True)
    draft = data_dir / "server.properties.draft"
    ports = {"port": port or free_port(), "controller": free_port()}
    draft.write_text(_PROPERTIES.format(data=data_dir / "data", **ports))
    format_ = ["kafka.tools.StorageTool", "format", "--cluster-id", cluster_id(), "--config", str(draft)]
    done = subprocess.run([*command, *format_], capture_output=True, text=True, check=False)
    if done.returncode:
        raise KafkaSetupError(f"Kafka could not format {data_dir / 'data'}: {(done.stderr or done.stdout)[-1000:]}")
    draft.rename(data_dir / "server.properties")


def cluster_id() -> str:
    """A new cluster id, as Kafka makes them: a random UUID in base64 that begins with no hyphen, or it would be taken for
    an option."""
    raw = uuid.uuid4().bytes
    return base64.urlsafe_b64encode(bytes([raw[0] & 0x7F]) + raw[1:]).decode().rstrip("=")


def _start(data_dir: Path, command: list[str]) -> Broker:
    log = data_dir / "broker.log"
    log.unlink(missing_ok=True)
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "kafka.Kafka", str(data_dir / "server.properties")],
            stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True, cwd=data_dir,
        )  # fmt: skip
    _pid_file(data_dir).write_text(str(process.pid))
    deadline = time.monotonic() + START_SECONDS
    while _STARTED not in log.read_text(errors="replace"):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            process.wait()
            _pid_file(data_dir).unlink(missing_ok=True)
            raise KafkaSetupError(f"the broker did not start; the end of {log}:\n{_tail(log)}")
        time.sleep(0.05)
    broker = status(data_dir)
    assert broker
    return broker


def _running_pid(data_dir: Path) -> int | None:
    """The broker's pid if that process is there and is a broker of this directory (pids are used again)."""
    try:
        pid = int(_pid_file(data_dir).read_text())
        process = psutil.Process(pid)
        is_broker = str(data_dir / "server.properties") in process.cmdline()
        return pid if is_broker and process.status() != psutil.STATUS_ZOMBIE else None
    except (FileNotFoundError, ValueError, psutil.Error):
        return None


def _pid_file(data_dir: Path) -> Path:
    return data_dir / "broker.pid"


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])
