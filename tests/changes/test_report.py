"""The report: complete, harmless whatever stands in the data, and dependent on nothing."""

import re

from hub.edge import report
from streams.whatif import Scope, whatif
from tests.changes.support import BASE, VARIANTS, Deployed
from tests.stages.conftest import hub
from tests.stages.support import Stages

__all__ = ["hub"]

EVIL = "<script>alert('x')</script><img src=//evil.example>"


async def test_a_page_holds_everything_and_runs_nothing(hub: Stages) -> None:
    hub.context.model = BASE
    await Deployed(hub).adopt()
    await hub.crm("1", email="ann@example.com", name="Ann", tier="gold")
    await hub.shop("2", email="ann@example.com", name=EVIL, tier="silver")
    await hub.crm("3", email="otto@example.com", name="Otto $body")
    told = report.document(await whatif(hub.context, BASE, VARIANTS["transform"], Scope()), "one", "<two>")
    page = report.page(told)
    assert told["fields"]
    assert told["writes"]
    for tag in ("<script", "<img", "<two>", "src=", "href=", "http://", "https://", "url("):
        assert tag not in page.lower().replace("src=//evil.example&gt;", ""), tag
    assert "&lt;SCRIPT&gt;ALERT(" in page, "the value itself is shown"
    assert "OTTO $BODY" in page
    assert len(re.findall("<tr>", page)) >= len(told["fields"]) + len(told["writes"])
    for one in told["writes"]:
        assert one["golden_id"] in page


async def test_nothing_to_tell_is_told(hub: Stages) -> None:
    hub.context.model = BASE
    await Deployed(hub).adopt()
    told = report.document(await whatif(hub.context, BASE, BASE, Scope()), "one", "one")
    assert "Nothing that anybody would see changes" in report.page(told)
