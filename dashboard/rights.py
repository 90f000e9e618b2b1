"""What each role may do, and where a browser's request must come from. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

ALL = frozenset({"guard", "leader", "technician", "contractor", "integrator", "manager", "committee", "kiosk", "admin"})
READ_ONLY = frozenset({"committee", "kiosk"})

RIGHTS: Mapping[str, frozenset[str]] = {
    "view": ALL,
    "alarm.ack": frozenset({"guard", "leader", "admin"}),
    "alarm.reset": frozenset({"guard", "leader", "admin"}),
    "alarm.shelve": frozenset({"guard", "leader", "admin"}),
    # under a work permit: the supervisor's word
    "alarm.out": frozenset({"leader", "manager", "admin"}),
    # which step of which ticket is decided by alarms.tickets, role by role
    "ticket.step": ALL - READ_ONLY,
    "demo.play": ALL - READ_ONLY,
    "credential.view": frozenset({"leader", "manager", "admin"}),
    "credential.manage": frozenset({"manager", "admin"}),
    "permit.grant": frozenset({"leader", "manager", "admin"}),
    "account.manage": frozenset({"admin"}),
}
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def may(role: str, right: str) -> bool:
    """Return whether a role has a right."""
    return role in RIGHTS[right]


def is_same_origin(headers: Mapping[str, str], *, public_url: str) -> bool:
    """Return whether a browser says that our own page sent this request.

    ``Sec-Fetch-Site`` cannot be forged by a page but is sent only to https and localhost; else the origin's
    host must be the one asked for, or the public one (a proxy may have changed the host). A request with
    neither header is no browser's and has no business with a cookie.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = headers.get("origin")
    if not origin:
        return False
    host = urlsplit(origin).netloc.lower()
    return bool(host) and host in {headers.get("host", "").lower(), urlsplit(public_url).netloc.lower()}
