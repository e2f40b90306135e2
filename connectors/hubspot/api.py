"""HubSpot's CRM API, version 3 (associations: 4): one method per endpoint that the connector uses.

Endpoints and shapes: the official SDK hubspot-api-client 12 and developers.hubspot.com/docs/api-reference. Batches take
at most 100 inputs; longer lists are cut here for reads, and by the caller for writes.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from connectors.kit.allowance import Told
from connectors.kit.budget import Budget
from connectors.kit.http import Answer, Http, Vendor

BATCH = 100
SEARCH_PAGE = 200
Json = dict[str, Any]
Item = TypeVar("Item")
# Contact to company, company to contact, deal to company, company to deal: hubspot.crm.association_type of the SDK.
PRIMARY = frozenset({1, 2, 5, 6})


def words(error: Json) -> tuple[str, str]:
    """What an error says, shortest first: "property: what is wrong with it", and its code or else its category."""
    details = [d for d in error.get("errors") or [] if isinstance(d, dict)][:3]
    said = "; ".join(_detail(d) for d in details if d.get("message")) or str(error.get("message", ""))
    code = next((str(d["code"]) for d in details if d.get("code")), str(error.get("category") or ""))
    return said, code


def _detail(detail: Json) -> str:
    context = detail.get("context") or {}
    wanted = context.get("requiredGranularScopes") or context.get("requiredScopes") or []
    name = next(iter(context.get("propertyName") or []), "")
    needs = f" (needs the scope {', '.join(map(str, wanted))})" if wanted else ""
    return (f"{name}: " if name else "") + str(detail["message"])[:200] + needs


def _told(answer: Answer) -> Told | None:
    """The counts of the window and of the day (the latter for apps of one account only). Searches tell none."""
    names = ("max", "remaining", "daily", "daily-remaining")
    most, left, daily_most, daily_left = (_number(answer.headers.get(f"x-hubspot-ratelimit-{name}")) for name in names)
    if answer.status == 429 and _policy(answer, "DAILY"):
        daily_left = 0
    if most is None and daily_left is None:
        return None
    return Told(most, left, daily_most, daily_left)


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def _policy(answer: Answer, name: str) -> bool:
    """Whether a 429 names this limit."""
    return f'"{name}"'.encode() in answer.body


def _wait(answer: Answer) -> float:
    """Seconds to wait after a 429, by the limit it names: a day's calls being used up passes at midnight only."""
    return 900.0 if _policy(answer, "DAILY") else 1.0


VENDOR = Vendor(reason=words, wait=_wait, special=lambda answer: _policy(answer, "SECONDLY"), told=_told)


