"""A client of any schema registry that speaks the Confluent REST API (Confluent, Karapace, Apicurio, Redpanda)."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import stamina

from schemas.compatibility import IncompatibleSchemaError, require_compatible
from schemas.wire import Schema, UnknownSchemaError

_TIMEOUT_SECONDS = 10.0
_MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
_NOT_FOUND, _CONFLICT = 404, 409


class ConfluentRegistry:
    """A registry with Confluent's REST API at `url`; a user and password in it become basic authentication."""

    def __init__(self, url: str) -> None:
        address = httpx.URL(url)
        # httpx logs the addresses it calls; credentials must not be in them.
        auth = httpx.BasicAuth(address.username, address.password) if address.username else None
        self._client = httpx.AsyncClient(
            base_url=address.copy_with(userinfo=b""),
            auth=auth,
            headers={"accept": _MEDIA_TYPE},
            timeout=_TIMEOUT_SECONDS,
        )

    async def register(self, subject: str, schema: Schema) -> int:
        """Check against every version (whatever the registry's own setting is), then register."""
        known = await self._versions(subject)
        if schema not in known:
            require_compatible(subject, schema, known)
        answer = await self._call("POST", f"/subjects/{subject}/versions", {"schema": json.dumps(schema)})
        if answer.status_code == _CONFLICT:
            raise IncompatibleSchemaError(f"the registry refuses schema {subject}: {_message(answer)}")
        return int(_succeeded(answer)["id"])

    async def schema(self, schema_id: int) -> Schema:
        """Look the schema up."""
        answer = await self._call("GET", f"/schemas/ids/{schema_id}")
        if answer.status_code == _NOT_FOUND:
            raise UnknownSchemaError(f"no schema has the id {schema_id}")
        return dict(json.loads(_succeeded(answer)["schema"]))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _versions(self, subject: str) -> Sequence[Schema]:
        answer = await self._call("GET", f"/subjects/{subject}/versions")
        if answer.status_code == _NOT_FOUND:
            return []
        versions = [await self._call("GET", f"/subjects/{subject}/versions/{n}") for n in _succeeded(answer)]
        return [json.loads(_succeeded(version)["schema"]) for version in versions]

    @stamina.retry(on=httpx.TransportError, attempts=5, timeout=30)
    async def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> httpx.Response:
        content = None if body is None else json.dumps(body)
        return await self._client.request(method, path, content=content, headers={"content-type": _MEDIA_TYPE})


def _succeeded(answer: httpx.Response) -> Any:
    if answer.is_error:
        raise RuntimeError(f"schema registry: {answer.request.method} {answer.request.url.path}: {_message(answer)}")
    return answer.json()


def _message(answer: httpx.Response) -> str:
    return f"HTTP {answer.status_code} {answer.text[:500]}"
