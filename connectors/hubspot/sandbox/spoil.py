"""Lists and search results that do not show everything, in HubSpot's shape: the body of an answer, spoiled by a fault."""

from __future__ import annotations

from typing import Any

from connectors.kit.sandbox import Fault


def spoil(fault: Fault, body: Any) -> Any:
    """The body of a list or search with what the fault makes of it; any other body as it is."""
    if not isinstance(body, dict) or not isinstance(body.get("results"), list):
        return body
    results, total = body["results"], body.get("total")
    match fault.kind:
        case "truncated":
            return _counted({**_last(body), "results": results[: len(results) // 2]}, total)
        case "empty":
            return _counted({**_last(body), "results": []}, 0 if total is not None else None)
        case "miscounted":
            return _counted(body, total + 1 if total is not None else None)
    shown = [_without(record, fault.hide) for record in results if record["id"] not in fault.hide]
    ids = sum(item.isdecimal() for item in fault.hide)
    return _counted({**body, "results": shown}, max(0, total - ids) if total is not None else None)


def _last(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != "paging"}


def _counted(body: dict[str, Any], total: int | None) -> dict[str, Any]:
    return body if total is None else {**body, "total": total}


def _without(record: dict[str, Any], names: list[str]) -> dict[str, Any]:
    properties = record.get("properties") or {}
    return {**record, "properties": {name: value for name, value in properties.items() if name not in names}}
