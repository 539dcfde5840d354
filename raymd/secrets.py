"""Credentials out of text, before anything is printed, logged or written into a run directory.

Place on the data's way: at its exits. A text or a JSON value enters and leaves without what a
storage's URI or the environment holds of credentials: ``s3://KEY:SECRET@bucket/runs`` becomes
``s3://***@bucket/runs``.
"""

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

MASK = "***"
MIN_LENGTH = 8  # shorter values stand in ordinary words

_SECRET_VARIABLE = re.compile(
    r"(KEY|KEYS|SECRET|SECRETS|TOKEN|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|PAT|SAS)"
    r"(_\d+)?$",
    re.IGNORECASE,
)
_USER_INFO = re.compile(
    r"""(\b[a-z][a-z0-9+.-]*://)      # s3://
        (?: (?<!abfs://)(?<!abfss://)(?<!gs://)  # there it is a container, or "anonymous"
            [^\s/?\#@:'"]+             # TOKEN
          | [^\s/?\#@:'"]*:[^\s@'"]+  # KEY:SECRET, also with slashes that should be %2F
        )@""",
    re.IGNORECASE | re.VERBOSE,
)
_QUERY = re.compile(
    r"""([?&] [\w.-]* (?:secret|token|password|passwd|credential|signature|access_?key|api_?key
          |account_?key) [\w.-]* = | [?&](?:sig|key|pwd)=) [^\s&'"]+""",
    re.IGNORECASE | re.VERBOSE,
)


def without_secrets(text: str, *, environment: Mapping[str, str] | None = None) -> str:
    """A text with credentials masked; one that has none comes back as it is.

    Args:
        text: Of any kind: a URI, an error message, a traceback, YAML.
        environment: Where secrets are known from; the process's own by default. Values of 8 letters
            or more of variables named …KEY, …SECRET, …TOKEN, …PASSWORD and their like are masked.
    """
    text = _QUERY.sub(rf"\1{MASK}", _USER_INFO.sub(rf"\1{MASK}@", text))
    for secret in _secrets(os.environ if environment is None else environment):
        text = text.replace(secret, MASK)
    return text


def masked(value: Any) -> Any:
    """A JSON value with credentials masked in all its texts; its keys stay."""
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, Mapping):
        return {key: masked(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [masked(inner) for inner in value]
    return value


def _secrets(environment: Mapping[str, str]) -> list[str]:
    """Values to mask, as they are and as URIs hold them; the longest first, for one may hold
    another."""
    plain = {
        value
        for name, value in environment.items()
        if len(value) >= MIN_LENGTH and _SECRET_VARIABLE.search(name)
    }
    return sorted(plain | {quote(value, safe="") for value in plain}, key=len, reverse=True)
