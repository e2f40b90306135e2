"""Web answers of the past: a golden record as it is or was, its history, and why a field has its value."""

from typing import Annotated, Any

from fastapi import FastAPI, Query

from hub.edge import history, inquiry, reasons
from streams.context import Context

STEPS = 2_000
"""Of a thing with more, the web application does not tell the past; the commands do."""

At = Annotated[str | None, Query(max_length=64, description="an instant (ISO 8601, UTC), or an event's id")]


def mount(app: FastAPI, context: Context) -> None:
    """Add the answers below /api/v1."""

    @app.get("/api/v1/{entity}/{name:path}/history")
    async def told(entity: str, name: str) -> list[dict[str, Any]]:
        return await history.history(context, entity, name, STEPS)

    @app.get("/api/v1/{entity}/{name:path}/why/{field}")
    async def why(entity: str, name: str, field: str, at: At = None, proof: bool = False) -> dict[str, Any]:
        return await reasons.why(context, entity, name, field, at, proof, STEPS)

    @app.get("/api/v1/{entity}/{name:path}")
    async def show(entity: str, name: str, at: At = None) -> dict[str, Any]:
        if at is None:
            return await inquiry.show(context, entity, name)
        return await history.show(context, entity, name, at, STEPS)
