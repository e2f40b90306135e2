"""Nobody is written to who opted out while the step that would write was under way."""

from collections.abc import Callable, Sequence
from pathlib import Path

import asyncpg
import httpx

from hub.edge.embedded import Embedded
from hub.write import Write
from streams import consenting, receipts
from tests.promises.mutations import broken, mutation
from tests.promises.small import KEY, Bench, Running, opened

ANN, EVA = "ann@example.com", "eva@example.com"
leave_intents = receipts.leave_intents


async def opt_in(bench: Bench) -> None:
    for email in (ANN, EVA):
        await bench.crm.execute(
            "insert into contacts (email, first_name, consent, consent_at) values ($1, 'X', 'in', now() - interval '1 day')",
            email,
        )


async def subscribed(bench: Bench) -> dict[str, str]:
    """Mailchimp's members: e-mail -> status."""
    transport = bench.points.vendors["mailchimp.test"]
    async with httpx.AsyncClient(transport=transport, base_url="http://mailchimp.test/3.0", auth=("any", KEY)) as http:
        members = (await http.get("/lists/a1/members", params={"count": 100})).raise_for_status().json()["members"]
    return {member["email_address"]: member["status"] for member in members}


async def check_opted_out_meanwhile(hub: Running) -> None:
    """Of two people who opted in, one opts out after both writes were prepared, and before any was sent."""
    bench = hub.bench

    async def and_then_she_opts_out(conn: asyncpg.Connection, writes: Sequence[Write]) -> None:
        await leave_intents(conn, writes)
        await bench.crm.execute("update contacts set consent = 'out', consent_at = now() where email = $1", EVA)
        await hub.capture()
        await hub.project()

    await opt_in(bench)
    await hub.capture()
    await hub.stages.run()
    with mutation(receipts, "leave_intents", and_then_she_opts_out):
        await hub.mailchimp()
    held = await subscribed(bench)
    assert held == {ANN: "subscribed"}, f"she was subscribed after she had opted out: {held}"
    await hub.stages.run()
    await hub.mailchimp()
    waiting = await bench.state.fetchval("select count(*) from hub.write where target = 'mailchimp'")
    assert waiting == 0, "a write of someone who opted out is still on its way"


async def test_who_opts_out_while_a_step_is_under_way_is_not_written_to(
    postgres: Embedded, tmp_path: Path, figures: Callable[..., None]
) -> None:
    async with opened(postgres, tmp_path) as hub:
        await check_opted_out_meanwhile(hub)
        figures("P8", opted_out_under_way=1)


async def test_it_fails_without_the_second_look(postgres: Embedded, tmp_path: Path) -> None:
    async def nobody(conn: asyncpg.Connection, writes: Sequence[Write]) -> set[str]:
        return set()

    async with opened(postgres, tmp_path) as hub:
        with mutation(consenting, "withheld", nobody), broken("subscribed after she had opted out"):
            await check_opted_out_meanwhile(hub)
