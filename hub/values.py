"""Canonical field types: how a native value becomes comparable, and when two values say the same.

A canonical value is plain JSON: text, email, phone, domain and url are strings, decimal is a string without
exponent (money is never a float), timestamp is RFC 3339 in UTC, date is ISO 8601, tags is a sorted list of
strings, consent is {"status": "in" | "out", "at": timestamp or None}, ref is {"system", "object", "id"}.
None is *known to be empty*; a value that is not known is absent, and never reaches this module.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, NamedTuple

import phonenumbers
from email_validator import SPECIAL_USE_DOMAIN_NAMES, EmailNotValidError, validate_email

Value = Any
DEFAULT_REGION = "US"
MAX_TEXT = 65_536


class InvalidValue(ValueError):
    """A native value that its field's type does not admit; the message says why."""


def parse(kind: str, native: Any, region: str = DEFAULT_REGION) -> Value:
    """The canonical value of `native` for a field of type `kind`; empty strings are None. Raises InvalidValue."""
    plain = kind == "text" and type(native) is str and native.isascii() and native.isprintable()
    if plain and 0 < len(native) <= MAX_TEXT and native[0] != " " != native[-1]:
        return native  # as most is
    if native is None or (isinstance(native, str) and not native.replace("\x00", "").strip()):
        return None
    if kind == "phone":
        return _phone(_as_text(native), region)
    return PARSERS[kind](native)


def same(left: Value, right: Value) -> bool:
    """Whether a vendor that trims, folds case or reformats would call these two values one."""
    return bool(left == right or loose(left) == loose(right))


def loose(value: Value) -> Value:
    """What is left of a value when case, white space and list order are taken away."""
    if isinstance(value, str):
        return " ".join(value.split()).casefold()
    if isinstance(value, list):
        return sorted(str(loose(item)) for item in value)
    if isinstance(value, dict) and "status" in value:
        return value["status"]
    return value


def moment(micros: int) -> str:
    """Microseconds since 1970 as the canonical timestamp."""
    return _iso(EPOCH + timedelta(microseconds=micros))


def micros(timestamp: str | None) -> int:
    """A canonical timestamp as microseconds since 1970; 0 for None."""
    if not timestamp:
        return 0
    delta = datetime.fromisoformat(timestamp.replace("Z", "+00:00")) - EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _from_millis(millis: int) -> datetime:
    return EPOCH + timedelta(milliseconds=millis)


def _iso(when: datetime) -> str:
    return when.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _as_text(native: Any) -> str:
    if isinstance(native, bool) or not isinstance(native, str | int | Decimal | float):
        raise InvalidValue(f"{type(native).__name__} is not text")
    text = str(native)
    text = (text if text.isascii() else unicodedata.normalize("NFC", text)).replace("\x00", "").strip()
    if len(text) > MAX_TEXT:
        raise InvalidValue(f"longer than {MAX_TEXT} characters")
    return text


_ADDRESS = r"[a-z0-9_+]+(?:[.-][a-z0-9_+]+)*@(?:[a-z0-9]+(?:-[a-z0-9]+)*\.)+"
_SPECIAL = "|".join(map(re.escape, SPECIAL_USE_DOMAIN_NAMES))
# Addresses that `validate_email` returns as they are, told without its work of some 0.1 ms.
PLAIN_EMAIL = re.compile(rf"(?=.{{1,64}}$){_ADDRESS}(?!(?:{_SPECIAL})$)[a-z]{{2,}}")


class Plain(NamedTuple):
    """Texts that `parse` gives back as they are: those like the one pattern, unlike the other, of at most so many characters.
    The patterns are in the words that all libraries know."""

    like: str
    unlike: str
    most: int


PLAIN: Mapping[str, Plain] = {
    "text": Plain(r"^[!-~](?:[ -~]*[!-~])?$", "^$", MAX_TEXT),
    "email": Plain(rf"^{_ADDRESS}[a-z]{{2,}}$", rf"\.(?:{_SPECIAL})$", 64),
}
"""Kinds of which most texts are plain; in ASCII."""


@lru_cache(maxsize=65_536)
def _email_text(text: str) -> str:
    if PLAIN_EMAIL.fullmatch(text):
        return text
    try:
        return validate_email(text, check_deliverability=False, test_environment=True).normalized.lower()
    except EmailNotValidError as error:
        raise InvalidValue(str(error)) from None


def _email(native: Any) -> str:
    return _email_text(_as_text(native))


@lru_cache(maxsize=65_536)
def _phone(text: str, region: str) -> str:
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException as error:
        raise InvalidValue(str(error)) from None
    if not phonenumbers.is_possible_number(number):
        raise InvalidValue("not a possible phone number")
    formatted = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    return f"{formatted};ext={number.extension}" if number.extension else str(formatted)


