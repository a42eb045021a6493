"""What gives access, and what names a person: found, counted, and never shown whole."""

from __future__ import annotations

import re

from assay.audit.text import Hit, Text

MOST = 20
"""Places of a document that are kept."""

_SECRETS = re.compile(
    rb"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}\b|\bxox[abprs]-[A-Za-z0-9-]{20,}|\bAIza[0-9A-Za-z_-]{35}\b|\bsk_live_[0-9a-zA-Z]{24,}|-----BEGIN (?:RSA |EC |OPENSSH |DSA )?PRIVATE KEY-----\s+[A-Za-z0-9+/=]{20}"
)
_ADDRESS = re.compile(rb"@[A-Za-z0-9-]{2,}(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}\b")
_LOCAL = re.compile(rb"[A-Za-z0-9._%+-]+\Z")
_NOBODY = (b"@example.", b"@localhost", b".example", b"@domain.", b"@test.", b"@host.")

_SHOWN_SECRET = re.compile(_SECRETS.pattern.decode("ascii"))
_SHOWN_ADDRESS = re.compile("[A-Za-z0-9._%+-]{1,64}" + _ADDRESS.pattern.decode("ascii"))


def keys(text: Text) -> Hit | None:
    """Keys and tokens of well-known forms."""
    if "secrets" not in text.marks:
        return None
    found = [match.span() for match in _SECRETS.finditer(text.data)]
    return Hit(spans=tuple(found[:MOST]), note=f"{len(found)}") if found else None


def addresses(text: Text) -> Hit | None:
    """E-mail addresses, those of examples left out."""
    found = []
    for match in _ADDRESS.finditer(text.data):
        local = _LOCAL.search(text.data, max(0, match.start() - 64), match.start())
        if local and not any(mark in match[0].lower() for mark in _NOBODY):
            found.append((local.start(), match.end()))
    return Hit(spans=tuple(found[:MOST]), note=f"{len(found)}") if found else None


def masked(text: str) -> str:
    """The text with secrets and e-mail addresses masked: as long as it was, with two characters to know each by.

    >>> masked("write to jane.doe@uni.edu")
    'write to ja**************'
    """
    for pattern in (_SHOWN_SECRET, _SHOWN_ADDRESS):
        text = pattern.sub(lambda match: match[0][:2] + "*" * (len(match[0]) - 2), text)
    return text
