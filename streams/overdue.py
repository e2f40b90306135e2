"""Overdue: writes that wait for another record for longer than they should raise one alert per target, until none does."""

from streams import alerts
from streams.context import Context

ALERT = "held_overdue"
OVERDUE = (
    "select target, count(*) as n, min(held_since) as since from hub.write where state = 'held'"
    " and held_since < now() - make_interval(secs => $1) group by target order by target"
)


async def look(context: Context) -> list[str]:
    """Raise and clear; the targets concerned."""
    async with context.pool.acquire() as conn:
        rows = await conn.fetch(OVERDUE, context.patience.overdue_seconds)
        targets = [row["target"] for row in rows]
        raised = await conn.fetch(
            "insert into hub.alarm (name, subject) select $1, unnest($2::text[]) on conflict do nothing returning subject",
            ALERT, targets,
        )  # fmt: skip
        over = await conn.fetch(
            "delete from hub.alarm where name = $1 and not subject = any($2) returning subject", ALERT, targets
        )
    for row in (row for row in rows if row["target"] in {r["subject"] for r in raised}):
        what = f"{row['n']} writes have been waiting for another record since {row['since']:%Y-%m-%d %H:%M} UTC"
        await alerts.raised(context, ALERT, row["target"], f"{what}; `hub show` of one says for which")
    for subject in over:
        await alerts.cleared(context, ALERT, subject["subject"], "nothing waits for too long any more")
    return targets
