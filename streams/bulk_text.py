"""Texts by columns: JSON pieced together, and rows as PostgreSQL's COPY takes them."""

from collections.abc import Iterable
from pathlib import Path

import orjson
import polars as pl

ESCAPES = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


def quoted(texts: pl.Series) -> pl.Series:
    """Strings as JSON; null stays null. Few hold anything that must be escaped: those go by the JSON library."""
    plain = pl.select(pl.concat_str(pl.lit('"'), texts, pl.lit('"')).alias(texts.name)).to_series()
    odd = texts.str.contains(r'[\x00-\x1f"\\]').arg_true()
    return plain.scatter(odd, [orjson.dumps(text).decode() for text in texts.gather(odd)]) if len(odd) else plain


def key(name: str) -> str:
    """The name of a member of a JSON object, with its colon."""
    return f"{orjson.dumps(name).decode()}:"


def objects(members: pl.DataFrame) -> pl.Series:
    """A JSON object of each row: its columns' texts, which are whole members, in the order of their names, without nulls."""
    if not members.width:
        return pl.repeat("{}", members.height, eager=True)
    inside = pl.concat_str(sorted(members.columns), separator=",", ignore_nulls=True)
    return members.select(pl.concat_str(pl.lit("{"), inside, pl.lit("}"))).to_series()


def write_copy(rows: pl.DataFrame, json: Iterable[str], path: Path) -> None:
    """Write the rows in the text format of PostgreSQL's COPY. `json` are columns that hold JSON, and so no raw control
    characters."""
    escaped = [_escaped(pl.col(name), {} if name in json else ESCAPES) for name in rows.columns]
    rows.select(escaped).write_csv(path, include_header=False, separator="\t", quote_style="never")


def _escaped(texts: pl.Expr, more: dict[str, str]) -> pl.Expr:
    texts = texts.str.replace_all("\\", "\\\\", literal=True)
    for raw, told in more.items():
        texts = texts.str.replace_all(raw, told, literal=True)
    return texts
