"""Requests to an archive: encrypted and authenticated as asked for, without detours, and bounded in size and time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import requests

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.pacs.archive import Unreachable
from mmccd_auto.pacs.dicomweb.access import WebAccess

# A packed part unpacks to more than the answer's size, and the library unpacks it before it can be looked at.
_PACKED = b"1.2.840.10008.1.2.1.99"
CONNECT_SECONDS, SILENCE_SECONDS = 10.0, 60.0


class BoundedSession(requests.Session):
    """Requests whose answers are bounded in size and time, to one server only.

    Redirections are refused, since they lead images of patients elsewhere, and the environment (proxies, .netrc) counts
    for nothing.
    """

    def __init__(self, access: WebAccess, largest: int, seconds: float) -> None:
        super().__init__()
        self.largest, self.seconds = largest, seconds
        self.trust_env = False
        if access.user is not None:
            self.auth = (access.user, access.password or "")
        if access.ca_file is not None:
            self.verify = str(access.ca_file)
        if access.client_certificate is not None:
            key = access.client_key
            certificate = str(access.client_certificate)
            self.cert = certificate if key is None else (certificate, str(key))

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """Send a request; the answer is read later, within the bounds."""
        response: Any = super().send(request, **{**options, "stream": True, "allow_redirects": False})
        if response.is_redirect:
            response.close()
            raise Unreachable(
                "The archive leads elsewhere (a redirection): give the address that it leads to, if it is right."
            )
        whole = response.iter_content
        deadline = time.monotonic() + self.seconds

        def bounded(*arguments: Any, **named: Any) -> Iterator[bytes]:
            return self._bounded(whole(*arguments, **named), deadline)

        response.iter_content = bounded
        return response

    def _bounded(self, chunks: Iterator[bytes], deadline: float) -> Iterator[bytes]:
        left, end = self.largest, b""
        for chunk in chunks:
            left -= len(chunk)
            if left < 0:
                raise MMCCDError(f"The archive's answer is larger than {self.largest >> 20} MiB: it is not taken.")
            if time.monotonic() > deadline:
                raise Unreachable(f"The archive's answer takes longer than {self.seconds:.0f} s: see what slows it down.")
            if _PACKED in end + chunk:
                raise MMCCDError(
                    "The archive's answer holds packed (deflated) objects: have the archive keep them unpacked."
                )
            end = (end + chunk)[-len(_PACKED) :]
            yield chunk
