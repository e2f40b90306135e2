"""Assembly: the stages and services that one process hosts, from an open hub. Apart from the wiring, for the stream
processing library is dear to import and most commands need none of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from hub.config import Config
from hub.config.models import Audit
from hub.edge.wiring import Hub, threshold_of
from streams import plan, project, refetch, services
from streams.app import StageApp, Workers, stage_app
from streams.auditing import Plan
from streams.capture import Capture
from streams.deliver import Deliverer
from streams.ledger import change_topics
from streams.services import Loop
from streams.topics import golden_topic, notices_topic
from streams.watch import Watcher

STAGES = ("capture", "refetch", "project", "plan", "deliver")


@dataclass(slots=True)
class Worker:
    """The stages and services of one process, not started yet."""

    hub: Hub
    workers: Workers
    captures: list[Capture]
    deliverers: list[Deliverer]
    watcher: Watcher | None = None


def assemble(hub: Hub, stages: Sequence[str] = STAGES) -> Worker:
    """A worker that hosts these stages."""
    context = hub.context
    captures = [Capture(context, s, stream) for s, c in context.connectors.items() for stream in c.streams()]
    captures = captures if "capture" in stages else []
    targets = {target for entity in context.model.entities for target in context.model.targets(entity)}
    deliverers = [Deliverer(context, t) for t in sorted(targets)] if "deliver" in stages else []
    loops = services.capturing(captures) + (services.delivering(context, deliverers) if deliverers else [])
    loops += services.auditing(context, audit_plans(hub.config)) if captures else []
    watcher = Watcher(context) if captures else None
    loops += [services.gate(context), Loop("watch", watcher.forever)] if watcher else []
    loops += [services.upkeep(context), services.beating()]
    return Worker(hub, Workers(_apps(hub, stages), loops), captures, deliverers, watcher)


def audit_plans(config: Config) -> list[Plan]:
    """When each system is audited: where `audit` is configured, and where deletes are found by scans."""
    plans = []
    for name, system in config.systems.items():
        said = system.audit or Audit(hours=0)
        scans = [one for one, mapping in system.objects.items() if mapping.deletes == "scan"]
        hours = (said.hours * 3_600, said.scan_hours * 3_600)
        plans.append(Plan(name, list(system.objects), scans, said.sample, *hours, threshold_of(config, name)))
    return [plan for plan in plans if plan.scans or plan.sample_seconds]


def _apps(hub: Hub, stages: Sequence[str]) -> list[StageApp]:
    context = hub.context
    apps = []
    if "project" in stages:
        apps.append(stage_app(project.STAGE, hub.log_url, change_topics(context), project.Project(context)))
    if "plan" in stages:
        golden = [golden_topic(entity).name for entity in context.model.entities]
        apps.append(stage_app(plan.STAGE, hub.log_url, golden, plan.Plan(context)))
    if "refetch" in stages:
        for system in context.connectors:
            handler = refetch.Refetch(context, system)
            apps.append(stage_app(f"{refetch.STAGE}-{system}", hub.log_url, [notices_topic(system).name], handler))
    return apps
