"""TLS towards a server: whom we believe, and by which certificate it knows us."""

from __future__ import annotations

import ssl
from pathlib import Path

from watchroom.errors import ConfigError


def client_context(*, ca_file: Path | None, cert_file: Path | None, cert_key_file: Path | None) -> ssl.SSLContext:
    """Return what a TLS connection needs; TLS 1.2 or newer, the server's name is checked.

    Args:
        ca_file: Certificate authority of the server (PEM); None for those the system believes.
        cert_file: Our certificate chain (PEM); None if the server knows us otherwise.
        cert_key_file: Its private key (PEM); None if the same file holds it.

    Raises:
        ConfigError: If a file is missing, unreadable, or the key is not the certificate's.
    """
    if cert_key_file is not None and cert_file is None:
        raise ConfigError("a private key needs its certificate", path=cert_key_file, key="WATCHROOM_MQTT__CERT_FILE")
    try:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=ca_file)
    except (OSError, ValueError) as exc:
        raise ConfigError(f"cannot use this authority: {exc}", path=ca_file, key="WATCHROOM_MQTT__CA_FILE") from exc
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert_file is not None:
        try:
            context.load_cert_chain(cert_file, cert_key_file)
        except (OSError, ValueError) as exc:
            hint = f"key file: {cert_key_file or 'none set, so the same file must hold it'}"
            problem = f"cannot use this certificate: {exc}"
            raise ConfigError(problem, path=cert_file, key="WATCHROOM_MQTT__CERT_FILE", hint=hint) from exc
    return context
