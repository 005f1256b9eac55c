"""What nobody may read in a log, a result or a report: keys, signatures and passwords in what we print."""

from __future__ import annotations

import re
from typing import Any

HIDDEN = "***"

_NAMES = (
    "sig|signature|x-(?:amz|goog)-(?:signature|credential|security-token)|sharedaccess(?:signature|key)|"
    "accountkey|account_key|sas_(?:key|token)|access_token|id_token|refresh_token|api[_-]?key|"
    "client_secret|password|passwd|pwd|secret|token|[a-z0-9_]+_(?:secret|token|password|api_key)|"
    "azure_storage_[a-z_]*key|secret_?access_?key|aws_secret_access_key|session_?token|aws_session_token|"
    "ocp-apim-subscription-key"
)
# name=value, name: value and "name": "value"; a value ends where a URL, a header or a shell would end it
_ASSIGNED = re.compile(rf"""(?ix) (?<![\w-]) ({_NAMES}) (["']?\s*[=:]\s*["']?) ([^\s&;,"'<>)\]}}]+)""")
_CONNECTION = re.compile(r"(?i)(SharedAccessSignature[\s=]+)[^\s;\"']+")
_USER = re.compile(r"(?i)(\b[a-z][a-z0-9+.-]*://)[^/\s@\"'<>]+@")
_HEADER = re.compile(r"(?i)\b(bearer|basic|sharedkey)(\s+)(?=\S*[\d+/=_.:-])[\w+/=.:~-]{8,}")
_BARE = re.compile(r"\b(?:hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{16,})")


def redact(text: str) -> str:
    text = _USER.sub(rf"\1{HIDDEN}@", text)
    text = _CONNECTION.sub(rf"\1{HIDDEN}", text)
    text = _ASSIGNED.sub(rf"\1\2{HIDDEN}", text)
    text = _HEADER.sub(rf"\1\2{HIDDEN}", text)
    return _BARE.sub(HIDDEN, text)


def redact_json(value: Any) -> Any:
    """Every text within."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, list | tuple):
        return [redact_json(one) for one in value]
    return {key: redact_json(one) for key, one in value.items()} if isinstance(value, dict) else value
