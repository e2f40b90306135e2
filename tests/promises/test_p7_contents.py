"""P7 in bulk, whatever events hold: each content is read by columns, or once for all, as it is read event by event."""

import os
from typing import Any

import orjson
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.codecs import make
from hub.entity import Entity, Field
from hub.event import Event
from hub.mapping import FieldMap, ObjectMap
from hub.model import Model
from hub.rules import Rule
from hub.values import PLAIN, Plain, parse
from streams import bulk_claims, bulk_fold, bulk_text
from tests.promises.mutations import broken, mutation
from tests.promises.test_p7_columns import Log, check_fold

FOLDS = settings(max_examples=2_000 if os.environ.get("HUB_LONG") == "1" else 60, deadline=None)
KINDS = ("text", "email", "phone", "decimal", "boolean", "timestamp", "date", "tags", "domain", "ref")
ENTITY = Entity(
    "thing",
    {
        name: Field(name, name if name in KINDS else "text", Rule("latest"))
        for name in (*KINDS, "option", "made", "fixed")
    },
    version="1",
)
NATIVES = ("a", "b")
MAPPING = ObjectMap(
    "crm", "o", ENTITY,
    (*(FieldMap(kind, ("a",), object="o") for kind in KINDS), FieldMap("option", ("b",), options={"Ann": "x", "1": "y"}),
     FieldMap("made", NATIVES, codec=make("split_name", NATIVES)), FieldMap("fixed", ("b",)),
     FieldMap("golden", ("b",), identifies="golden")),
    constants={"fixed": "always"},
)  # fmt: skip
MODEL = Model({"thing": ENTITY}, {("crm", "o"): MAPPING}, "1")
LONG = "x" * 65_537
CONTENTS = (
    *(orjson.dumps(value).decode() for value in (
        None, "", " ", "Ann", " Ann", "Ann ", "\u00e9", "e\u0301", 'a"b', "a\\b", "a\tb", "a\x00", "\x7f", "\u2028",
        True, False, 0, 1, "1", 1.0, -0.0, 2**63, "1e3", 1.10, "1.10", [], ["b", "a", "a"], {}, {"status": "in"}, LONG,
        LONG[1:], "ann@example.com", "Ann@Example.com", "a@b.test", "a@b.co", f"{LONG[:60]}@b.co", "+49 30 1234567",
        "example.com", "2024-02-30", "2024-02-29", 1_700_000_000_000, "2024-02-29T12:00:00+02:00",
        {"system": "crm", "object": "o", "id": 1},
    )), "1180591620717411303424", "0.1000000000000000055511151231257827", '"\\u0041nn"', '"\\ud83d\\ude00"',
)  # fmt: skip
"""As JSON; among them numbers beyond 64 bits, and texts that are one text written in two ways."""


@st.composite
def logs(draw: st.DrawFn) -> Log:
    """Events of a few records, with any content; some natives twice, some absent."""
    log: Log = []
    for n in range(draw(st.integers(1, 8))):
        said = draw(st.lists(st.tuples(st.sampled_from(NATIVES), st.sampled_from(CONTENTS)), max_size=3))
        payload = "{" + ",".join(f'"{native}":{content}' for native, content in said) + "}"
        at = draw(st.integers(1, 4))
        op = draw(st.sampled_from(("upsert", "upsert", "upsert", "delete")))
        event = Event(f"e{n}", "crm", "o", draw(st.sampled_from("12")), op, at, at, 9, "poll", payload.encode())
        log.append((event, frozenset(draw(st.sets(st.sampled_from((*KINDS, "fixed", "_deleted")), max_size=2)))))
    return log


@FOLDS
@given(logs())
def test_any_content_is_read_alike(log: Log) -> None:
    check_fold(log, MODEL)


def one_after_another(*contents: str, unsaid: frozenset[str] = frozenset()) -> Log:
    """Events of a record for each content, the first of which is the newest."""
    return [
        (Event(f"e{n}", "crm", "o", str(n // 9), "upsert", 99 - n, 99 - n, 99, "poll", f'{{"a":{c}}}'.encode()), unsaid)
        for n, c in enumerate(contents)
    ]


def taken_for_equal(self: bulk_claims.Reader, natives: Any) -> Any:
    """A reader that takes true for 1."""
    known = self._known
    content = repr(sorted(natives.items())).replace("True", "1")
    if content not in known:
        known[content] = self._read(natives)
    return known[content]


def only_the_newest(*_: Any) -> dict[int, tuple[int, str]]:
    """Nobody looks at older events."""
    return {}


def unescaped(texts: pl.Series) -> pl.Series:
    """Texts in quotation marks."""
    return '"' + texts + '"'


ANYTHING = {"text": Plain("", "^$", 100_000)}


@pytest.mark.parametrize(
    ("owner", "name", "instead", "log"),
    [(bulk_claims.Reader, "one", taken_for_equal, one_after_another(*["1"] * 9, "true")),
     (bulk_claims, "_older", only_the_newest, one_after_another("{}", '"Ann"')),
     (bulk_claims, "PLAIN", ANYTHING, one_after_another('" Ann"')),
     (bulk_claims, "quoted", unescaped, one_after_another(r'"a\"b"')),
     (bulk_claims.Events, "heard", lambda self, name: self.rows["op"] != "never", [
         (one_after_another('"Ann"')[0][0], frozenset(["text"]))])],
    ids=["kinds of contents", "older events", "what is plain", "escapes", "what was not said"],
)  # fmt: skip
def test_the_check_of_contents_fails_without(owner: Any, name: str, instead: Any, log: Log) -> None:
    check_fold(log, MODEL)
    with mutation(owner, name, instead), broken(name):
        try:
            check_fold(log, MODEL)
        except orjson.JSONDecodeError as error:
            raise AssertionError(f"claims are no JSON: {error}") from None


def test_portions_part_no_record() -> None:
    log = one_after_another(*["{}"] * 8, '"Ann"', *["{}"] * 8, '"Eva"')
    for portion in (1, 9, 10, 100):
        with mutation(bulk_fold, "PORTION", portion):
            check_fold(log, MODEL)


def colliding(rows: pl.DataFrame) -> pl.DataFrame:
    """The order as if all hashes were equal."""
    with mutation(pl.Expr, "hash", lambda self: pl.lit(1)):
        return newest_first(rows)


newest_first = bulk_fold._newest_first


def test_equal_hashes_part_no_record() -> None:
    log = one_after_another(*['"Ann"'] * 20)
    with mutation(bulk_fold, "_newest_first", colliding):
        check_fold(log[::-1], MODEL)


ADDRESSES = st.from_regex(r"[a-zA0-9._+-]{1,9}@[a-z0-9.-]{1,9}\.(com|local|test|onion|arpa|x)", fullmatch=True)


@pytest.mark.parametrize("kind", PLAIN)
@given(st.data())
def test_what_is_plain_stays_as_it_is(kind: str, data: st.DataObject) -> None:
    like, unlike, most = PLAIN[kind]
    text = data.draw(ADDRESSES if kind == "email" else st.text(max_size=9))
    column = pl.Series([text])
    if (column.str.contains(like) & ~column.str.contains(unlike)).item() and len(text) <= most:
        assert parse(kind, text) == text


@given(st.lists(st.one_of(st.none(), st.text())))
def test_quoted_texts_are_json(texts: list[str | None]) -> None:
    told = bulk_text.quoted(pl.Series(texts, dtype=pl.String)).to_list()
    assert told == [None if text is None else orjson.dumps(text).decode() for text in texts]
