"""Pages of records: a golden record as it is or was, where each value comes from, and all that happened to it.

Plain HTML from the server, for any browser, with nothing to load and nothing that runs: all that a system or a person said
stands in it as text. Whoever may ask below /api may see the pages (see `access`).
"""

import base64
import hashlib
from collections.abc import Container, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from string import Template
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from hub.edge import history, reasons
from hub.edge.inquiry import Json
from hub.edge.output import text
from hub.edge.report import style
from hub.edge.step_lines import became, said, who
from hub.edge.web_past import STEPS, At
from hub.errors import Reject
from streams.context import Context

STATUS = {"unknown": 404, "too-long": 413}
LONGEST = 500
"""Characters of a name, and of a cell."""


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def mount(app: FastAPI, context: Context) -> None:
    """Add the pages below /records."""

    @app.get("/records", include_in_schema=False)
    async def search(entity: str = "", name: str = "", at: str = "") -> Response:
        if entity in context.model.entities and name.strip():
            return RedirectResponse(link(entity, name.strip()[:LONGEST], at=at.strip()), 303)
        return page(context, "Records", Html("<h1>Records</h1><p>Say which record you want to see.</p>"))

    @app.get("/records/{entity}/{name:path}", include_in_schema=False)
    async def record(request: Request, entity: str, name: str, at: At = None, why: str = "") -> Response:
        asked = {"entity": entity, "name": name, "at": at or ""}
        try:
            body = await _body(context, entity, name[:LONGEST], at or None, why)
        except Reject as error:
            problem = Html(f"<h1>{escape(name[:LONGEST])}</h1><p role=alert>{escape(error.reason)}</p>")
            return page(context, name, problem, asked, STATUS.get(error.code, 400))
        return page(context, name, body, asked)


def link(entity: str, name: str, **query: str) -> str:
    """The address of a record's page."""
    given = {key: value for key, value in query.items() if value}
    return f"/records/{quote(entity, safe='')}/{quote(name, safe='')}" + (f"?{urlencode(given)}" if given else "")


def page(context: Context, title: str, body: Html, asked: Json | None = None, status: int = 200) -> HTMLResponse:
    """A whole page with its search box."""
    asked = asked or {}
    options = "".join(
        f"<option{' selected' if name == asked.get('entity') else ''}>{escape(name)}</option>"
        for name in sorted(context.model.entities)
    )
    template = Template(files("hub.edge").joinpath("record.html").read_text(encoding="utf-8"))
    made = template.substitute(
        title=escape(title), style=style(), entities=options, name=escape(asked.get("name", "")),
        at=escape(asked.get("at", "")), body=body,
    )  # fmt: skip
    return HTMLResponse(made, status, headers())


