"""Lists that do not show everything, in Mailchimp's shape: the body of an answer, spoiled by a fault."""

from __future__ import annotations

from typing import Any

from connectors.kit.sandbox import Fault


def spoil(fault: Fault, body: Any) -> Any:
    """The body of a list with what the fault makes of it; any other body as it is. Members are hidden by contact id,
    their fields by name and merge fields by tag; a count that shows no members is left alone."""
    if not isinstance(body, dict) or "total_items" not in body:
        return body
    name = next((key for key, value in body.items() if isinstance(value, list)), "")
    rows, total = body.get(name, []), body["total_items"]
    match fault.kind:
        case "truncated" if name:
            return {**body, name: rows[: len(rows) // 2]}
        case "empty" if name:
            return {**body, name: [], "total_items": 0}
        case "empty":
            return {**body, "total_items": 0}
        case "miscounted":
            return {**body, "total_items": total + 1}
        case "narrowed" if name:
            shown = [_without(row, fault.hide) for row in rows if row.get("contact_id") not in fault.hide]
            return {**body, name: shown, "total_items": total - (len(rows) - len(shown))}
    return body


def _without(row: dict[str, Any], names: list[str]) -> dict[str, Any]:
    kept = {name: value for name, value in row.items() if name not in names}
    merge = {tag: value for tag, value in (row.get("merge_fields") or {}).items() if tag not in names}
    return {**kept, "merge_fields": merge} if "merge_fields" in row else kept
