"""A new user's first integration: a database that nobody here designed, by commands alone, to HubSpot."""

import asyncio
import os
import re
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from connectors.kit.serving import free_port
from hub.edge import sandboxes
from hub.edge.embedded import Embedded
from tests import children
from tests.config.databases import chinook, content, fill, put

TOKEN = "pat-na1-only-for-tests"


async def hub(directory: Path, env: dict[str, str], *args: str) -> tuple[int, str]:
    """Run a command as a user would: exit code, and everything it printed."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hub.edge", *args, cwd=directory, env=env,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(child.communicate(), 240.0)
    assert child.returncode is not None
    return child.returncode, out.decode()


async def held(url: str, object_: str, properties: str) -> list[dict[str, Any]]:
    """Every record of one object in HubSpot, with its contacts."""
    records: list[dict[str, Any]] = []
    after: str | None = "0"
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        while after is not None:
            params = {"limit": "100", "properties": properties, "associations": "contacts"} | (
                {"after": after} if after != "0" else {}
            )
            page = (await client.get(f"{url}/crm/v3/objects/{object_}", params=params)).raise_for_status().json()
            records += page["results"]
            after = page.get("paging", {}).get("next", {}).get("after")
    return records


async def test_the_customers_and_invoices_of_a_foreign_database_reach_hubspot(
    postgres: Embedded, database: str, tmp_path: Path
) -> None:
    await fill(database, chinook())
    state = await postgres.create(database.rsplit("/", 1)[1].split("?")[0] + "_state")
    async with sandboxes.process("hubspot", children.start) as hubspot:
        await sandboxes.control(hubspot, "seed", {"token": TOKEN})
        env = {
            **os.environ,
            "CRM_URL": database,
            "HUBSPOT_TOKEN": TOKEN,
            "HUBSPOT_ACCESS_TOKEN": TOKEN,
            "HUB_STATE": state,
        }

        code, said = await hub(tmp_path, env, "init", "--from", database, "--to", "hubspot")
        assert code == 0, said
        text = content(tmp_path / "hub.yaml")
        assert database not in text
        # The only edits: where the sandbox is, that it has no limits, and a state database that this test can look into.
        text = re.sub(r"(?m)^(\s*)access_token:.*$", rf"\g<0>\n\1base_url: {hubspot}\n\1calls_per_10_seconds: 0", text)
        put(tmp_path / "hub.yaml", re.sub(r"(?m)^#?\s*state:.*$", "state: ${HUB_STATE}", text))

        code, said = await hub(tmp_path, env, "check")
        assert code == 0, said
        code, said = await hub(tmp_path, env, "run", "--until-idle", "--limit", "200", "--port", str(free_port()))
        assert code == 0, said
        code, said = await hub(tmp_path, env, "ledger")
        assert code == 0, said

        conn = await asyncpg.connect(database)
        customers = await conn.fetch("select email, first_name, last_name from customer")
        invoices = await conn.fetch("select invoice_id, total, email from invoice join customer using (customer_id)")
        await conn.close()
        contacts = await held(hubspot, "contacts", "email,firstname,lastname")
        deals = await held(hubspot, "deals", "dealname,amount,dealstage")

    by_email = {c["properties"]["email"]: c for c in contacts}
    assert len(contacts) == len(customers) == 59
    for customer in customers:
        properties = by_email[customer["email"].lower()]["properties"]
        assert (properties["firstname"], properties["lastname"]) == (customer["first_name"], customer["last_name"])
    named = {d["properties"]["dealname"]: d for d in deals}
    assert len(deals) == len(invoices) == 412
    for invoice in invoices:
        deal = named[f"Invoice {invoice['invoice_id']}"]
        assert Decimal(deal["properties"]["amount"]) == invoice["total"]
        assert deal["properties"]["dealstage"] == "closedwon"
        assert {a["id"] for a in deal["associations"]["contacts"]["results"]} == {
            by_email[invoice["email"].lower()]["id"]
        }
