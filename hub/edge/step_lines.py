"""Step lines: the steps of a record's history as a person reads them, on a terminal or on a page."""

from hub.edge.inquiry import Json
from hub.edge.output import text

WHAT = {"begins": "new", "ends": "now part of another", "deleted": "deleted", "restored": "back"}


def who(step: Json) -> str:
    """Who or what it was about: a record and its author, a golden record, or who deployed."""
    if step["kind"] == "deployment":
        return str(step["author"])
    if step["kind"] in ("merge", "unmerge", "move"):
        return str(step["golden_id"])
    author = f" ({step['author']})" if step.get("author") else ""
    return "/".join(str(step.get(n)) for n in ("system", "object", "external_id")) + author


def said(step: Json) -> str:
    """What was said or done."""
    if step["kind"] == "deployment":
        return f"configuration {step['version']} in place of {step['former']}: {step['reason']}"
    if step["kind"] == "move":
        return f"{step['record']} moved here: {step['reason']}"
    if step["kind"] in ("merge", "unmerge"):
        return f"{step['kind']} {'into' if step['kind'] == 'merge' else 'from'} {step['into']}: {step['reason']}"
    if step["kind"] == "receipt":
        written = step.get("written", {})
        return f"{step.get('op')} {step.get('outcome')} " + ", ".join(f"{n}={text(v)}" for n, v in written.items())
    return f"{step.get('op')} " + ", ".join(f"{n}={text(v)}" for n, v in step.get("fields", {}).items())


def became(step: Json) -> str:
    """What it changed, a line for each."""
    lines = [f"{link['system']}/{link['external_id']} is {link['golden_id']}" for link in step["links"]]
    for change in step["changes"]:
        lines += [f"{change['golden_id']}: {WHAT[change['what']]}"] if change["what"] in WHAT else []
        lines += [f"{n}: {_side(f, 'before')} -> {_side(f, 'after')}" for n, f in change["fields"].items()]
    return "\n".join(lines)


def _side(field: Json, side: str) -> str:
    return text(field[side]) if side in field else "unknown"
