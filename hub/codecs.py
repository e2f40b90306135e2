"""The standard codecs: named conversions for native fields whose type alone does not tell what they say.

Each is made for the native fields of one mapping, with the argument that the configuration gives it. A decoder gets the
native fields that are present and raises InvalidValue; an encoder returns the native fields to write.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import orjson

from hub.mapping import Codec
from hub.values import EPOCH, InvalidValue, Value, micros, parse

Natives = tuple[str, ...]


class CodecError(ValueError):
    """A codec was given native fields or an argument that it cannot work with; the message says what it needs."""


@dataclass(frozen=True, slots=True)
class Standard:
    """A codec of the hub: how to make it, what it is for, and whether it can only read with these native fields."""

    make: Callable[[Natives, Any], Codec]
    what: str
    read_only: Callable[[Natives], bool] = lambda natives: False


def make(name: str, natives: Natives, argument: Any = None) -> Codec:
    """The standard codec `name` for these native fields. Raises CodecError."""
    return replace(STANDARD[name].make(natives, argument), name=name)


def read_only(name: str, natives: Natives) -> bool:
    """Whether the codec can read these native fields but never write them."""
    return name in STANDARD and STANDARD[name].read_only(natives)


def _consent(natives: Natives, argument: Any) -> Codec:
    """With {out: ...} alone the system knows who must not be written to, and of nobody else whether they may be."""
    _at_most(natives, 2, "a status and, if there is one, a time")
    words = _words(argument)
    only_outs = "out" in words and "in" not in words

    def decode(present: Mapping[str, Any]) -> Value:
        if natives[0] not in present:
            raise InvalidValue(f"{natives[0]} was not reported")
        status = present[natives[0]]
        told = next((meaning for meaning, word in words.items() if word == status), None if only_outs else status)
        at = present.get(natives[1]) if len(natives) == 2 else None
        return None if told is None else {"status": told, "at": at}

    def encode(value: Value) -> dict[str, Any]:
        status = words.get(value["status"], _not(words["out"]) if only_outs else value["status"]) if value else None
        at = {natives[1]: value["at"] if value else None} if len(natives) == 2 else {}
        return {natives[0]: status, **at}

    return Codec(decode, encode)


def _not(word: Any) -> Any:
    return not word if isinstance(word, bool) else None


def _words(argument: Any) -> dict[str, Any]:
    if argument is None:
        return {}
    if not isinstance(argument, Mapping) or set(argument) not in ({"in", "out"}, {"out"}):
        raise CodecError("consent takes {in: ..., out: ...}: what the system stores for an opt-in and for an opt-out")
    if argument.get("in") == argument["out"]:
        raise CodecError("the same is stored for an opt-in and for an opt-out")
    return dict(argument)


def _split_name(natives: Natives, argument: Any) -> Codec:
    """One native: read one half of a full name. Two natives: a full name kept as two columns, both ways."""
    if len(natives) == 1:
        if argument not in ("first", "last"):
            raise CodecError("split_name on one field takes first or last, as {split_name: first}")
        place = 0 if argument == "first" else 1
        return Codec(lambda present: _halves(present[natives[0]])[place], _never(natives))
    _exactly(natives, 2, "the first name and the last name")

    def decode(present: Mapping[str, Any]) -> Value:
        if len(present) < 2:
            raise InvalidValue(f"only {', '.join(present)} was reported")
        return " ".join(str(present[name]).strip() for name in natives if present[name]) or None

    return Codec(decode, lambda value: dict(zip(natives, _halves(value), strict=True)))


def _halves(full: Any) -> tuple[str | None, str | None]:
    """ "Last, First" and "First Middle Last" as (first, last); one word alone is a last name."""
    text = " ".join(str(full or "").split())
    if "," in text:
        last, first = (part.strip() or None for part in text.split(",", 1))
        return first, last
    first, _, last = text.rpartition(" ")
    return first or None, last or None


def _epoch(unit: int) -> Callable[[Natives, Any], Codec]:
    """`unit` is microseconds per tick."""

    def build(natives: Natives, argument: Any) -> Codec:
        _exactly(natives, 1)

        def decode(present: Mapping[str, Any]) -> Value:
            native = present[natives[0]]
            try:
                if native in (None, ""):
                    return None
                return parse("timestamp", EPOCH + timedelta(microseconds=int(Decimal(parse("decimal", native)) * unit)))
            except (ArithmeticError, ValueError):
                raise InvalidValue("not a number of ticks since 1970") from None

        return Codec(decode, lambda value: {natives[0]: None if value is None else micros(value) // unit})

    return build


def _cents(natives: Natives, argument: Any) -> Codec:
    _exactly(natives, 1)
    digits = 2 if argument is None else argument
    if not isinstance(digits, int) or isinstance(digits, bool) or not 0 <= digits <= 6:
        raise CodecError("cents takes the number of decimal places, 0 to 6")

    def decode(present: Mapping[str, Any]) -> Value:
        minor = parse("integer", present[natives[0]])
        return None if minor is None else str(Decimal(minor).scaleb(-digits))

    def encode(value: Value) -> dict[str, Any]:
        if value is None:
            return {natives[0]: None}
        minor = Decimal(str(value)).scaleb(digits)
        if minor != minor.to_integral_value():
            raise InvalidValue(f"{value} has more than {digits} decimal places")
        return {natives[0]: int(minor)}

    return Codec(decode, encode)


def _json_list(natives: Natives, argument: Any) -> Codec:
    _exactly(natives, 1)

    def decode(present: Mapping[str, Any]) -> Value:
        native = present[natives[0]]
        try:
            return orjson.loads(native) if isinstance(native, str) and native.strip() else native
        except orjson.JSONDecodeError:
            raise InvalidValue("not a JSON list") from None

    return Codec(decode, lambda value: {natives[0]: None if value is None else orjson.dumps(value).decode()})


def _joined(natives: Natives, argument: Any) -> Codec:
    _exactly(natives, 1)
    separator = _text(argument, "joined takes the separator between the items", default=";")

    def decode(present: Mapping[str, Any]) -> Value:
        native = present[natives[0]]
        return native.split(separator) if isinstance(native, str) else native

    def encode(value: Value) -> dict[str, Any]:
        return {natives[0]: None if value is None else separator.join(map(str, value))}

    return Codec(decode, encode)


def _prefix(natives: Natives, argument: Any) -> Codec:
    _exactly(natives, 1)
    prefix = _text(argument, 'prefix takes the text to put in front, as {prefix: "Invoice "}')

    def decode(present: Mapping[str, Any]) -> Value:
        native = present[natives[0]]
        return None if native in (None, "") else f"{prefix}{native}"

    return Codec(decode, lambda value: {natives[0]: None if value is None else str(value).removeprefix(prefix)})


def _flag(natives: Natives, argument: Any) -> Codec:
    _exactly(natives, 1)
    if not isinstance(argument, list) or len(argument) != 2 or argument[0] == argument[1]:
        raise CodecError("flag takes what stands for true and for false, as {flag: [Y, N]}")
    yes, no = argument

    def decode(present: Mapping[str, Any]) -> Value:
        native = present[natives[0]]
        if native in (None, ""):
            return None
        if native not in (yes, no):
            raise InvalidValue(f"{str(native)[:80]!r} is neither {yes} nor {no}")
        return bool(native == yes)

    return Codec(decode, lambda value: {natives[0]: value if value is None else yes if value else no})


def _zone(natives: Natives, argument: Any) -> Codec:
    """Times without a zone are local times of `argument`; of a repeated hour the first one is meant."""
    _exactly(natives, 1)
    try:
        zone = ZoneInfo(_text(argument, "zone takes a time zone, as {zone: Europe/Berlin}"))
    except (ZoneInfoNotFoundError, ValueError):
        raise CodecError(f"{str(argument)[:60]!r} is not a time zone: give one as Europe/Berlin") from None

    def decode(present: Mapping[str, Any]) -> Value:
        native = present[natives[0]]
        try:
            local = datetime.fromisoformat(native.strip()) if isinstance(native, str) and native.strip() else None
        except ValueError:
            raise InvalidValue(f"{native[:80]!r} is not a date with time") from None
        return native if local is None or local.tzinfo else local.replace(tzinfo=zone)

    def encode(value: Value) -> dict[str, Any]:
        local = datetime.fromisoformat(value).astimezone(zone).replace(tzinfo=None) if value else None
        return {natives[0]: local.isoformat() if local else None}

    return Codec(decode, encode)


def _never(natives: Natives) -> Callable[[Value], dict[str, Any]]:
    def encode(value: Value) -> dict[str, Any]:
        raise InvalidValue(f"{', '.join(natives)} can only be read")

    return encode


def _text(argument: Any, needs: str, default: str = "") -> str:
    text = default if argument is None else argument
    if not isinstance(text, str) or not text:
        raise CodecError(needs)
    return text


def _exactly(natives: Natives, count: int, what: str = "one native field") -> None:
    if len(natives) != count:
        raise CodecError(f"needs {what}")


def _at_most(natives: Natives, count: int, what: str) -> None:
    if not 1 <= len(natives) <= count:
        raise CodecError(f"needs {what}")


STANDARD: dict[str, Standard] = {
    "consent": Standard(_consent, "opt-in or opt-out from a status field and a time field: [status, time]"),
    "split_name": Standard(
        _split_name, "half of a full name, or a full name from two", lambda natives: len(natives) == 1
    ),
    "epoch_s": Standard(_epoch(1_000_000), "seconds since 1970"),
    "epoch_ms": Standard(_epoch(1_000), "milliseconds since 1970"),
    "cents": Standard(_cents, "whole minor units of money; {cents: 3} for currencies with other than 2 places"),
    "json_list": Standard(_json_list, "a list kept as JSON text"),
    "joined": Standard(_joined, "a list kept as text with a separator, as {joined: ';'}"),
    "prefix": Standard(_prefix, "text put in front, as {prefix: 'Invoice '}"),
    "flag": Standard(_flag, "true and false in other words, as {flag: [Y, N]}"),
    "zone": Standard(_zone, "times kept without a zone, as {zone: Europe/Berlin}"),
}
