"""Holds what the systems contain in the end against what the oracle expects, record by record and field by field."""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import httpx

from hub.edge.demo.data import World
from tests.oracle import Key, Thing, read, records
from tests.oracle_maps import MAPS, TYPES

ACCOUNTS = (
    ("company", "crm"), ("company", "hubspot"), ("contact", "crm"), ("contact", "hubspot"), ("contact", "mailchimp"),
    ("deal", "crm"), ("deal", "hubspot"), ("engagement", "crm"), ("engagement", "hubspot"),
)  # fmt: skip


@dataclass
class Account:
    """What one system turned out to hold of one kind of thing, and which thing each record is."""

    system: str
    entity: str
    found: dict[Key, dict[str, Any]] = field(default_factory=dict)
    things: dict[Key, Thing] = field(default_factory=dict)


def judge(things: Sequence[Thing], after: World) -> list[str]:
    """What is wrong with the systems' final contents, in words; empty where everything is as expected.

    `after` has the shape of the world at first, with all objects that the hub may have written; archived records are
    left out.
    """
    accounts = {(entity, system): Account(system, entity) for entity, system in ACCOUNTS}
    for record in records(after):
        if account := accounts.get((MAPS[record.key[:2]][0], record.key[0])):
            account.found[record.key] = read(record)
    problems: list[str] = []
    home: dict[Key, Key] = {}
    for account in accounts.values():  # parents first: what is new is also known by what it refers to
        problems += _match(account, things, home)
        home |= {key: thing.name for key, thing in account.things.items()}
    for account in accounts.values():
        problems += [
            problem for key, thing in account.things.items() for problem in _compare(account, key, thing, home)
        ]
    return problems


def _match(account: Account, things: Sequence[Thing], home: dict[Key, Key]) -> Iterator[str]:
    """Find each thing's records: those it had, else a new one that looks like it. Each is used once."""
    new, lacking = dict(account.found), []
    for thing in (thing for thing in things if thing.entity == account.entity):
        theirs = [key for key in _known(account.system, thing) if new.pop(key, None) is not None]
        account.things |= dict.fromkeys(theirs, thing)
        if thing.gone:
            yield from (f"{thing.name} was deleted, but {key} is still there" for key in theirs)
        elif not theirs and _belongs(account.system, thing):
            lacking.append(thing)
    yield from _match_new(account, lacking, new, home)


def _match_new(
    account: Account, lacking: list[Thing], new: dict[Key, dict[str, Any]], home: dict[Key, Key]
) -> Iterator[str]:
    held = {_email(thing) for thing in account.things.values()}
    there = {name for key, name in home.items() if key[0] == account.system}
    looks: dict[Any, list[Key]] = defaultdict(list)
    for key, values in new.items():
        looks[_look(account.entity, values, home)].append(key)
    wanted: dict[Any, list[Thing]] = defaultdict(list)
    for thing in lacking:
        wanted[_look(account.entity, _seen(thing, there), {})].append(thing)
    for look, alike in wanted.items():
        for key, thing in _paired(account, looks[look], alike, home):
            looks[look].remove(key)
            alike.remove(thing)
            account.things[key] = thing
            held.add(_email(thing))
    for thing in (thing for alike in wanted.values() for thing in alike):
        if _refers_to(thing) <= there and (account.system == "crm" or _email(thing) not in held - {""}):
            # In HubSpot and Mailchimp nobody shares an address, and what belongs to somebody who is not there waits.
            yield f"{account.system} lacks {thing.name}: {thing.values}"
    yield from (f"nothing asks for {key}: {new[key]}" for keys in looks.values() for key in keys)


def _paired(
    account: Account, keys: Sequence[Key], things: Sequence[Thing], home: dict[Key, Key]
) -> list[tuple[Key, Thing]]:
    """New records and things that look alike, the most alike first. Of two people with one address either may have come
    first, and the other not at all."""
    pairs = [(len(_differences(account, key, thing, home)), key, n) for key in keys for n, thing in enumerate(things)]
    found: dict[Key, int] = {}
    for _, key, n in sorted(pairs):
        if key not in found and n not in found.values():
            found[key] = n
    return [(key, things[n]) for key, n in found.items()]


def _known(system: str, thing: Thing) -> list[Key]:
    """The records a thing had; a member is known by address, which may have become the golden one."""
    keys = [key for key in thing.records if key[0] == system and key[1] != "activity"]
    if system == "mailchimp" and keys and _email(thing):
        keys.append(("mailchimp", "members", _email(thing)))
    return keys


