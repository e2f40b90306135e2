"""Signatures of webhooks: every HMAC of the hub is in this file, and every comparison takes constant time.

`verify_*` return nothing and raise Reject, code "signature" for what is forged or missing and "stale" for what is
older, or further in the future, than the vendor's tolerance. Bodies are verified as received, before any parsing.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Literal

from connectors.kit.connector import Request
from hub.errors import Reject

TOLERANCE_SECONDS = 300.0


def hmac_sha256(secret: str | bytes, message: str | bytes, encoding: Literal["hex", "base64"] = "base64") -> str:
    """HMAC-SHA256 as text: base64 of the body is QuickBooks', of URL and body Square's, hex of the body Razorpay's."""
    digest = hmac.new(_bytes(secret), _bytes(message), hashlib.sha256).digest()
    return digest.hex() if encoding == "hex" else base64.b64encode(digest).decode()


def equal(expected: str, given: str) -> bool:
    """Compare without telling by the time taken where they differ; any text may be `given`."""
    return hmac.compare_digest(expected.encode(), given.encode("utf-8", "surrogatepass"))


def require(expected: str, given: str | None) -> None:
    """Raise Reject unless the given signature is the expected one."""
    if not given or not equal(expected, given):
        raise Reject("the signature is wrong or missing", "signature")


def require_fresh(sent: float, now: float, tolerance: float = TOLERANCE_SECONDS) -> None:
    """Raise Reject where a timestamp (seconds since 1970) is further from now than tolerated, either way."""
    if not abs(now - sent) <= tolerance:
        raise Reject(f"the timestamp is more than {tolerance:.0f} s away", "stale")


# The only escapes that HubSpot undoes in the URI before it signs.
# Source: developers.hubspot.com/docs/apps/legacy-apps/authentication/validating-requests
HUBSPOT_ESCAPES = {
    "%3A": ":", "%2F": "/", "%3F": "?", "%40": "@", "%21": "!", "%24": "$", "%27": "'", "%28": "(", "%29": ")",
    "%2A": "*", "%2C": ",", "%3B": ";",
}  # fmt: skip
_ESCAPE = re.compile("|".join(HUBSPOT_ESCAPES), re.IGNORECASE)


def hubspot_v3(secret: str, method: str, url: str, body: bytes, timestamp: str) -> str:
    """HubSpot's signature v3: base64 HMAC-SHA256 of method, URI, body and timestamp (milliseconds), nothing between."""
    uri = _ESCAPE.sub(lambda match: HUBSPOT_ESCAPES[match[0].upper()], url)
    return hmac_sha256(secret, f"{method}{uri}".encode() + body + timestamp.encode())


def verify_hubspot(secret: str, request: Request) -> None:
    """Check X-HubSpot-Signature-v3. Versions 1 and 2 do not sign the time, so they are refused as if absent."""
    timestamp = request.headers.get("x-hubspot-request-timestamp", "")
    given = request.headers.get("x-hubspot-signature-v3")
    require(hubspot_v3(secret, request.method, request.url, request.body, timestamp), given)
    require_fresh(_number(timestamp) / 1000, request.received_at)


def timestamped(secret: str, timestamp: str, body: bytes) -> str:
    """Hex HMAC-SHA256 of "<seconds>.<body>": Stripe's v1, and Mailchimp's."""
    return hmac_sha256(secret, timestamp.encode() + b"." + body, "hex")


def verify_timestamped(secret: str, header: str | None, body: bytes, now: float) -> None:
    """Check a header "t=<seconds>,v1=<hex>[,v1=<hex>]"; one right signature suffices (a secret being rotated)."""
    parts = [part.strip().partition("=") for part in (header or "")[:4096].split(",")]
    timestamp = next((value for name, _, value in parts if name == "t"), "")
    expected = timestamped(secret, timestamp, body)
    _require_any(expected, [value for name, _, value in parts if name == "v1"])
    require_fresh(_number(timestamp), now)


def standard_webhooks(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    """Standard Webhooks' symmetric signature "v1,<base64>"; the secret is base64, with or without "whsec_"."""
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        raise Reject("the webhook secret is not base64", "config") from None
    return "v1," + hmac_sha256(key, f"{message_id}.{timestamp}.".encode() + body)


def verify_standard_webhooks(secret: str, headers: Mapping[str, str], body: bytes, now: float) -> None:
    """Check webhook-id, webhook-timestamp and webhook-signature (several, separated by blanks, where keys rotate)."""
    timestamp = headers.get("webhook-timestamp", "")
    expected = standard_webhooks(secret, headers.get("webhook-id", ""), timestamp, body)
    _require_any(expected, headers.get("webhook-signature", "")[:4096].split())
    require_fresh(_number(timestamp), now)


def _require_any(expected: str, given: list[str]) -> None:
    if not any([equal(expected, one) for one in given]):  # a list: all are compared, whichever is right
        raise Reject("the signature is wrong or missing", "signature")


def _number(timestamp: str) -> float:
    if not re.fullmatch(r"\d{1,16}", timestamp):
        raise Reject("the timestamp is missing or no number", "stale")
    return float(timestamp)


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()
