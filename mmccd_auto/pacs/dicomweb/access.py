"""Where an archive is, and how it is spoken to; loads nothing, so that mistakes in the options are told at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.strict_json import shown


@dataclass(frozen=True)
class WebAccess:
    """How an archive is spoken to.

    Attributes
    ----------
    url : of the DICOMweb service, as https://pacs.example/dicom-web
    user : for basic authentication; None for none
    password : likewise; never shown
    ca_file : certificates (PEM) by which the archive's own is checked, instead of the system's
    client_certificate, client_key : PEM files by which this side proves who it is; the key may lie in the former
    """

    url: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            parts.port  # noqa: B018 - a number that is none is found when it is asked for
        except ValueError as error:
            raise MMCCDError(f"--dicomweb {shown(self.url)} is no address: give https://HOST[:PORT]/PATH.") from error
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise MMCCDError(f"--dicomweb {shown(self.url)} is no address: give https://HOST[:PORT]/PATH.")
        if parts.username or parts.password:
            raise MMCCDError("--dicomweb holds a user or a password, which others can see: give --user and --password_file.")
        if parts.scheme == "http" and self.password is not None and not _is_loopback(parts.hostname):
            raise MMCCDError("--dicomweb is not encrypted, and the password would be sent readably: give https://.")
        if self.user is not None and self.password is None:
            raise MMCCDError("--user needs a password: give --password_file, or set MMCCD_PACS_PASSWORD.")
        for option, path in (
            ("--ca_file", self.ca_file),
            ("--client_cert", self.client_certificate),
            ("--client_key", self.client_key),
        ):
            if path is not None and not path.is_file():
                raise MMCCDError(f"{option} {path} is no file: give a file in PEM format.")
        if self.client_key is not None and self.client_certificate is None:
            raise MMCCDError("--client_key needs the certificate that belongs to it: give --client_cert.")

    @property
    def is_private(self) -> bool:
        """Whether what is sent can't be read on the way: encrypted, or it doesn't leave this machine."""
        parts = urlsplit(self.url)
        return parts.scheme == "https" or _is_loopback(parts.hostname or "")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
