"""Workers: who folds and projects buckets, several at once. What is done by columns runs side by side in threads of this
process; a large rebuild with much to do in Python is given to processes instead."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Any

from hub.model import Model
from streams import bulk_work
from streams.bulk_hear import composed
from streams.bulk_project import simple
from streams.bulk_work import Files

LoadModel = Callable[[], Model]
"""Makes the model in another process; must be picklable."""
FEW = 100_000  # events that are folded sooner than a process has started

_model: list[Model] = []


class Workers:
    """`count` buckets are worked on at once: one more than there are cores, for one or another waits for PostgreSQL."""

    def __init__(self, model: Model, events: int, load_model: LoadModel | None) -> None:
        self._own, self._load = model, load_model
        self.count = min((os.cpu_count() or 1) + 1, 8) if events > FEW else 1
        self.apart = load_model is not None and self.count > 1 and not by_columns(model)
        self._pool: ProcessPoolExecutor | None = None

    async def __aenter__(self) -> "Workers":
        if self._load and self.apart:
            context = get_context("spawn")
            self._pool = ProcessPoolExecutor(self.count, context, initializer=_start, initargs=(self._load,))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._pool:
            self._pool.shutdown(wait=False, cancel_futures=True)

    async def fold(self, files: Files, bucket: int) -> tuple[int, int]:
        """See streams.bulk_work.fold."""
        return await self._do("fold", files, bucket)

    async def project(self, files: Files, bucket: int) -> int:
        """See streams.bulk_work.project."""
        return await self._do("project", files, bucket)

    async def _do(self, what: str, files: Files, bucket: int) -> Any:
        if self._pool:
            return await asyncio.get_running_loop().run_in_executor(self._pool, _there, what, files, bucket)
        return await asyncio.to_thread(getattr(bulk_work, what), self._own, files, bucket)


def by_columns(model: Model) -> bool:
    """Whether claims and golden records are found by columns alone."""
    every_rule = all(simple(field) for entity in model.entities.values() for field in entity.fields.values())
    return every_rule and all(composed(mapping) is None for mapping in model.mappings.values())


def _start(load: LoadModel) -> None:
    """A worker process gets its model, and ends with the process that started it."""
    Thread(target=_end_with_parent, daemon=True).start()
    _model.append(load())


def _end_with_parent() -> None:
    if parent := parent_process():
        parent.join()
        os._exit(1)


def _there(what: str, files: Files, bucket: int) -> Any:
    return getattr(bulk_work, what)(_model[0], files, bucket)
