"""Batch operations: calls that run in the background, their answers fetched afterwards as a tar.gz of JSON files.

An answer's body is JSON inside a JSON text, and the answers may be spread over several files, as with the real service.
"""

from __future__ import annotations

import asyncio
import io
import tarfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

import orjson

from connectors.mailchimp.sandbox.members import demand
from connectors.mailchimp.sandbox.state import Account, ApiError, Batch, digest, invalid, not_found
from connectors.mailchimp.sandbox.views import Call, Handler, Json, batch_view, page

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
MAX_PENDING = 500
MAX_OPERATIONS = 50_000
PER_FILE = 500
BREATH = 50
"""How many operations run before others get a turn."""

Run = Callable[[str, str, Call], Awaitable[tuple[int, Any]]]
"""Method, path and a call that lacks its path parameters -> the answer's status and JSON (None for no body)."""


class Batches:
    """Starts, shows and drops batches; `run` serves one operation as if it had come by HTTP."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._tasks: set[asyncio.Task[None]] = set()

    def routes(self) -> tuple[tuple[str, str, Handler], ...]:
        """The operations on batches."""
        return (
            ("GET", "/batches", _list),
            ("POST", "/batches", self.start),
            ("GET", "/batches/{batch_id}", lambda call: batch_view(call.account, _batch(call))),
            ("DELETE", "/batches/{batch_id}", self.drop),
        )

    def start(self, call: Call) -> Json:
        """Take the operations and answer at once; they run in the order given."""
        demand(call.body, "operations")
        operations = call.body["operations"]
        if not 1 <= len(operations) <= MAX_OPERATIONS:
            raise invalid(("operations", f"Please provide between 1 and {MAX_OPERATIONS} operations"))
        if any(_is_wrong(operation) for operation in operations):
            raise invalid(("operations", "Each operation needs a method and a relative path"))
        if sum(batch.status != "finished" for batch in call.account.batches.values()) >= MAX_PENDING:
            raise ApiError(429, "Too Many Requests", f"You have more than {MAX_PENDING} pending batches.")
        number = digest("batch", call.account.number(), length=10)
        url = f"{call.base_url}/batch-results/{number}-response.tar.gz"
        batch = call.account.batches[number] = Batch(number, call.account.now(), len(operations), url)
        task = asyncio.create_task(self._work(batch, operations, call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return batch_view(call.account, batch)

    def drop(self, call: Call) -> None:
        """Forget a batch; what of it has not run yet never will."""
        del call.account.batches[_batch(call).id]

    async def _work(self, batch: Batch, operations: list[Json], call: Call) -> None:
        answers = []
        await asyncio.sleep(0)
        batch.status = "started"
        for operation in operations:
            if batch.id not in call.account.batches:
                return
            status, answer = await self._one(operation, call)
            batch.finished += 1
            batch.errored += status >= 400
            answers.append(
                {
                    "status_code": status,
                    "operation_id": operation.get("operation_id"),
                    "response": orjson.dumps(answer).decode() if answer is not None else "",
                }
            )
            if batch.finished % BREATH == 0:
                await asyncio.sleep(0)
        batch.archive = pack(answers)
        batch.status, batch.completed_at = "finished", call.account.now()

    async def _one(self, operation: Json, call: Call) -> tuple[int, Any]:
        path, _, query = str(operation["path"]).partition("?")
        params = {str(name): str(value) for name, value in dict(operation.get("params") or {}).items()}
        params |= dict(pair.partition("=")[::2] for pair in query.split("&") if pair)
        try:
            body = orjson.loads(operation.get("body") or "{}")
        except orjson.JSONDecodeError:
            return 400, {"title": "JSON Parse Error", "status": 400, "detail": "Malformed body", "instance": ""}
        inner = replace(call, path={}, query=params, body=body if isinstance(body, dict) else {})
        return await self._run(operation["method"], "/" + path.strip("/"), inner)


def _is_wrong(operation: Any) -> bool:
    if not isinstance(operation, Mapping) or operation.get("method") not in METHODS:
        return True
    return not isinstance(operation.get("path"), str) or "://" in operation["path"]


def _list(call: Call) -> Json:
    """The batches, the newest first."""
    newest = list(reversed(call.account.batches.values()))
    return page(call, "batches", newest, lambda batch: batch_view(call.account, batch))


def _batch(call: Call) -> Batch:
    return finished(call.account, call.path["batch_id"])


def finished(account: Account, batch_id: str) -> Batch:
    """The batch with this id; ApiError 404 where there is none."""
    found = account.batches.get(batch_id)
    if found is None:
        raise not_found()
    return found


def pack(answers: list[Json]) -> bytes:
    """Answers as a tar.gz of JSON files with up to 500 answers each."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for start in range(0, len(answers), PER_FILE):
            body = orjson.dumps(answers[start : start + PER_FILE])
            info = tarfile.TarInfo(f"./{digest('file', start, length=10)}.json")
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return packed.getvalue()
