"""Images are received by C-STORE, and C-ECHO is answered; nothing else is."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from pynetdicom import AE, evt

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.dicom.files.headers import MR_CLASSES
from mmccd_auto.pacs.dimse.access import DimseAccess
from mmccd_auto.pacs.dimse.inbox import Full, Inbox
from mmccd_auto.pacs.limits import Limits

SUCCESS, OUT_OF_RESOURCES, NOT_UNDERSTOOD = 0x0000, 0xA700, 0xC000
VERIFICATION = "1.2.840.10008.1.1"
"""Which C-ECHO asks for."""
LARGEST_PDU = 2**20
SILENCE_SECONDS = 60.0
# Packed (deflated) objects are not among them: nobody needs them, and they can swell.
SYNTAXES = [
    *(ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian),
    *(JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, RLELossless),
]
logger = logging.getLogger(__name__)


@contextmanager
def listening(inbox: Inbox, access: DimseAccess, limits: Limits) -> Iterator[None]:
    """Receive images into an inbox while the block runs.

    Callers must give this side's AE title and be among those that may send; titles can be forged, certificates can't.

    Raises
    ------
    MMCCDError
        If the port can't be listened on.
    """
    inbox.prepare()
    entity = AE(ae_title=access.title)
    entity.require_called_aet = True
    entity.require_calling_aet = list(access.callers)
    entity.maximum_associations = limits.associations
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = SILENCE_SECONDS
    entity.add_supported_context(VERIFICATION)
    for kind in sorted(MR_CLASSES):
        entity.add_supported_context(kind, SYNTAXES)
    guard = _Guard(limits)
    handlers: list[Any] = [
        (evt.EVT_CONN_OPEN, guard.opened),
        (evt.EVT_DATA_RECV, guard.received),
        (evt.EVT_CONN_CLOSE, guard.closed),
        (evt.EVT_C_STORE, _store, [inbox, guard]),
        (evt.EVT_REJECTED, _rejected),
    ]
    place = access.listen
    context = None if access.tls is None else access.tls.accepting()
    try:
        server = entity.start_server((place.host, place.port), block=False, ssl_context=context, evt_handlers=handlers)
    except OSError as error:
        raise MMCCDError(
            f"--listen {place.host}:{place.port} can't be listened on ({error.strerror or error}): give another port, or "
            "see who uses it."
        ) from error
    logger.info("listening as %s on %s:%d", access.title, place.host, place.port)
    try:
        yield
    finally:
        if server is not None:
            server.shutdown()


class _Guard:
    """Bounds the size of what comes in one association, and the time that it takes."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._counted: dict[int, int] = {}

    def opened(self, event: evt.Event) -> None:
        """Bound each PDU before it is read: its length is a claim of whoever connects, up to 4 GiB."""
        self._counted[id(event.assoc)] = 0
        transport: Any = event.assoc.dul.socket
        transport.socket.settimeout(SILENCE_SECONDS)
        whole, deadline = transport.recv, time.monotonic() + self._limits.transfer_seconds

        def bounded(size: int) -> bytearray:
            if size > LARGEST_PDU:
                raise OSError(f"a PDU of {size} bytes is announced")
            if time.monotonic() > deadline:
                raise OSError("the association takes too long")
            return whole(size)

        transport.recv = bounded

    def received(self, event: evt.Event) -> None:
        """Count what has come since the last image was complete; end an association that sends one too large."""
        key = id(event.assoc)
        self._counted[key] = self._counted.get(key, 0) + len(event.data)
        if self._counted[key] > self._limits.instance_bytes:
            logger.warning("A sender was cut off: an image of more than %d MiB.", self._limits.instance_bytes >> 20)
            event.assoc.abort(block=False)
            # What still arrives isn't read any more.
            if event.assoc.dul.socket is not None:
                event.assoc.dul.socket.close()

    def closed(self, event: evt.Event) -> None:
        """Forget an association that has ended."""
        self._counted.pop(id(event.assoc), None)

    def complete(self, event: evt.Event) -> None:
        """Count again from here: an image is complete."""
        self._counted[id(event.assoc)] = 0


def _store(event: evt.Event, inbox: Inbox, guard: _Guard) -> int:
    """Keep an image; give the status of C-STORE."""
    guard.complete(event)
    try:
        kept = inbox.accept(event.encoded_dataset(), str(getattr(event.request, "AffectedSOPInstanceUID", "")))
    except Full as error:
        logger.warning("An image is refused: %s", error)
        return OUT_OF_RESOURCES
    except MMCCDError as error:
        logger.warning("An image is refused: %s", error)
        return NOT_UNDERSTOOD
    except Exception as error:
        # Of the disk, say; whatever it is, the sender has to keep the image.
        logger.error("An image can't be kept (%s): see the disk of the state folder.", type(error).__name__)
        return OUT_OF_RESOURCES
    if not kept:
        logger.debug("An image is not needed: its study is done, or it isn't of the head.")
    return SUCCESS


def _rejected(event: evt.Event) -> None:
    logger.warning("An association was refused: its AE titles are not those that may send, or there are too many at once.")
