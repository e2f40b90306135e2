"""Parsing: what comes from outside as JSON or compressed, without loss and within bounds.

Numbers with a fraction become Decimal and whole ones stay whole, however long: money is never a float.
"""

import json
import zlib
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

_DECODER = msgspec.json.Decoder(float_hook=Decimal)
MAX_DEPTH = 64
ENCODINGS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""Content encodings that are undone, with zlib's number for each. Others are not asked for."""

Inflate = Callable[[bytes, int], bytes]


def lenient(body: bytes) -> Any:
    """The value of an answer that was asked for. Half characters, which vendors make when they cut a text, are replaced,
    so that one of them does not cost its page; of a key that is there twice the last counts. Raises ValueError."""
    try:
        return _DECODER.decode(body)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except ValueError:
        return _whole(json.loads(body.decode("utf-8"), parse_float=Decimal, parse_constant=_refuse))


def strict(body: bytes) -> Any:
    """The value of something that nobody asked for. Raises ValueError too where keys are there twice, characters are
    halves, numbers are none, or it is nested deeper than MAX_DEPTH."""
    try:
        value = json.loads(
            body.decode("utf-8"), parse_float=Decimal, parse_constant=_refuse, object_pairs_hook=_unequal
        )
        json.dumps(value, ensure_ascii=False, default=str).encode()
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if _deeper(value, MAX_DEPTH):
        raise ValueError(f"it is nested deeper than {MAX_DEPTH}")
    return value


def inflater(encoding: str) -> Inflate:
    """Undoes a content encoding piece by piece: (piece, most bytes to give) -> plain bytes; an empty piece ends it.

    What a piece holds beyond the most is not unpacked. Raises ValueError for what is broken, cut off or in another
    encoding.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return lambda piece, most: piece
    if name not in ENCODINGS:
        raise ValueError(f"encoded as {name[:40]!r}, which was not asked for")
    unpack, begun = zlib.decompressobj(ENCODINGS[name]), False

    def inflate(piece: bytes, most: int) -> bytes:
        nonlocal begun
        if not piece and begun and not unpack.eof:
            raise ValueError(f"it is cut off ({name})")
        begun = begun or bool(piece)
        try:
            return unpack.decompress(piece, most)
        except zlib.error as error:
            raise ValueError(f"it is not {name}: {error}") from None

    return inflate


def _unequal(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key is there twice")
    return made


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number")


def _deeper(value: Any, most: int) -> bool:
    """Whether a value is nested deeper than so many levels; as wide as it is, it is gone through level by level."""
    level = [value]
    for _ in range(most + 1):
        level = [x for one in level for x in _inside(one)]
    return bool(level)


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return {_whole(name): _whole(item) for name, item in value.items()} if isinstance(value, dict) else value
