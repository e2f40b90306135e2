"""References to secrets, `${NAME}` and `file:path`: found, resolved, and never shown.

A setting may mix text and references ("postgresql://hub:${CRM_PASSWORD}@db/crm"); `file:` stands alone.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
FILE = "file:"
MAX_SECRET_BYTES = 65_536
LOOPBACK = frozenset({None, "", "localhost", "127.0.0.1", "::1"})


class UnresolvedError(ValueError):
    """A reference that leads nowhere; the message names the variable or file, never a value."""


def resolve(value: Any, env: Mapping[str, str], directory: Path) -> Any:
    """The value with every reference in it replaced; a file is read relative to `directory`. Raises UnresolvedError."""
    if isinstance(value, dict):
        return {name: resolve(item, env, directory) for name, item in value.items()}
    if isinstance(value, list):
        return [resolve(item, env, directory) for item in value]
    if not isinstance(value, str):
        return value
    if value.startswith(FILE):
        return _read(directory / value.removeprefix(FILE))
    if missing := [name for name in REFERENCE.findall(value) if not env.get(name)]:
        raise UnresolvedError(f"the environment variable {', '.join(dict.fromkeys(missing))} is not set")
    return REFERENCE.sub(lambda found: env[found[1]], value)


def variables(value: Any) -> Iterator[str]:
    """The names of the environment variables that a value refers to, wherever in it."""
    if isinstance(value, str):
        yield from REFERENCE.findall(value)
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from variables(item)


def referenced(value: Any) -> bool:
    """Whether a value that must stay out of the file does: all of it, or of a URL what is secret in it."""
    if not isinstance(value, str):
        return False
    if value.startswith(FILE) or REFERENCE.fullmatch(value):
        return True
    if "://" in value:
        return _safe_url(value)
    return bool(REFERENCE.search(value)) and len(REFERENCE.sub("", value)) <= 8


def hidden(value: str) -> str:
    """A URL as it may be shown: without password and query."""
    return re.sub(r"(://[^:/@\s]*):[^@\s]*@", r"\1:***@", value.split("?")[0])


def _safe_url(value: str) -> bool:
    """A URL whose password is a reference, or that has none and does not leave the machine."""
    if REFERENCE.match(value):
        return True
    try:
        url = urlsplit(REFERENCE.sub(lambda found: f"ref.{found[1]}.", value))
        secrets = [url.password, *(v for k, v in parse_qsl(url.query) if k in ("password", "sslpassword"))]
        told = [secret for secret in secrets if secret]
    except ValueError:
        return False
    if told:
        return all(re.fullmatch(r"ref\.\w+\.", secret) for secret in told)
    return url.hostname in LOOPBACK


def _read(path: Path) -> str:
    try:
        with path.expanduser().open("rb") as file:
            content = file.read(MAX_SECRET_BYTES + 1)
        if len(content) > MAX_SECRET_BYTES:
            raise UnresolvedError(f"the file {path} is longer than {MAX_SECRET_BYTES} bytes")
        return content.decode().strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UnresolvedError(f"the file {path} cannot be read: {reason}") from None
