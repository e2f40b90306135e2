"""Merge fields as Mailchimp checks and rewrites them: text is trimmed, US phones and addresses are put in its shape.

A value that a member does not have is an empty text, never null. Unknown tags are ignored without a word, as by the
real service. The wordings are the service's own where public reports quote them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import urlsplit

from connectors.mailchimp.sandbox.state import ApiError, MergeField, Values, invalid

MAX_TEXT = 255
TYPES = ("text", "number", "address", "phone", "date", "url", "imageurl", "radio", "dropdown", "birthday", "zip")
DEFAULTS = (("FNAME", "First Name", "text"), ("LNAME", "Last Name", "text"), ("ADDRESS", "Address", "address"))
"""What a new audience has, beside PHONE."""

_ADDRESS_PARTS = ("addr1", "addr2", "city", "state", "zip", "country")
_NEEDED_PARTS = ("addr1", "city", "state", "zip")


class _Refused(Exception):
    """Why one value is not taken."""


def check(fields: Mapping[str, MergeField], given: Any, known: Values, *, need: bool) -> Values:
    """What a member's values become when `given` comes over `known`; ApiError lists every field refused.

    `need` asks for the required fields, in what is given and what is known together.
    """
    if not isinstance(given, Mapping):
        raise invalid(("merge_fields", f"Schema describes object, {kind(given)} found instead"))
    taken, errors = dict(known), []
    for tag, value in given.items():
        if tag not in fields:
            continue
        try:
            taken[tag] = _convert(fields[tag], value)
        except _Refused as refused:
            errors.append((tag, str(refused)))
    if need:
        refused_tags = {tag for tag, _ in errors}
        errors += [
            (tag, "Please enter a value")
            for tag, field in fields.items()
            if field.required and taken.get(tag, "") == "" and tag not in refused_tags
        ]
    if errors:
        raise ApiError(400, "Invalid Resource", "Your merge fields were invalid.", errors)
    return {tag: value for tag, value in taken.items() if value != ""}


def kind(value: Any) -> str:
    """The name of a JSON value's type as Mailchimp's messages have it."""
    names = {type(None): "NULL", bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}
    return names.get(type(value), "object")


def shown(fields: Mapping[str, MergeField], values: Values) -> Values:
    """Every field of the audience with the member's value, an empty text where there is none."""
    return {tag: values.get(tag, "") for tag in fields}


def _convert(field: MergeField, value: Any) -> Any:
    if value is None or isinstance(value, list | bool):
        raise _Refused(f"Schema describes string, {kind(value)} found instead")
    if isinstance(value, str):
        value = value.strip()
        if value == "":
            return ""
    elif isinstance(value, Mapping) and field.type != "address":
        raise _Refused("Schema describes string, object found instead")
    convert: Callable[[MergeField, Any], Any] = _CONVERTERS.get(field.type, _text)
    return convert(field, value)


def _text(_: MergeField, value: Any) -> str:
    return str(value)[:MAX_TEXT]


def _number(_: MergeField, value: Any) -> int | float:
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise _Refused("Please enter a number") from None
    if not number.is_finite():
        raise _Refused("Please enter a number")
    return int(number) if number == number.to_integral_value() else float(number)  # JSON has but one kind of number


def _date(_: MergeField, value: Any) -> str:
    text = str(value)
    american = re.fullmatch(r"(\d{1,2})/(\d{1,2})/(\d{4})", text)
    try:
        if american:
            month, day, year = (int(part) for part in american.groups())
            return date(year, month, day).isoformat()
        return date.fromisoformat(text[:10]).isoformat()
    except ValueError:
        raise _Refused("Please enter the date") from None


def _birthday(_: MergeField, value: Any) -> str:
    match = re.fullmatch(r"(\d{1,2})/(\d{1,2})", str(value))
    month, day = (int(part) for part in match.groups()) if match else (0, 0)
    try:
        date(2000, month, day)  # a leap year, so that 02/29 passes
    except ValueError:
        raise _Refused("Please enter a month (01-12) and a day (01-31)") from None
    return f"{month:02}/{day:02}"


def _phone(field: MergeField, value: Any) -> str:
    if field.options.get("phone_format") != "US":
        return _text(field, value)
    digits = re.sub(r"\D", "", str(value)).removeprefix("1")
    if len(digits) != 10:
        raise _Refused("Please enter a valid phone number")
    return f"({digits[:3]}) {digits[3:6]}-{digits[6:]}"


def _address(_: MergeField, value: Any) -> Any:
    parts = dict(value) if isinstance(value, Mapping) else _split_address(str(value))
    clean = {name: str(parts.get(name) or "").strip() for name in _ADDRESS_PARTS}
    if not any(clean[name] for name in _ADDRESS_PARTS if name != "country"):
        return ""
    if not all(clean[name] for name in _NEEDED_PARTS):
        raise _Refused("Please enter a complete address")
    return clean | {"country": clean["country"] or "US"}


def _split_address(text: str) -> dict[str, str]:
    """An address as one text has its parts two spaces apart, with or without the second line and the country."""
    parts = [part.strip() for part in text.split("  ") if part.strip()]
    names = {4: _NEEDED_PARTS, 5: (*_NEEDED_PARTS, "country"), 6: _ADDRESS_PARTS}.get(len(parts), ("addr1",))
    return dict(zip(names, parts, strict=False))


def _choice(field: MergeField, value: Any) -> str:
    choices = [str(choice) for choice in field.options.get("choices", ())]
    if str(value) not in choices:
        raise _Refused(f"Value must be one of: {', '.join(choices)} (not {value})")
    return str(value)


def _zip(_: MergeField, value: Any) -> str:
    if not re.fullmatch(r"\d{5}(-\d{4})?", str(value)):
        raise _Refused("Please enter a valid zip code")
    return str(value)[:5]


def _url(_: MergeField, value: Any) -> str:
    parts = urlsplit(str(value))
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise _Refused("Please enter a valid URL")
    return str(value)


_CONVERTERS: dict[str, Callable[[MergeField, Any], Any]] = {
    "number": _number,
    "date": _date,
    "birthday": _birthday,
    "phone": _phone,
    "address": _address,
    "dropdown": _choice,
    "radio": _choice,
    "zip": _zip,
    "url": _url,
    "imageurl": _url,
}
