"""Everything random about the demo's world comes from one seeded `Draw`, so that a seed gives the same world again."""

import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")
Row = dict[str, Any]

MICROSECOND, MILLISECOND, SECOND = 1, 1_000, 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PLAIN = str.maketrans({"ł": "l", "ø": "o", "ı": "i", "ß": "ss", "đ": "d", "æ": "ae"})


class Draw:
    """A seeded source of choices. No instant is given twice, so that "the newest" is never a matter of luck."""

    def __init__(self, seed: int, now: datetime) -> None:
        self.random = Random(seed)
        self.now = now
        self._taken: set[int] = set()

    def chance(self, share: float) -> bool:
        """True in this share of all cases (0 to 1)."""
        return self.random.random() < share

    def one(self, choices: Sequence[T]) -> T:
        """One of them."""
        return self.random.choice(choices)

    def some(self, choices: Sequence[T], count: int) -> list[T]:
        """`count` different ones (or all, where there are fewer)."""
        return self.random.sample(choices, min(count, len(choices)))

    def number(self, low: int, high: int) -> int:
        """A whole number, bounds included."""
        return self.random.randint(low, high)

    def pattern(self, text: str) -> str:
        """The text with a digit for each `#` and one from 2 to 9 for each `N`."""
        low = {"#": 0, "N": 2}
        return "".join(str(self.number(low[char], 9)) if char in low else char for char in text)

    def instant(self, after: datetime, before: datetime, unit: int = MICROSECOND) -> datetime:
        """An instant in a window, at whole `unit`s (microseconds), that was not given before."""
        low, high = ((at - _EPOCH) // timedelta(microseconds=unit) for at in (after, before))
        tick = self.number(low, max(low, high))
        while tick * unit in self._taken:
            tick -= 1
        self._taken.add(tick * unit)
        return _EPOCH + timedelta(microseconds=tick * unit)

    def ago(self, most: float, least: float, unit: int = MICROSECOND) -> datetime:
        """An instant that lies between `most` and `least` days back."""
        return self.instant(self.now - timedelta(days=most), self.now - timedelta(days=least), unit)


def plain(text: str) -> str:
    """A name as it stands in addresses: the lower-case ASCII letters and digits of it."""
    folded = unicodedata.normalize("NFKD", text.lower().translate(_PLAIN))
    return "".join(char for char in folded if char.isascii() and char.isalnum())


def portion(total: int, share: float) -> int:
    """A share of a total, at least one."""
    return max(1, round(total * share))
