"""A schema registry in memory, written from the public description of the Confluent REST API (version 7 and 8).

Checks compatibility against the latest version only, as a registry does by default; so a client that wants more must look
at the older versions itself.
"""

import base64
import json
from dataclasses import dataclass, field
from typing import Any

import avro.compatibility
import avro.schema
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

USER = ("registrar", "secret-of-the-registry")


@dataclass
class Store:
    """Schemas by id, and the ids of each subject's versions; the calls that were made."""

    schemas: list[str] = field(default_factory=list)
    subjects: dict[str, list[int]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    unauthorised: int = 0


def error(status: int, code: int, message: str) -> JSONResponse:
    return JSONResponse({"error_code": code, "message": message}, status)


def same(one: str, other: str) -> bool:
    return bool(json.loads(one) == json.loads(other))


def readable(new: str, old: str) -> bool:
    checker = avro.compatibility.ReaderWriterCompatibilityChecker()
    result = checker.get_compatibility(avro.schema.parse(new), avro.schema.parse(old))
    return bool(result.compatibility is avro.compatibility.SchemaCompatibilityType.compatible)


def registry_app(store: Store) -> FastAPI:  # noqa: C901 - one function per route
    app = FastAPI()

    @app.middleware("http")
    async def check_user(request: Request, go_on: Any) -> Any:
        store.calls.append(f"{request.method} {request.url.path}")
        expected = "Basic " + base64.b64encode(":".join(USER).encode()).decode()
        if request.headers.get("authorization") != expected:
            store.unauthorised += 1
            return error(401, 401, "Unauthorized")
        return await go_on(request)

    @app.get("/schemas/ids/{schema_id}")
    async def by_id(schema_id: int) -> Any:
        if not 1 <= schema_id <= len(store.schemas):
            return error(404, 40403, "Schema not found")
        return {"schema": store.schemas[schema_id - 1]}

    @app.get("/subjects/{subject}/versions")
    async def versions(subject: str) -> Any:
        if subject not in store.subjects:
            return error(404, 40401, f"Subject '{subject}' not found.")
        return list(range(1, len(store.subjects[subject]) + 1))

    @app.get("/subjects/{subject}/versions/{version}")
    async def version(subject: str, version: int) -> Any:
        ids = store.subjects.get(subject, [])
        if not 1 <= version <= len(ids):
            return error(404, 40402, "Version not found.")
        schema_id = ids[version - 1]
        return {"subject": subject, "id": schema_id, "version": version, "schema": store.schemas[schema_id - 1]}

    @app.post("/subjects/{subject}/versions")
    async def register(subject: str, request: Request) -> Any:
        schema = json.loads(await request.body())["schema"]
        ids = store.subjects.get(subject, [])
        for schema_id in ids:
            if same(store.schemas[schema_id - 1], schema):
                return {"id": schema_id}
        if ids and not readable(schema, store.schemas[ids[-1] - 1]):
            return error(409, 409, "Schema being registered is incompatible with an earlier schema")
        store.schemas.append(schema)
        store.subjects.setdefault(subject, []).append(len(store.schemas))
        return {"id": len(store.schemas)}

    return app
