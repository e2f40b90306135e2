"""The frame of every sandbox: faults, request journal, control API, webhooks, serving."""

from connectors.kit.sandbox.frame import Call, Clock, Fault, FaultKind, Faults, Frame, Journal, Vendor, install
from connectors.kit.sandbox.webhooks import WebhookMode, WebhookSender, WebhookSettings
from connectors.kit.serving import Running, serve, serve_in_thread

__all__ = [
    "Call",
    "Clock",
    "Fault",
    "FaultKind",
    "Faults",
    "Frame",
    "Journal",
    "Running",
    "Vendor",
    "WebhookMode",
    "WebhookSender",
    "WebhookSettings",
    "install",
    "serve",
    "serve_in_thread",
]