def _belongs(system: str, thing: Thing) -> bool:
    """Whether a thing without a record in a system must get one."""
    if system in thing.detached:
        return False
    return system != "mailchimp" or (thing.one("consent") == "in" and bool(_email(thing)))


def _seen(thing: Thing, there: set[Key]) -> dict[str, Any]:
    """A thing's values as a system can hold them that has just these other things."""
    values = {name: thing.one(name) for name in thing.values}
    return {n: None if TYPES[thing.entity][n] == "ref" and v not in there else v for n, v in values.items()}


def _refers_to(thing: Thing) -> set[Key]:
    return {thing.one(name) for name, kind in TYPES[thing.entity].items() if kind == "ref" and thing.one(name)}


def _email(thing: Thing) -> str:
    return thing.one("email") or "" if thing.entity == "contact" else ""


def _look(entity: str, values: dict[str, Any], home: dict[Key, Key]) -> Any:
    """By what a new record is recognised; a reference by what `home` says that it refers to."""
    if entity == "contact":
        return values.get("email") or tuple(values.get(name) for name in ("first_name", "last_name", "phone"))
    if entity == "engagement":
        whom = values.get("contact")
        return (values.get("kind"), values.get("occurred_at"), home.get(whom, whom) if whom else None)
    return values.get("name")


def _compare(account: Account, key: Key, thing: Thing, home: dict[Key, Key]) -> Iterator[str]:
    """A member who opted out is told nothing more, and one who left by himself can only come back by himself."""
    if thing.gone:
        return
    held = account.found[key]
    subscribed = account.system != "mailchimp" or (held["consent"] and held["consent"][0] == "in")
    if not subscribed and (thing.left or thing.one("consent") != "in"):
        return
    for name in _differences(account, key, thing, home):
        yield f"{key} has {name} {held.get(name)!r}, not {thing.values.get(name)!r}"


def _differences(account: Account, key: Key, thing: Thing, home: dict[Key, Key]) -> list[str]:
    """The fields in which a record is not as it should be. Where nobody knows a value, a record keeps what it had; and
    it cannot refer to what is not in its system."""
    wrong, had = [], key in _known(account.system, thing)
    there = {name for other, name in home.items() if other[0] == account.system}
    for name in MAPS[key[:2]][1]:
        kind, held = TYPES[thing.entity][name], account.found[key].get(name)
        if had and name not in thing.values:
            continue
        if kind == "ref":
            held = home.get(held, held) if held else None
            if held is None and home and not there & set(thing.values.get(name, ())):
                continue
        if kind == "consent":
            held = held[0] if held else None
        if loose(held) not in map(loose, thing.values.get(name, [None])):
            wrong.append(name)
    return wrong


def loose(value: Any) -> Any:
    """What is left of a value where a system may trim it, fold its case, or call an empty list nothing."""
    if isinstance(value, str):
        return " ".join(value.split()).casefold() or None
    return value or None if isinstance(value, list) else value


async def contents(crm: asyncpg.Connection, hubspot: str, mailchimp: str, api_key: str) -> World:
    """What the systems hold now, in the shape of a world; the URLs are the sandboxes'. Archived records are left out."""
    tables = ("companies", "contacts", "deals", "engagements")
    rows = {table: [dict(row) for row in await crm.fetch(f"select * from {table} order by id")] for table in tables}
    async with httpx.AsyncClient(timeout=60, auth=("any", api_key)) as http:
        state = (await http.get(f"{hubspot}/_sandbox/state")).raise_for_status().json()
        lists = (await http.get(f"{mailchimp}/3.0/lists")).raise_for_status().json()["lists"]
        members = [member async for member in _members(http, f"{mailchimp}/3.0/lists/{lists[0]['id']}/members")]
    live = {name: [r for r in held if not r["archived"]] for name, held in state["objects"].items()}
    return World(rows, {**live, "associations": state["associations"]}, {"lists": [{"members": members}]})


async def _members(http: httpx.AsyncClient, url: str) -> AsyncIterator[dict[str, Any]]:
    offset, total = 0, 1
    while offset < total:
        page = (await http.get(url, params={"count": 1000, "offset": offset})).raise_for_status().json()
        for member in page["members"]:
            yield member | {"tags": [tag["name"] for tag in member["tags"]]}
        offset, total = offset + 1000, page["total_items"]
