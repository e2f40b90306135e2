"""Signatures against values that the vendors' own SDKs computed, and against every way to forge one."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.kit.connector import Request
from connectors.kit.signing import (
    hmac_sha256,
    hubspot_v3,
    require,
    standard_webhooks,
    timestamped,
    verify_hubspot,
    verify_standard_webhooks,
    verify_timestamped,
)
from hub.errors import Reject

ROOT = Path(__file__).resolve().parents[2]
VECTORS = Path(os.environ.get("HUB_SHARED", ROOT.parent / "shared")) / "specs" / "vectors"


def vectors(name: str) -> list[dict[str, Any]]:
    """The vectors of one vendor."""
    path = VECTORS / f"{name}.json"
    if not path.exists():
        if os.environ.get("CI"):
            pytest.fail(f"{path} is missing")
        pytest.skip(f"the shared signature vectors are not here: {path}")
    found: list[dict[str, Any]] = json.loads(path.read_text())
    return found


def test_hubspot_v3_equals_the_sdks() -> None:
    (vector,) = [v for v in vectors("hubspot") if v["scheme"] == "v3"]
    computed = hubspot_v3(
        vector["secret"], vector["method"], vector["uri"], vector["body"].encode(), vector["timestamp_ms"]
    )
    assert computed == vector["signature"]


def test_older_hubspot_signatures_alone_are_refused() -> None:
    for vector in vectors("hubspot"):
        if vector["scheme"] == "v3":
            continue
        headers = {"x-hubspot-signature": vector["signature"], "x-hubspot-signature-version": vector["scheme"]}
        request = Request(vector["method"], vector["uri"], headers, vector["body"].encode(), 1_564_113_600.0)
        with pytest.raises(Reject) as refused:
            verify_hubspot(vector["secret"], request)
        assert refused.value.code == "signature"


def test_other_schemes_equal_the_sdks() -> None:
    (square,) = vectors("square")
    assert hmac_sha256(square["key"], square["notification_url"] + square["body"]) == square["signature"]
    (intuit,) = vectors("quickbooks")
    assert hmac_sha256(intuit["verifier_token"], intuit["body"]) == intuit["signature"]
    (razorpay,) = vectors("razorpay")
    assert hmac_sha256(razorpay["secret"], razorpay["body"], "hex") == razorpay["signature"]
    (stripe,) = vectors("stripe")
    _, _, header = stripe["header"].partition(": ")
    verify_timestamped(stripe["secret"], header, stripe["body"].encode(), stripe["timestamp"] + 300)
    (standard,) = vectors("standard-webhooks")
    sent = {"webhook-id": standard["id"], "webhook-timestamp": str(standard["timestamp"]),
            "webhook-signature": f"v1,AAAA {standard['signature']}"}  # fmt: skip
    verify_standard_webhooks(standard["secret"], sent, standard["body"].encode(), standard["timestamp"] - 299)


NOW = 1_788_256_800.0
BODY = b'{"a": 1}'


def _hubspot(body: bytes = BODY, age: float = 0, secret: str = "s", signature: str | None = None) -> None:
    stamp = str(int((NOW - age) * 1000))
    given = hubspot_v3("s", "POST", "https://a/b", BODY, stamp) if signature is None else signature
    headers = {"x-hubspot-signature-v3": given, "x-hubspot-request-timestamp": stamp}
    verify_hubspot(secret, Request("POST", "https://a/b", headers, body, NOW))


def _timestamped(body: bytes = BODY, age: float = 0, secret: str = "s", signature: str | None = None) -> None:
    stamp = str(int(NOW - age))
    given = timestamped("s", stamp, BODY) if signature is None else signature
    verify_timestamped(secret, f"t={stamp},v1={given}", body, NOW)


def _standard(body: bytes = BODY, age: float = 0, secret: str = "c2VjcmV0", signature: str | None = None) -> None:
    stamp = str(int(NOW - age))
    given = standard_webhooks("c2VjcmV0", "m", stamp, BODY) if signature is None else signature
    sent = {"webhook-id": "m", "webhook-timestamp": stamp, "webhook-signature": given}
    verify_standard_webhooks(secret, sent, body, NOW)


SCHEMES = pytest.mark.parametrize("verify", [_hubspot, _timestamped, _standard])


@SCHEMES
def test_a_right_signature_passes_within_five_minutes_both_ways(verify: Callable[..., None]) -> None:
    for age in (-300, 0, 300):
        verify(age=age)
    for age in (-302, 302):
        with pytest.raises(Reject) as refused:
            verify(age=age)
        assert refused.value.code == "stale"


@SCHEMES
def test_another_body_secret_or_signature_is_refused(verify: Callable[..., None]) -> None:
    for wrong in ({"body": BODY + b" "}, {"secret": "b3RoZXI="}, {"signature": ""}, {"signature": "ü\ud800"}):
        with pytest.raises(Reject) as refused:
            verify(**wrong)
        assert refused.value.code == "signature"


@SCHEMES
@given(signature=st.text(max_size=80))
def test_no_invented_signature_passes(verify: Callable[..., None], signature: str) -> None:
    with pytest.raises(Reject):
        verify(signature=signature)


def test_an_absent_signature_or_timestamp_is_refused() -> None:
    for call in (
        lambda: verify_timestamped("s", None, BODY, NOW),
        lambda: verify_timestamped("s", "t=,v1=" + timestamped("s", "", BODY), BODY, NOW),
        lambda: verify_timestamped("s", "t=nan,v1=" + timestamped("s", "nan", BODY), BODY, NOW),
        lambda: verify_standard_webhooks("c2VjcmV0", {}, BODY, NOW),
        lambda: require("expected", None),
    ):
        with pytest.raises(Reject):
            call()


def test_hubspot_undoes_twelve_escapes_and_no_other() -> None:
    plain = hubspot_v3("s", "POST", "https://a/b?x=:/?@!$'()*,;%20%25", BODY, "1")
    assert hubspot_v3("s", "POST", "https://a/b?x=%3a%2F%3F%40%21%24%27%28%29%2A%2C%3B%20%25", BODY, "1") == plain
    assert hubspot_v3("s", "POST", "https://a/b?x=:/?@!$'()*,; %25", BODY, "1") != plain
