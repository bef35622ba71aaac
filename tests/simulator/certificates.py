# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates of a simulated world: one certificate authority, server certificates of its machines, client certificates.

Keys are made anew for each world and live only in the folder given. Nothing here knows HTTP.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

UPN = ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")
KINDS = ("trusted", "self_signed", "wrong_name", "expired")


@dataclass(frozen=True, kw_only=True)
class KeyPair:
    """PEM files of a certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """The certificate authority of a world; `ca_file` is what a user lets his client trust."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(f"{name} simulator CA")
        builder = _builder(self._name, self._name, self._key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        usage = x509.KeyUsage(
            digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
            key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        builder = builder.add_extension(usage, critical=True).add_extension(
            x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False
        )
        self._certificate = builder.sign(self._key, hashes.SHA256())
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def issue_server(self, name: str, addresses: Iterable[str], kind: str = "trusted") -> KeyPair:
        """A server certificate; `kind` is trusted, self_signed, wrong_name or expired."""
        if kind not in KINDS:
            raise ValueError(f"no certificate kind {kind!r}; there are {', '.join(KINDS)}")
        names: list[x509.GeneralName] = [x509.DNSName("somebody-else.invalid")]
        if kind != "wrong_name":
            names = [x509.DNSName(name), *(x509.IPAddress(ipaddress.ip_address(address)) for address in addresses)]
        return self._issue(name, names, ExtendedKeyUsageOID.SERVER_AUTH, kind)

    def issue_client(self, account: str) -> KeyPair:
        """A client certificate for `account@localhost`, as WinRM's certificate mapping wants it."""
        upn = f"{account}@localhost"
        value = b"\x0c" + bytes([len(upn)]) + upn.encode()
        return self._issue(account, [x509.OtherName(UPN, value)], ExtendedKeyUsageOID.CLIENT_AUTH, "trusted")

    def _issue(self, name: str, names: list[x509.GeneralName], purpose: ObjectIdentifier, kind: str) -> KeyPair:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name)
        own = kind == "self_signed"
        builder = _builder(subject, subject if own else self._name, key.public_key(), expired=kind == "expired")
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        if not own:
            builder = builder.add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        certificate = builder.sign(key if own else self._key, hashes.SHA256())
        stem = f"{'client' if purpose == ExtendedKeyUsageOID.CLIENT_AUTH else 'server'}-{name}"
        pair = KeyPair(certificate=self._folder / f"{stem}.pem", key=self._folder / f"{stem}.key")
        pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        pair.key.chmod(0o600)
        return pair


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, *, expired: bool = False
) -> x509.CertificateBuilder:
    now = datetime.now(timezone.utc)
    end = now - timedelta(days=1) if expired else now + timedelta(days=825)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=30))
        .not_valid_after(end)
    )