class Api:
    """The endpoints. Errors are those of connectors.kit.http."""

    def __init__(self, http: Http, searches: Budget) -> None:
        self.http = http
        self._searches = searches

    async def page(
        self, object_: str, properties: Sequence[str], after: str, archived: bool = False
    ) -> tuple[Json, datetime]:
        """One page of all records, by id, straight from the database; and the vendor's clock."""
        params = {"limit": BATCH, "properties": ",".join(properties), "archived": str(archived).lower()}
        if after:
            params["after"] = after
        answer = await self.http.read("GET", "/crm/v3/objects/{object}", {"object": object_}, params=params)
        return _object(answer), _date(answer)

    async def search(
        self, object_: str, filters: Sequence[Json], properties: Sequence[str], sort: str
    ) -> tuple[Json, datetime]:
        """The first page of a search, and the vendor's clock; from an index that lags behind the database."""
        body = {
            "filterGroups": [{"filters": list(filters)}],
            "sorts": [{"propertyName": sort, "direction": "ASCENDING"}],
            "properties": list(properties),
            "limit": SEARCH_PAGE,
            "after": "0",
        }
        route = "/crm/v3/objects/{object}/search"
        answer = await self.http.read("POST", route, {"object": object_}, json=body, also=self._searches)
        return _object(answer), _date(answer)

    async def read(
        self,
        object_: str,
        ids: Sequence[str],
        properties: Sequence[str],
        id_property: str | None = None,
        archived: bool = False,
    ) -> list[Json]:
        """The records that exist, in no order; one that was merged away is answered as what it became."""
        found: list[Json] = []
        for some in _cut(ids):
            body: Json = {"inputs": [{"id": i} for i in some], "properties": list(properties)}
            body |= {"propertiesWithHistory": []} | ({"idProperty": id_property} if id_property else {})
            route, params = "/crm/v3/objects/{object}/batch/read", {"archived": str(archived).lower()}
            answer = await self.http.read("POST", route, {"object": object_}, json=body, params=params)
            found += _object(answer).get("results", [])
        return found

    async def count(self, object_: str) -> int:
        """How many live records the search knows; it counts all of them, although it shows 10,000 at most."""
        body = {"filterGroups": [], "properties": [], "limit": 1, "after": "0"}
        route = "/crm/v3/objects/{object}/search"
        answer = await self.http.read("POST", route, {"object": object_}, json=body, also=self._searches)
        return int(_object(answer)["total"])

    async def write(self, object_: str, verb: str, inputs: Sequence[Json]) -> Json:
        """One batch "update", "upsert" or "archive" of at most 100; {} where nothing is answered."""
        path = {"object": object_, "verb": verb}
        answer = await self.http.call("POST", "/crm/v3/objects/{object}/batch/{verb}", path, json={"inputs": inputs})
        return _object(answer)

    async def associated(self, object_: str, to: str, ids: Sequence[str]) -> dict[str, list[str]]:
        """Record id -> ids of its associated records, the primary one first, then by age."""
        path, route = {"from": object_, "to": to}, "/crm/v4/associations/{from}/{to}/batch/read"
        linked: dict[str, dict[str, bool]] = {i: {} for i in ids}
        asked: list[Json] = [{"id": i} for i in ids]
        while asked:
            more: list[Json] = []
            for some in _cut(asked):
                # A record without associations is answered as an error of its own in a 207; nothing is missing then.
                answer = await self.http.read("POST", route, path, json={"inputs": some})
                for row in _object(answer).get("results", []):
                    owner = str(row["from"]["id"])
                    linked.setdefault(owner, {}).update(_links(row))
                    if after := ((row.get("paging") or {}).get("next") or {}).get("after"):
                        more.append({"id": owner, "after": after})
            asked = more
        return {owner: sorted(links, key=lambda i: (not links[i], len(i), i)) for owner, links in linked.items()}

    async def associate(self, object_: str, to: str, pairs: Sequence[tuple[str, str]]) -> Json:
        """Add unlabelled associations (at most 100); one that exists stays as it is."""
        inputs = [{"from": {"id": one}, "to": {"id": other}} for one, other in pairs]
        route = "/crm/v4/associations/{from}/{to}/batch/associate/default"
        return _object(await self.http.call("POST", route, {"from": object_, "to": to}, json={"inputs": inputs}))

    async def dissociate(self, object_: str, to: str, pairs: Sequence[tuple[str, str]]) -> Json:
        """Remove every association of these pairs, whatever its label (at most 100)."""
        inputs = [{"from": {"id": one}, "to": [{"id": other}]} for one, other in pairs]
        route = "/crm/v4/associations/{from}/{to}/batch/archive"
        return _object(await self.http.call("POST", route, {"from": object_, "to": to}, json={"inputs": inputs}))

    async def properties(self, object_: str) -> dict[str, Json]:
        """The object's properties by name."""
        answer = await self.http.read("GET", "/crm/v3/properties/{object}", {"object": object_})
        return {p["name"]: p for p in _object(answer).get("results", [])}

    async def create_property(self, object_: str, definition: Json) -> None:
        """Define a property; Refusal 409 where it exists."""
        await self.http.call("POST", "/crm/v3/properties/{object}", {"object": object_}, json=definition)

    async def account(self) -> Json:
        """The account that the credentials belong to: portalId, accountType, ..."""
        return _object(await self.http.read("GET", "/account-info/v3/details"))


def existing_id(message: str) -> str | None:
    """The id that a conflict's message names ("Contact already exists. Existing ID: 123"); no field holds it."""
    match = re.search(r"Existing ID:\s*(\d+)", message)
    return match[1] if match else None


def _links(row: Json) -> dict[str, bool]:
    """Associated id -> whether it is the primary one."""
    return {
        str(to["toObjectId"]): any(
            t.get("category") == "HUBSPOT_DEFINED" and t.get("typeId") in PRIMARY
            for t in to.get("associationTypes", [])
        )
        for to in row.get("to", [])
    }


def _object(answer: Answer) -> Json:
    body = answer.json()
    return body if isinstance(body, dict) else {}


def _cut(items: Sequence[Item]) -> list[Sequence[Item]]:
    return [items[start : start + BATCH] for start in range(0, len(items), BATCH)]


def _date(answer: Answer) -> datetime:
    try:
        return parsedate_to_datetime(answer.headers["date"]).astimezone(UTC)
    except (KeyError, ValueError):
        return datetime.now(UTC)
