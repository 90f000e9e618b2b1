"""One HTTP call to a device or service outside, that tells by an exception when it was not taken."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any, Final

from watchroom.errors import LinkError

TIMEOUT_S: Final = 5.0


def call(url: str, body: Mapping[str, Any] | None = None) -> None:
    """Send a POST with a JSON body, or a GET without one. Blocks up to 5 s for each step of the connection.

    Raises:
        LinkError: If the address is wrong, nobody answers, or the answer is no success. Never tells the address,
            which is a secret.
    """
    if not url.startswith(("http://", "https://")):
        raise LinkError("its address is not http:// or https://")
    data = None if body is None else json.dumps(body, ensure_ascii=False).encode()
    headers = {"User-Agent": "watchroom"} | ({"Content-Type": "application/json"} if data else {})
    try:
        request = urllib.request.Request(url, data=data, headers=headers)
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            answer.read(1)
    except urllib.error.HTTPError as exc:
        exc.close()
        raise LinkError(f"it answered {exc.code}") from exc
    except (OSError, ValueError, HTTPException) as exc:
        reason = getattr(exc, "reason", exc)
        raise LinkError(f"it does not answer: {type(reason).__name__}") from exc