@cache
def headers() -> dict[str, str]:
    """What a browser may do with a page: show it in this very style, send its form here, and nothing else."""
    digest = base64.b64encode(hashlib.sha256(style().encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    return {
        "content-security-policy": policy, "x-content-type-options": "nosniff", "referrer-policy": "no-referrer",
        "cache-control": "no-store",
    }  # fmt: skip


async def _body(context: Context, entity: str, name: str, at: str | None, why: str) -> Html:
    found = await history.show(context, entity, name, at, STEPS)
    steps = await history.history(context, entity, name, STEPS)
    here = {"entity": entity, "name": name}
    parts = [_head(found, here), _fields(found, here)]
    if why:
        parts.insert(1, _why(await reasons.why(context, entity, name, why, at, limit=STEPS), here))
    return Html("".join([*parts, _systems(found), _steps(steps, found, here)]))


def _head(found: Json, here: Json) -> Html:
    when = f"as of {escape(found['at'])} (" + str(_anchor(link(**here), "now")) + ")" if found["at"] else "as of now"
    gone = " · deleted" if found["deleted"] else ""
    configuration = f"<code>{escape(found['configuration'])}</code>"
    return Html(
        f"<h1>{escape(found['golden_id'])}</h1><p>{escape(found['entity'])}, {when}{gone} · configuration {configuration}</p>"
    )


def _fields(found: Json, here: Json) -> Html:
    at = found["at"] or ""
    rows = [
        (name, f["value"], _source(f), f["rule"] + (f" (pinned by {f['pinned_by']})" if f["pinned_by"] else ""),
         f.get("at", ""), _moment(here, f["event_id"]), _anchor(link(**here, at=at, why=name), "why", f"why {name}"))
        for name, f in sorted(found["fields"].items())
    ]  # fmt: skip
    return table("Fields", ("field", "value", "from", "rule", "when", "event", ""), rows)


def _source(field: Json) -> str:
    return "/".join(filter(None, (field["system"], field["external_id"])))


def _systems(found: Json) -> Html:
    rows = [
        ("/".join((r["system"], r["object"], r["external_id"])), "gone" if r["gone"] else "", name, value)
        for r in found["records"]
        for name, value in (r["holds"] or {"": ""}).items()
    ]
    return table("Systems", ("record", "", "field", "holds"), rows)


def _steps(steps: Sequence[Json], found: Json, here: Json) -> Html:
    """The newest first; the one that the page stands at is marked."""
    stands = (found["after"] or {}).get("processed")
    rows = [
        (Html(f"<time>{escape(s['processed_at'])}</time>"), _moment(here, s["id"] or s["processed_at"], "go there"),
         who(s), s.get("channel") or s["kind"], said(s), became(s))
        for s in reversed(steps)
    ]  # fmt: skip
    marked = {n for n, s in enumerate(reversed(steps)) if s["processed"] == stands}
    return table("History", ("processed", "", "by", "channel", "what", "changed"), rows, marked)


def _why(told: Json, here: Json) -> Html:
    rows = [("wins", told["value"], *_claim(told["winner"], here))] if told["winner"] else []
    rows += [(one["reason"], one["value"], *_claim(one, here)) for one in told["losers"]]
    pin = (
        f"<p>Pinned by {escape(str(told['pin']['author']))}: {escape(str(told['pin']['reason']))}</p>"
        if told["pin"]
        else ""
    )
    head = f"<p>By the rule <code>{escape(told['rule'])}</code>, version <code>{escape(told['rule_version'])}</code>.</p>{pin}"
    columns = ("", "value", "from", "channel", "by", "when", "event", "payload")
    return Html(f"<section id=why><h2>Why {escape(told['field'])}</h2>{head}{table('Claims', columns, rows)}</section>")


def _claim(one: Json, here: Json) -> tuple[Any, ...]:
    place = "/".join(filter(None, (one.get("system"), one.get("object"), one.get("external_id"))))
    when = (one.get("channel", ""), one.get("author") or "", one.get("at", ""))
    return (place, *when, _moment(here, one.get("event_id") or ""), one.get("payload", ""))


def _moment(here: Json, at: str, words: str = "") -> Any:
    """A way to the record as it was after an event, or at an instant."""
    return _anchor(link(**here, at=at), words or at[:12], f"the record after {at}") if at else ""


def _anchor(address: str, words: str, title: str = "") -> Html:
    named = f' title="{escape(title)}" aria-label="{escape(title)}"' if title else ""
    return Html(f'<a href="{escape(address)}"{named}>{escape(words)}</a>')


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], marked: Container[int] = ()) -> Html:
    """A part of the page that can be folded away; every cell as text, but for what is markup already."""
    head = "".join(f"<th scope=col>{escape(name)}</th>" for name in columns)
    lines = "".join(
        f"<tr{' class=now aria-current=true' if n in marked else ''}>{''.join(map(_cell, row))}</tr>"
        for n, row in enumerate(rows)
    )
    return Html(
        f"<details open><summary>{escape(title)} <span>{len(rows):,}</span></summary><div tabindex=0 role=region"
        f' aria-label="{escape(title)}"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div></details>'
    )


def _cell(cell: Any) -> str:
    if isinstance(cell, Html):
        return f"<td>{cell}</td>"
    shown = text(cell)
    return f"<td>{escape(shown[:LONGEST])}{'…' if len(shown) > LONGEST else ''}</td>"
