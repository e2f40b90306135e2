"""What the laws are tried on: decided events of six records in three systems, and every kind of rule."""

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from hub.entity import Entity, Field
from hub.event import Clock
from hub.fold import DELETED, Claims, claims_of, fold
from hub.projection import STEWARD, Source
from hub.rules import Rule
from hub.values import moment

RECORDS = tuple((system, "o", id_) for system in ("crm", "shop", "news") for id_ in "12")
T0 = 1_700_000_000_000_000


def longest(claims: list[dict[str, Any]]) -> Any:
    """A rule of the user's own: the longest name."""
    return max((c["value"] or "" for c in claims), key=lambda name: (len(name), name), default=None)


ENTITY = Entity(
    "thing",
    {
        f.name: f
        for f in (
            Field("truth", "text", Rule("truth", ("shop", "crm"))),
            Field("latest", "text", Rule("latest")),
            Field("oldest", "text", Rule("oldest")),
            Field("common", "text", Rule("most_common")),
            Field("tags", "tags", Rule("union")),
            Field("consent", "consent", Rule("strictest", ("crm", "news"))),
            Field("follower", "text", Rule("follow", field="truth")),
            Field("made", "text", Rule("expression", expression="join('/', truth, latest, claims.get('crm'))")),
            Field("own", "text", Rule("python", function=longest)),
        )
    },
    deletes={"crm": "propagate", "shop": "detach", "news": "ignore"},
    version="1",
)

words = st.sampled_from(("Ann", "ann", "Otto", "Eva"))
texts = st.one_of(st.none(), words)
moments = st.integers(0, 20).map(lambda s: moment(T0 + s * 1_000_000))
consents = st.fixed_dictionaries({"status": st.sampled_from(("in", "out")), "at": st.one_of(st.none(), moments)})
VALUES: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("truth", "latest", "oldest", "common", "follower", "own"), texts),
    "tags": st.one_of(st.none(), st.lists(st.sampled_from("abc"), unique=True).map(sorted)),
    "consent": st.one_of(st.none(), consents),
    DELETED: st.booleans(),
}


@dataclass(frozen=True)
class Said:
    """What one event said, after it was decided."""

    record: tuple[str, str, str]
    values: dict[str, Any]
    at: int
    clock: Clock


@st.composite
def histories(draw: st.DrawFn, most: int = 12) -> list[Said]:
    """Events with ids of their own; clocks may tie."""
    count = draw(st.integers(0, most))
    said = []
    for n in range(count):
        values = draw(st.fixed_dictionaries({}, optional=VALUES))
        order, observed = T0 + draw(st.integers(0, 6)) * 1_000_000, T0 + draw(st.integers(20, 26)) * 1_000_000
        said.append(Said(draw(st.sampled_from(RECORDS)), values, order, Clock(order, observed, f"e{n}")))
    return said


def folded(history: list[Said]) -> dict[tuple[str, str, str], Claims]:
    """The claims of every record."""
    claims: dict[tuple[str, str, str], Claims] = {}
    for one in history:
        claims[one.record] = fold(claims.get(one.record, {}), claims_of(one.values, one.at, one.clock))
    return claims


def sources(history: list[Said], pins: Claims | None = None) -> list[Source]:
    """The records as the projection is given them."""
    made = [Source(*record, claims) for record, claims in folded(history).items()]
    return made + ([Source(STEWARD, "stewardship", "t", pins)] if pins else [])