DOMAIN = re.compile(r"^(?=.{1,253}$)([a-z0-9_]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]$")


def _domain(native: Any) -> str:
    text = _as_text(native).lower()
    text = re.sub(r"^[a-z]+://", "", text).split("/")[0].split(":")[0].removeprefix("www.").rstrip(".")
    if not DOMAIN.match(text):
        raise InvalidValue(f"{text[:80]!r} is not a domain name")
    return text


def _decimal(native: Any) -> str:
    if isinstance(native, bool):
        raise InvalidValue("a boolean is not a number")
    try:
        number = Decimal(str(native).strip().replace(",", ""))
    except InvalidOperation:
        raise InvalidValue(f"{str(native)[:80]!r} is not a number") from None
    if not number.is_finite() or abs(number.adjusted()) > 60:
        raise InvalidValue("not a finite number of reasonable size")
    return _plain(number)


def _plain(number: Decimal) -> str:
    text = format(number, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text


def _integer(native: Any) -> int:
    number = Decimal(_decimal(native))
    if number != number.to_integral_value():
        raise InvalidValue(f"{str(native)[:80]!r} is not a whole number")
    return int(number)


BOOLEANS = {"true": True, "t": True, "yes": True, "1": True, "false": False, "f": False, "no": False, "0": False}


def _boolean(native: Any) -> bool:
    if isinstance(native, bool):
        return native
    try:
        return BOOLEANS[str(native).strip().lower()]
    except KeyError:
        raise InvalidValue(f"{str(native)[:80]!r} is neither true nor false") from None


def _timestamp(native: Any) -> str:
    try:
        if isinstance(native, int) or (isinstance(native, str) and native.strip().lstrip("-").isdigit()):
            return _iso(_from_millis(int(native)))
        text = native if isinstance(native, datetime) else datetime.fromisoformat(str(native).strip())
        return _iso(text if text.tzinfo else text.replace(tzinfo=UTC))
    except (ValueError, OverflowError, OSError):
        raise InvalidValue(f"{str(native)[:80]!r} is not a date with time") from None


_DATE = re.compile(r"\d{4}-.{5}|\d{4}(0[1-9]|1[0-2])\d{2}", re.ASCII)  # other digits are milliseconds


def _date(native: Any) -> str:
    try:
        if isinstance(native, str) and _DATE.fullmatch(native.strip()):
            return date.fromisoformat(native.strip()).isoformat()
    except ValueError:
        raise InvalidValue(f"{str(native)[:80]!r} is not a date") from None
    return _timestamp(native)[:10]


def _tags(native: Any) -> list[str]:
    items = re.split(r"[;,]", native) if isinstance(native, str) else native
    if not isinstance(items, list | tuple | set | frozenset):
        raise InvalidValue(f"{type(native).__name__} is not a list of tags")
    return sorted({text for item in items if (text := _as_text(item))})


CONSENT = {
    "in": "in", "opt_in": "in", "opted_in": "in", "subscribed": "in", "true": "in", "yes": "in",
    "out": "out", "opt_out": "out", "opted_out": "out", "unsubscribed": "out", "cleaned": "out", "false": "out",
    "no": "out",
}  # fmt: skip


def _consent(native: Any) -> Value:
    status, at = (native.get("status"), native.get("at")) if isinstance(native, Mapping) else (native, None)
    if status is None or not str(status).strip():
        return None
    try:
        return {"status": CONSENT[str(status).strip().lower()], "at": parse("timestamp", at)}
    except KeyError:
        raise InvalidValue(f"{str(status)[:80]!r} is neither an opt-in nor an opt-out") from None


REFERENCE = ("system", "object", "id")


def is_reference(value: Value) -> bool:
    """Whether a value has the shape of a reference; `also` lists others that the system holds beside it."""
    return isinstance(value, dict) and {*REFERENCE} <= value.keys() <= {*REFERENCE, "also"}


def _ref(native: Any) -> Value:
    if not isinstance(native, Mapping) or not {*REFERENCE} <= native.keys():
        raise InvalidValue("a reference needs system, object and id")
    return {name: _as_text(native[name]) for name in REFERENCE}


PARSERS: dict[str, Callable[[Any], Value]] = {
    "text": _as_text,
    "email": _email,
    "phone": lambda native: _phone(_as_text(native), DEFAULT_REGION),
    "domain": _domain,
    "decimal": _decimal,
    "integer": _integer,
    "boolean": _boolean,
    "timestamp": _timestamp,
    "date": _date,
    "tags": _tags,
    "consent": _consent,
    "ref": _ref,
    "json": lambda native: native,
}
