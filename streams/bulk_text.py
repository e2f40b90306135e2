"""Texts by columns: JSON pieced together, and rows as PostgreSQL's COPY takes them."""

from pathlib import Path

import orjson
import polars as pl

ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}


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


def write_copy(rows: pl.DataFrame, path: Path) -> None:
    """Write the rows in the text format of PostgreSQL's COPY."""
    escaped = rows.select(_escaped(rows[name]) for name in rows.columns)
    escaped.write_csv(path, include_header=False, separator="\t", quote_style="never")


def _escaped(texts: pl.Series) -> pl.Series:
    """Few columns hold anything that must be escaped, and looking costs less than replacing."""
    if texts.str.contains(r"[\\\t\n\r]").any():
        for raw, told in ESCAPES.items():
            texts = texts.str.replace_all(raw, told, literal=True)
    return texts
