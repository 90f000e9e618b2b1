"""Credentials and permits over HTTP: masked, by role, every change in the audit log."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from dashboard import models
from dashboard.api_credentials import CredentialInfo, Imported, PermitInfo
from tests.dashboard.center import Center
from tests.dashboard.desk import Desk
from tests.dashboard.test_api import body
from watchroom.database.tables import audit

CSV = "kind,number,owner,list\ncard,0A1B2C3D,张三,white\ncard,99887766,Li Wei,lost\n"


def audited(center: Center) -> list[tuple[str, str | None]]:
    with center.database.connect() as conn:
        rows = conn.execute(select(audit.c.action, audit.c.user).order_by(audit.c.seq)).all()
    return [(row.action, row.user) for row in rows if row.action.startswith(("credential", "permit"))]


async def test_import_list_and_lose(desk: Desk, center: Center) -> None:
    """A manager brings in a file, sees it masked, and reports a card lost; the log says who."""
    async with desk.person("manager") as manager:
        done = body(await manager.post("/api/v1/credentials/import", content=CSV.encode()), Imported)
        assert done == {"read": 2, "changed": 2}
        page = body(await manager.get("/api/v1/credentials?limit=1"), models.Page[CredentialInfo])
        rest = body(await manager.get(f"/api/v1/credentials?cursor={page['next']}"), models.Page[CredentialInfo])
        items = [*page["items"], *rest["items"]]
        assert sorted((item["hint"], item["owner"], item["standing"]) for item in items) == [
            ("…3D", "张*", "white"),
            ("…66", "L*", "lost"),
        ]
        assert "0A1B2C3D" not in str(items)
        key = next(item["key"] for item in items if item["standing"] == "white")
        told = await manager.post(f"/api/v1/credentials/{key}/standing", json={"standing": "black", "reason": "theft"})
        assert told.status_code == 200
        found = body(await manager.get("/api/v1/credentials?standing=black"), models.Page[CredentialInfo])
        assert [item["key"] for item in found["items"]] == [key]
        missing = await manager.post("/api/v1/credentials/k:0/standing", json={"standing": "lost", "reason": "x"})
        assert (missing.status_code, missing.json()["code"]) == (404, "credential.unknown")
    assert [action for action, _ in audited(center)] == ["credential_import", "credential_standing"]
    assert all(user for _, user in audited(center))


@pytest.mark.parametrize("content", [b"\xff\xfe", b"kind,number\nkey,1\n", b"number\n1\n"])
async def test_a_wrong_file_changes_nothing(desk: Desk, center: Center, content: bytes) -> None:
    """A file that cannot be taken over is refused with the place; nothing of it is kept."""
    async with desk.person("admin") as admin:
        told = await admin.post("/api/v1/credentials/import", content=content)
        assert (told.status_code, told.json()["code"]) == (422, "credential.file")
        assert body(await admin.get("/api/v1/credentials"), models.Page[CredentialInfo])["items"] == []
    assert audited(center) == []


@pytest.mark.parametrize("role", ["guard", "technician", "contractor", "committee", "kiosk"])
async def test_who_may_not(desk: Desk, role: str) -> None:
    """The registry is none of a guard's or contractor's business; permits are seen by all and given by few."""
    async with desk.person(role) as person:
        assert (await person.get("/api/v1/credentials")).status_code == 403
        assert (await person.post("/api/v1/credentials/import", content=CSV.encode())).status_code == 403
        asked = {"door": "DR-S1", "minutes": 5, "reason": "x"}
        assert (await person.post("/api/v1/permits", json=asked)).status_code == 403
        assert (await person.get("/api/v1/permits")).status_code == 200


async def test_a_permit_begins_and_ends(desk: Desk, center: Center) -> None:
    """A shift leader lets a door stand open for an hour, and takes it back."""
    async with desk.person("leader") as leader:
        asked = {"door": "DR-S1", "minutes": 60, "reason": "furniture"}
        made = body(await leader.post("/api/v1/permits", json=asked), PermitInfo, 201)
        assert made["until_ms"] - made["from_ms"] == 3_600_000
        assert body(await leader.get("/api/v1/permits"), models.Page[PermitInfo])["items"] == [made]
        assert (await leader.post(f"/api/v1/permits/{made['id']}/end")).status_code == 204
        assert (await leader.post(f"/api/v1/permits/{made['id']}/end")).status_code == 404
        assert body(await leader.get("/api/v1/permits"), models.Page[PermitInfo])["items"] == []
        assert (await leader.post("/api/v1/permits", json={**asked, "door": "WP-01"})).status_code == 404
    assert [action for action, _ in audited(center)] == ["permit", "permit_end"]
