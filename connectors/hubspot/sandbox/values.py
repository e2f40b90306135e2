"""Property values: what HubSpot takes for each type, what it makes of it, and the errors for the rest."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import orjson

from connectors.hubspot.sandbox.errors import ApiError
from connectors.hubspot.sandbox.schema import ObjectType, Property

_EMAIL = re.compile(r"[^\s@<>()\[\],;:\\\"]{1,64}@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{1,62}")
_RESERVED = (".test", ".invalid", ".localhost", ".local", ".example")
_MAX_CHARS = 65_536
_DAY_MS = 86_400_000


class RefusedError(ValueError):
    """A value that HubSpot refuses, with its error code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@lru_cache(maxsize=65_536)
def iso(milliseconds: int) -> str:
    """An instant as HubSpot writes it: UTC, three digits of fraction, or none where they are zero."""
    at = datetime.fromtimestamp(milliseconds // 1000, UTC)
    fraction = milliseconds % 1000
    return at.strftime("%Y-%m-%dT%H:%M:%S") + (f".{fraction:03d}Z" if fraction else "Z")


@lru_cache(maxsize=65_536)
def parse_ms(text: str) -> int | None:
    """Epoch milliseconds of an ISO 8601 instant or date (UTC unless it says otherwise) or of a number of them."""
    if re.fullmatch(r"-?\d{1,15}", text):
        return int(text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return round(at.timestamp() * 1000)


def as_text(value: Any) -> str:
    """A JSON scalar as the text that is stored; null and the empty string both clear a property."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _string(definition: Property, text: str) -> str:
    if len(text) > _MAX_CHARS:
        raise RefusedError("INVALID_STRING", f"{definition.name} is longer than {_MAX_CHARS} characters.")
    return text.strip() if definition.field_type in ("text", "phonenumber") else text


def _number(_: Property, text: str) -> str:
    try:
        finite = Decimal(text).is_finite() and not any(char.isspace() or char == "_" for char in text)
    except InvalidOperation:
        finite = False
    if not finite:
        raise RefusedError("INVALID_NUMBER", f"{text} was not a valid number.")
    return text


def _datetime(_: Property, text: str) -> str:
    at = parse_ms(text)
    if at is None:
        raise RefusedError("INVALID_LONG", f"{text} was not a valid long.")
    return iso(at)


def _date(_: Property, text: str) -> str:
    at = parse_ms(text)
    if at is None:
        raise RefusedError("INVALID_DATE", f"{text} was not a valid date.")
    if at % _DAY_MS:
        seconds = at % _DAY_MS // 1000
        clock = f"{seconds // 3600}:{seconds // 60 % 60}:{seconds % 60}.{at % 1000}"
        raise RefusedError("INVALID_DATE", f"{at} is at {clock} UTC, not midnight!")
    return iso(at)[:10]


def _enumeration(definition: Property, text: str) -> str:
    if definition.open_options:
        return text
    chosen = text.split(";") if definition.field_type == "checkbox" else [text]
    for value in chosen:
        if value not in definition.values:
            raise RefusedError("INVALID_OPTION", f"{value} was not one of the allowed options: [{_listed(definition)}]")
    return text


def _listed(definition: Property) -> str:
    return ", ".join(
        f'label: "{option["label"]}"\nvalue: "{option["value"]}"\ndisplay_order: {option["displayOrder"]}\n'
        f"hidden: {str(option['hidden']).lower()}\nread_only: false\n"
        for option in definition.options
    )


_CHECKS: dict[str, Callable[[Property, str], str]] = {
    "string": _string,
    "number": _number,
    "datetime": _datetime,
    "date": _date,
    "enumeration": _enumeration,
    "bool": _enumeration,
}


def _email(text: str, reject_reserved: bool) -> str:
    address = text.strip().lower()
    if not _EMAIL.fullmatch(address) or (reject_reserved and address.endswith(_RESERVED)):
        raise RefusedError("INVALID_EMAIL", f"Email address {text} is invalid")
    return address


def domain_of(text: str) -> str:
    """A company's domain from what was typed: lower case, without scheme, `www.`, port and path."""
    text = text.strip().lower()
    host = urlsplit(text if "://" in text else f"//{text}").hostname or text
    return host.removeprefix("www.")


@dataclass(frozen=True, slots=True)
class Rules:
    """How values are checked in one account. `stages` maps each pipeline's id to its stages by id, in order."""

    portal_id: int
    definitions: Mapping[str, dict[str, Property]]
    stages: Mapping[str, Mapping[str, Any]]
    owners: Mapping[str, Any]
    reject_reserved: bool = False

    def clean(self, kind: ObjectType, given: Mapping[str, Any], current: Mapping[str, str]) -> dict[str, str]:
        """The values as HubSpot stores them, empty where one is cleared; one ApiError for all that are refused."""
        known = self.definitions[kind.type_id]
        cleaned: dict[str, str] = {}
        problems: list[tuple[str, str, RefusedError]] = []
        for name, value in given.items():
            text = as_text(value)
            try:
                cleaned[name] = self._one(kind, known.get(name), name, text)
            except RefusedError as problem:
                problems.append((name, text, problem))
        if kind.name == "deals":
            problems.extend(self._stage(cleaned, current))
        if problems:
            raise self._refusal(problems)
        return cleaned

    def _one(self, kind: ObjectType, definition: Property | None, name: str, text: str) -> str:
        if definition is None or definition.archived_at:
            raise RefusedError("PROPERTY_DOESNT_EXIST", f'Property "{name}" does not exist')
        if definition.read_only:
            raise RefusedError("READ_ONLY_VALUE", f'"{name}" is a calculated property; its value cannot be set.')
        if text == "":
            return ""
        if name == "email" and kind.name == "contacts":
            return _email(text, self.reject_reserved)
        if name == "domain" and kind.name == "companies":
            return domain_of(text)
        if name == "hubspot_owner_id" and text not in self.owners:
            raise RefusedError("INVALID_OWNER_ID", f"Owner {text} does not exist")
        return _CHECKS[definition.type](definition, text)

    def _stage(self, cleaned: dict[str, str], current: Mapping[str, str]) -> list[tuple[str, str, RefusedError]]:
        """A deal's stage must be one of its pipeline's; the first pipeline is the default."""
        after = {**current, **cleaned}
        pipeline = after.get("pipeline") or next(iter(self.stages))
        if pipeline not in self.stages:
            text = f"{pipeline} is not a valid pipeline ID. Valid options are: [{', '.join(self.stages)}]"
            return [("pipeline", pipeline, RefusedError("INVALID_OPTION", text))]
        stage, valid = after.get("dealstage"), self.stages[pipeline]
        if stage and stage not in valid:
            listed = f"pipelineId={pipeline} : [{', '.join(valid)}]"
            text = f"{stage} is not a valid pipeline stage ID. Valid options are: {listed}"
            return [("dealstage", stage, RefusedError("INVALID_OPTION", text))]
        return []

    def _refusal(self, problems: list[tuple[str, str, RefusedError]]) -> ApiError:
        results = [
            {
                "isValid": False,
                "message": str(problem),
                "error": problem.code,
                "name": name,
                "localizedErrorMessage": str(problem),
                "propertyValue": text,
                "portalId": self.portal_id,
            }
            for name, text, problem in problems
        ]
        details = [
            {"message": str(problem), "code": problem.code, "context": {"propertyName": [name]}}
            for name, _, problem in problems
        ]
        listed = orjson.dumps(results).decode()
        return ApiError(400, f"Property values were not valid: {listed}", "VALIDATION_ERROR", errors=details)

    def unique_taken(self, kind: ObjectType, name: str, text: str, holder: str) -> ApiError:
        """400: a property with unique values has this one on another record."""
        coordinates = f"portalId={self.portal_id}, objectTypeId={kind.type_id}, propertyName={name}, value={text}"
        words = f"Cannot set PropertyValueCoordinates{{{coordinates}}}. {holder} already has that value."
        return self._refusal([(name, text, RefusedError("CONFLICTING_UNIQUE_VALUE", words))])
