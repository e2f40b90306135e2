"""Databases to propose a configuration for: Chinook, and one with everything that is odd."""

import os
import re
from pathlib import Path

import asyncpg
import pytest

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("HUB_SHARED", ROOT.parent / "shared"))


def chinook() -> str:
    """The SQL of Chinook without what only psql understands. Skips where it is not at hand, but not in CI."""
    path = SHARED / "data" / "chinook.sql"
    if not path.exists():
        reason = f"{path} is not there (set HUB_SHARED)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    text = path.read_text(encoding="utf-8")
    return re.sub(r"^\s*(\\c .*|(DROP|CREATE) DATABASE .*)$", "", text, flags=re.MULTILINE)


async def fill(url: str, sql: str) -> None:
    """Run a script in a database."""
    conn = await asyncpg.connect(url)
    try:
        await conn.execute(sql)
    finally:
        await conn.close()


def content(path: Path) -> str:
    """The text of a file."""
    return path.read_text()


def put(path: Path, text: str) -> None:
    """Write a file."""
    path.write_text(text)


def there(path: Path) -> bool:
    """Whether there is such a file."""
    return path.exists()


ODD = """
CREATE SCHEMA "Sales";
CREATE TYPE "DealStage" AS ENUM ('New', 'Proposal', 'Won', 'Lost');
CREATE TYPE mood AS ENUM ('sad', 'happy');

CREATE TABLE "Sales"."tblAccounts" (
  "AccountNo" uuid PRIMARY KEY DEFAULT gen_random_uuid(), "AccountName" text NOT NULL, "WebSite" text, "Sektor" text,
  "NumberOfEmployees" integer, "AnnualRevenue" numeric(14,2), "Phone" text, "LastModified" timestamptz DEFAULT now()
);
INSERT INTO "Sales"."tblAccounts" ("AccountName", "WebSite", "NumberOfEmployees") VALUES
  ('Acme Inc', 'https://www.acme.example', 12), ('Globex GmbH', 'globex.example', 3);

CREATE TABLE "Sales"."Customer" (
  "Id" bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "CustomerName" varchar(80) NOT NULL, "E-Mail" varchar(120) UNIQUE,
  "order" integer, "Mobil" text, "Title" text, "Land" text, "AccountNo" uuid REFERENCES "Sales"."tblAccounts",
  "ReferredBy" bigint REFERENCES "Sales"."Customer", "DoNotEmail" boolean NOT NULL DEFAULT false, "Mood" mood,
  "Search" text GENERATED ALWAYS AS (lower("CustomerName")) VIRTUAL, deleted_at timestamptz
);
INSERT INTO "Sales"."Customer" ("CustomerName", "E-Mail", "Mobil", "Title", "Land") VALUES
  ('Ann Miller', 'ann@example.com', '+49 30 901820', 'Mrs', 'Germany'),
  ('Bob de Vries', 'bob@example.org', '+31 20 5550100', 'Mr', 'Netherlands'), ('Cher', NULL, NULL, NULL, NULL);

CREATE TABLE "Sales"."Opportunities" (
  id serial PRIMARY KEY, title text NOT NULL, value money, "expectedRevenue" numeric(12,2), currency char(3),
  stage "DealStage" NOT NULL DEFAULT 'New', closed_at timestamp, customer_id bigint REFERENCES "Sales"."Customer",
  second_customer_id bigint REFERENCES "Sales"."Customer", "user" text, updated_at timestamptz
);
INSERT INTO "Sales"."Opportunities" (title, stage) VALUES ('Big one', 'Won'), ('Small one', 'Proposal');

CREATE TABLE "Sales"."Invoices" (year integer, no integer, amount numeric(12,2) NOT NULL, invoice_date date,
  customer_id bigint, PRIMARY KEY (year, no));
CREATE TABLE "Sales"."invoice_lines" (year integer, no integer, line integer, text text, PRIMARY KEY (year, no, line),
  FOREIGN KEY (year, no) REFERENCES "Sales"."Invoices");

CREATE TABLE public.activities (
  activity_id bigserial PRIMARY KEY, type text NOT NULL, summary text, description text, happened_at timestamptz NOT NULL,
  customer_id bigint REFERENCES "Sales"."Customer", year integer, no integer,
  FOREIGN KEY (year, no) REFERENCES "Sales"."Invoices"
);
INSERT INTO public.activities (type, summary, happened_at) VALUES
  ('phone call', 'x', now()), ('Visit', 'y', now()), ('note', 'z', now());

CREATE TABLE public.people_nokey (email text UNIQUE, first_name text, last_name text);
CREATE TABLE public.leads (
  code text NOT NULL UNIQUE, mail_adress text, surname text, "group" text, newsletter text, newsletter_at date
);
INSERT INTO public.leads VALUES
  ('L1', 'x@example.com', 'X', 'a', 'Yes', '2024-01-01'), ('L2', 'y@example.com', 'Y', 'b', 'No', NULL);
CREATE TABLE public.users (id serial PRIMARY KEY, email text, name text);
CREATE TABLE public.weird (id serial PRIMARY KEY, kontakt text, "Vorname" text, "Nachname" text);
INSERT INTO public.weird (kontakt, "Vorname", "Nachname") VALUES
  ('a@example.com', 'A', 'A'), ('b@example.com', 'B', 'B'), ('c@example.com', 'C', 'C');
CREATE TABLE public.employees (id serial PRIMARY KEY, email text, last_name text);
CREATE TABLE public.contacts_backup (id serial PRIMARY KEY, email text, last_name text);
CREATE TABLE public.measures (at timestamptz, value double precision) PARTITION BY RANGE (at);
CREATE TABLE public.measures_2024 PARTITION OF public.measures FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE VIEW public.contacts_view AS SELECT "Id", "E-Mail" AS email FROM "Sales"."Customer";
CREATE MATERIALIZED VIEW public.totals AS SELECT count(*) FROM "Sales"."Customer";
"""
