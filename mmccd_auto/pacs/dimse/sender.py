"""Objects are sent by C-STORE."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pydicom
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, Association

from mmccd_auto.dicom.quiet import quiet_pydicom
from mmccd_auto.pacs.archive import Unreachable
from mmccd_auto.pacs.dimse.access import DimseAccess

CONNECT_SECONDS, ANSWER_SECONDS = 10.0, 60.0
# With warnings, and where it is there already, the object is stored all the same; whatever else isn't 0 is a refusal.
_STORED = (0x0000, 0x0107, 0x0111, *range(0xB000, 0xC000))


def send_objects(objects: Sequence[Path], access: DimseAccess) -> None:
    """Send objects, one association for all.

    Raises
    ------
    Unreachable
        If the destination doesn't answer, or doesn't take one of them.
    """
    with quiet_pydicom():
        contents = [pydicom.dcmread(path) for path in objects]
        association = _associate(sorted({str(one.SOPClassUID) for one in contents}), access)
        try:
            for content in contents:
                _send(content, association)
        finally:
            association.release()


def _associate(kinds: Sequence[str], access: DimseAccess) -> Association:
    entity = AE(ae_title=access.title)
    entity.connection_timeout, entity.acse_timeout = CONNECT_SECONDS, ANSWER_SECONDS
    entity.dimse_timeout = entity.network_timeout = ANSWER_SECONDS
    for kind in kinds:
        entity.add_requested_context(kind, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    place = access.destination
    tls = None if access.tls is None else (access.tls.connecting(), place.host)
    association = entity.associate(place.host, place.port, ae_title=access.destination_title, tls_args=tls)
    if not association.is_established:
        raise Unreachable(
            f"{access.destination_title} at {place.host}:{place.port} takes no association: see whether it runs, and "
            f"whether it knows the AE title {access.title}."
        )
    return association


def _send(content: pydicom.Dataset, association: Association) -> None:
    try:
        status = association.send_c_store(content).get("Status")
    except (ValueError, RuntimeError, AttributeError) as error:
        kind = pydicom.uid.UID(content.SOPClassUID).name
        raise Unreachable(f"The destination takes no objects of the kind {kind}: allow it there.") from error
    if status is None:
        raise Unreachable("The destination gives no answer to an object that is sent: see its log.")
    if status not in _STORED:
        raise Unreachable(f"The destination refuses an object (status {status:04X}): see its log.")
