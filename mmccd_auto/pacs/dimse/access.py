"""Who may send, where objects go, and by which name; loads nothing, so that mistakes in the options are told at once."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.strict_json import shown

LONGEST_TITLE = 16
HANDSHAKE_SECONDS = 15.0
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\]")


@dataclass(frozen=True)
class Place:
    """A host and a port."""

    host: str
    port: int


@dataclass(frozen=True)
class TlsFiles:
    """PEM files by which both sides prove who they are.

    Attributes
    ----------
    ca_file : certificates by which the other side's is checked
    certificate, key : of this side; the key may lie in the former
    """

    ca_file: Path
    certificate: Path
    key: Path | None = None

    def accepting(self) -> ssl.SSLContext:
        """For those who connect: without a certificate that ``ca_file`` knows, none gets in."""
        return self._load(_PatientContext(ssl.PROTOCOL_TLS_SERVER))

    def connecting(self) -> ssl.SSLContext:
        """For the one that is connected to, whose name must stand in its certificate."""
        return self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))

    def _load(self, context: ssl.SSLContext) -> ssl.SSLContext:
        try:
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.load_verify_locations(self.ca_file)
            context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise MMCCDError(
                f"--ca_file, --client_cert or --client_key can't be used ({error.strerror or type(error).__name__}): give "
                "files in PEM format that belong together."
            ) from error
        context.verify_mode = ssl.CERT_REQUIRED
        return context


class _PatientContext(ssl.SSLContext):
    """Doesn't wait for ever: the listener greets one side after the other."""

    def wrap_socket(self, sock: Any, *arguments: Any, **named: Any) -> ssl.SSLSocket:
        """Greet one that connects, for some seconds at most."""
        sock.settimeout(HANDSHAKE_SECONDS)
        wrapped = super().wrap_socket(sock, *arguments, **named)
        wrapped.settimeout(None)
        return wrapped


@dataclass(frozen=True)
class DimseAccess:
    """How DICOM's own protocol is spoken.

    Attributes
    ----------
    listen : where studies are waited for
    title : AE title of this side, which callers must give
    callers : AE titles that may send
    destination, destination_title : where objects are sent
    tls : None speaks without encryption
    """

    listen: Place
    title: str
    callers: tuple[str, ...]
    destination: Place
    destination_title: str
    tls: TlsFiles | None = None


def check_title(text: str) -> str:
    """Return an AE title.

    Raises
    ------
    MMCCDError
        If it is empty, longer than 16 letters, or holds others than printable ASCII.
    """
    title = text.strip()
    if not title or len(title) > LONGEST_TITLE or not title.isascii() or not title.isprintable() or "\\" in title:
        raise MMCCDError(f"The AE title {shown(text)} is none: give 1 to {LONGEST_TITLE} letters of ASCII, no backslash.")
    return title


def parse_place(text: str) -> Place:
    """Take HOST:PORT apart.

    Raises
    ------
    MMCCDError
        If either is missing or none.
    """
    host, _, port = text.rpartition(":")
    if not _HOST.fullmatch(host) or not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 2**16:
        raise MMCCDError(f"{shown(text)} is no place to connect to: give HOST:PORT, such as 10.0.0.5:11112.")
    return Place(host.strip("[]"), int(port))


def parse_destination(text: str) -> tuple[str, Place]:
    """Take AET@HOST:PORT apart.

    Raises
    ------
    MMCCDError
        If a part is missing or can't be used.
    """
    title, _, place = text.rpartition("@")
    return check_title(title), parse_place(place)
