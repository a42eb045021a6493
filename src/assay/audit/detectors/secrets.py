"""Detect secrets and e-mail addresses, and mask them in outputs."""

from __future__ import annotations

import re

from assay.audit.detectors.document import Hit, Text

MOST = 20
"""Maximum number of reported matches per document."""

_FORMS = (
    r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",  # Amazon: key id and secret key
    r"(?i:secret_?access_?key)[\"']?\s{0,3}[=:]\s{0,3}[\"']?(?![A-Za-z0-9/+]{0,37}EXAMPLE)[A-Za-z0-9/+]{40}\b",
    r"\bAccountKey=[A-Za-z0-9+/]{86}==",  # Azure
    r"\bAIza[0-9A-Za-z_-]{35}\b|\bya29\.[0-9A-Za-z_-]{40,}",  # Google
    r"\bdop_v1_[0-9a-f]{64}\b",  # DigitalOcean
    r"\bgh[pousr]_[A-Za-z0-9]{36,255}\b|\bgithub_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}\b|\bglpat-[A-Za-z0-9_-]{20,}",
    r"\bhf_[A-Za-z0-9]{34,}\b|\bnpm_[A-Za-z0-9]{36}\b|\bpypi-AgE[A-Za-z0-9_-]{50,}",
    r"\bsk-(?:proj|svcacct|admin|ant)-[A-Za-z0-9_-]{32,}|\bsk-[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20}",  # model APIs
    r"\bxox[abprs]-[A-Za-z0-9-]{20,}|\bxapp-\d-[A-Z0-9]{8,}-\d+-[0-9a-f]{32,}",  # Slack
    r"\bhooks\.slack\.com/services/T\w{6,}/B\w{6,}/\w{20,}",
    r"\b[rs]k_live_[0-9a-zA-Z]{24,}|\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}",  # Stripe, SendGrid
    r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{20,}",  # a signed JSON web token, RFC 7519
    # Private keys, RFC 7468, also in a string literal, and with the headers of old formats.
    r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----(?:\s|\\[rn]|[A-Z][A-Za-z-]{1,30}: [^\n]{0,200}\n){1,40}[A-Za-z0-9+/=]{20}",
    r"\bPrivate-Lines: \d{1,4}\s{1,4}[A-Za-z0-9+/=]{20}",  # PuTTY
)
"""Key formats that issuers publish. Passwords have no format and are not detected."""
_SECRETS = re.compile("|".join(_FORMS).encode("ascii"))
_ADDRESS = re.compile(rb"@[A-Za-z0-9-]{2,}(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}\b")
_LOCAL = re.compile(rb"[A-Za-z0-9._%+-]+\Z")
_PLACEHOLDERS = (b"@example.", b"@localhost", b".example", b"@domain.", b"@test.", b"@host.")

_SHOWN_SECRET = re.compile(_SECRETS.pattern.decode("ascii"))
_SHOWN_ADDRESS = re.compile("[A-Za-z0-9._%+-]{1,64}" + _ADDRESS.pattern.decode("ascii"))


def keys(text: Text) -> Hit | None:
    """Detect keys and tokens that have a published format."""
    if "secrets" not in text.marks:
        return None
    spans = [match.span() for match in _SECRETS.finditer(text.data)]
    return Hit(spans=tuple(spans[:MOST]), note=f"{len(spans)}") if spans else None


def addresses(text: Text) -> Hit | None:
    """Detect e-mail addresses, except placeholders such as `@example.org`."""
    spans = []
    for match in _ADDRESS.finditer(text.data):
        local = _LOCAL.search(text.data, max(0, match.start() - 64), match.start())
        if local and not any(mark in match[0].lower() for mark in _PLACEHOLDERS):
            spans.append((local.start(), match.end()))
    return Hit(spans=tuple(spans[:MOST]), note=f"{len(spans)}") if spans else None


def masked(text: str) -> str:
    """Mask secrets and e-mail addresses.

    A masked secret keeps its length and its first two characters.

    >>> masked("write to jane.doe@uni.edu")
    'write to ja**************'
    """
    for pattern in (_SHOWN_SECRET, _SHOWN_ADDRESS):
        text = pattern.sub(lambda match: match[0][:2] + "*" * (len(match[0]) - 2), text)
    return text
