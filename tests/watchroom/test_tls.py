"""TLS to the broker with certificates on both sides, and what is said when a file is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from tests.brokers import Mosquitto, until
from watchroom.errors import ConfigError
from watchroom.mqtt import Message, MqttLink
from watchroom.settings import MqttSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Papers:
    """An authority, a certificate it gave a gateway, and a broker that asks for one."""

    ca: Path
    ours: Path
    foreign: Path
    broker: Mosquitto

    def settings(self, cert: Path | None) -> MqttSettings:
        return MqttSettings(host="localhost", port=self.broker.port, tls=True, ca_file=self.ca, cert_file=cert)


@pytest.fixture
def papers(tmp_path: Path) -> Iterator[Papers]:
    ca, stranger = trustme.CA(), trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    server = ca.issue_cert("localhost", "127.0.0.1")
    server.private_key_pem.write_to_path(tmp_path / "server.key")
    server.cert_chain_pems[0].write_to_path(tmp_path / "server.pem")
    for authority, name in ((ca, "ours"), (stranger, "foreign")):
        papers = authority.issue_cert("pump-house", common_name="pump-house").private_key_and_cert_chain_pem
        papers.write_to_path(tmp_path / f"{name}.pem")
    lines = f"cafile {tmp_path}/ca.pem\ncertfile {tmp_path}/server.pem\nkeyfile {tmp_path}/server.key\n"
    broker = Mosquitto(tmp_path, more=lines + "require_certificate true\nuse_identity_as_username true\n")
    broker.start()
    try:
        yield Papers(
            ca=tmp_path / "ca.pem", ours=tmp_path / "ours.pem", foreign=tmp_path / "foreign.pem", broker=broker
        )
    finally:
        broker.kill()


def test_a_gateway_shows_its_certificate(papers: Papers) -> None:
    """With a certificate of the broker's authority messages flow."""
    came: list[Message] = []
    link = MqttLink(papers.settings(papers.ours), "one", on_message=came.append, on_up=lambda: link.subscribe("t/#"))
    link.start()
    try:
        until(lambda: link.is_up, "the link is up")
        link.publish("t/1", b"hello")
        until(lambda: came, "the message")
    finally:
        link.stop()
    assert came[0].payload == b"hello"


@pytest.mark.parametrize("cert", ["none", "foreign"])
def test_who_shows_none_or_a_foreign_one_stays_out(papers: Papers, cert: str) -> None:
    """A box without a certificate from the operator can neither read nor write; the link says why."""
    reasons: list[str] = []
    given = papers.foreign if cert == "foreign" else None
    link = MqttLink(papers.settings(given), "two", on_down=reasons.append)
    link.start()
    try:
        until(lambda: reasons, "a reason")
        assert not link.is_up
    finally:
        link.stop()


def test_a_wrong_file_is_told_at_the_start(papers: Papers, tmp_path: Path) -> None:
    """A missing or foreign key is one clear sentence with file and variable, not a link that never comes up."""
    with pytest.raises(ConfigError, match=r"nowhere\.pem: WATCHROOM_MQTT__CERT_FILE"):
        MqttLink(papers.settings(tmp_path / "nowhere.pem"), "three")
    with pytest.raises(ConfigError, match=r"ca\.pem: WATCHROOM_MQTT__CERT_FILE.*key file: none set"):
        MqttLink(papers.settings(papers.ca), "four")
    alone = papers.settings(None).model_copy(update={"cert_key_file": papers.ours})
    with pytest.raises(ConfigError, match="needs its certificate"):
        MqttLink(alone, "five")
