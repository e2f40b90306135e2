"""The SQL that installs and removes the outbox: for databases whose log cannot be decoded.

Triggers write every change of a mapped table as a row of `hub_outbox.change`, in the application's own transaction.
The trigger functions run with the rights of whoever installs them, so the application's roles need none.
A row stands there as PostgreSQL's text of it, under fixed settings, exactly as the log would carry it.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from connectors.postgresql.catalogue import quote
from connectors.postgresql.mapped import Mapped
from connectors.postgresql.position import WAL_CLOCK

FIXED = (
    "SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO, MDY'"
    " SET intervalstyle = 'iso_8601' SET bytea_output = 'hex' SET extra_float_digits = 1"
)

# The sequence must not be cached per session, or numbers would not grow per record.
TABLES = """
CREATE SCHEMA IF NOT EXISTS hub_outbox;
CREATE SEQUENCE IF NOT EXISTS hub_outbox.change_seq CACHE 1;
CREATE TABLE IF NOT EXISTS hub_outbox.change (
    seq       bigint PRIMARY KEY DEFAULT nextval('hub_outbox.change_seq'),
    txid      xid8 NOT NULL DEFAULT pg_current_xact_id(),
    at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    relation  text NOT NULL,
    op        "char" NOT NULL,
    columns   name[] NOT NULL,
    content   text NOT NULL,
    intents   text
);
CREATE INDEX IF NOT EXISTS change_order ON hub_outbox.change (txid, seq);
CREATE TABLE IF NOT EXISTS hub_outbox.released (
    one   boolean PRIMARY KEY DEFAULT true CHECK (one),
    txid  xid8 NOT NULL,
    seq   bigint NOT NULL
);
"""

# Numbers go on from where versions by log position are, so that changing the way of capture never goes back. They are
# behind, for each number takes more log than one: the margin keeps a number that is taken meanwhile from being doubled.
AHEAD = f"""
SELECT setval('hub_outbox.change_seq', {WAL_CLOCK} + (1 << 20)) FROM hub_outbox.change_seq WHERE last_value < {WAL_CLOCK}
"""  # noqa: S608 - no input

FUNCTIONS = f"""
CREATE OR REPLACE FUNCTION hub_outbox.columns_of(relation oid) RETURNS name[] LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT array_agg(attname ORDER BY attnum) FROM pg_attribute
    WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped
$$;
CREATE OR REPLACE FUNCTION hub_outbox.record() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER {FIXED} AS $$
BEGIN
    INSERT INTO hub_outbox.change (relation, op, columns, content)
    VALUES (TG_ARGV[0], CASE WHEN TG_OP = 'DELETE' OR TG_ARGV[1] = 'old' THEN 'D' ELSE 'U' END,
            hub_outbox.columns_of(TG_RELID),
            CASE WHEN TG_OP = 'DELETE' OR TG_ARGV[1] = 'old' THEN OLD::text ELSE NEW::text END);
    RETURN NULL;
END $$;
CREATE OR REPLACE FUNCTION hub_outbox.emptied() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER {FIXED} AS $$
BEGIN
    EXECUTE format('INSERT INTO hub_outbox.change (relation, op, columns, content)'
                   ' SELECT %L, ''D'', %L::name[], t::text FROM %s t',
                   TG_ARGV[0], hub_outbox.columns_of(TG_RELID), TG_RELID::regclass);
    RETURN NULL;
END $$;
"""  # noqa: S608 - no input


def install(tables: Mapping[str, Sequence[Mapped]]) -> str:
    """SQL that installs the outbox for these tables (name -> objects). Idempotent; takes a short lock on each."""
    return TABLES + FUNCTIONS + "".join(_marked(name, tables[name]) for name in sorted(tables))


def mark(name: str, objects: Sequence[Mapped]) -> str:
    """What the comment on a table's trigger says when everything is installed as it is to be."""
    sql = FUNCTIONS + _triggers(name, objects)
    return f"hub outbox {hashlib.blake2b(sql.encode(), digest_size=8).hexdigest()}"


def uninstall(tables: Mapping[str, Sequence[Mapped]]) -> str:
    """SQL that removes the outbox from these tables, and itself."""
    drops = [
        f"DROP TRIGGER IF EXISTS hub_outbox_{kind} ON {tables[name][0].table.sql};\n"
        for name in sorted(tables)
        for kind in ("change", "rekey", "truncate")
    ]
    return "".join(drops) + "DROP SCHEMA IF EXISTS hub_outbox CASCADE;\n"


def grants(role: str) -> str:
    """SQL that lets a role that does not own the outbox read it, release it, and mark its own writes."""
    return (
        f"GRANT USAGE ON SCHEMA hub_outbox TO {quote(role)};\n"
        f"GRANT SELECT, UPDATE, DELETE ON hub_outbox.change TO {quote(role)};\n"
        f"GRANT SELECT, INSERT, UPDATE ON hub_outbox.released TO {quote(role)};\n"
        f"GRANT USAGE, SELECT, UPDATE ON hub_outbox.change_seq TO {quote(role)};\n"
    )


def _marked(name: str, objects: Sequence[Mapped]) -> str:
    comment = f"COMMENT ON TRIGGER hub_outbox_change ON {objects[0].table.sql} IS '{mark(name, objects)}';\n"
    return _triggers(name, objects) + comment


def _triggers(name: str, objects: Sequence[Mapped]) -> str:
    """The triggers of one table. They fire for changes that replication brings, too."""
    table = objects[0].table.sql
    relation = "'" + name.replace("'", "''") + "'"
    keys: Iterable[str] = dict.fromkeys(quote(column) for one in objects for column in one.key)
    rekeyed = " OR ".join(f"OLD.{column} IS DISTINCT FROM NEW.{column}" for column in keys)
    record = f"EXECUTE FUNCTION hub_outbox.record({relation}"
    events = {
        "change": f"AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW {record})",
        "rekey": f"AFTER UPDATE ON {table} FOR EACH ROW WHEN ({rekeyed}) {record}, 'old')",
        "truncate": f"BEFORE TRUNCATE ON {table} EXECUTE FUNCTION hub_outbox.emptied({relation})",
    }
    return "".join(
        f"CREATE OR REPLACE TRIGGER hub_outbox_{kind} {what};\n"
        f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER hub_outbox_{kind};\n"
        for kind, what in events.items()
    )
