"""Serve a clinic's archive: what mmccd_pacs does."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.datasets.folders import Folders
from mmccd_auto.inference.options import PredictionOptions
from mmccd_auto.pacs.archive import Archive
from mmccd_auto.pacs.dicomweb.access import WebAccess
from mmccd_auto.pacs.dimse.access import DimseAccess
from mmccd_auto.pacs.records import Ledger
from mmccd_auto.workflows.pacs.options import PacsOptions
from mmccd_auto.workflows.pacs.watch import watching

NOT_PRIVATE = "%s is not encrypted: names and images of patients can be read on the way; give %s."
logger = logging.getLogger(__name__)


def serve_pacs(
    folders: Folders,
    prediction: PredictionOptions,
    options: PacsOptions,
    access: WebAccess | DimseAccess,
    device: torch.device,
) -> list[str]:
    """Watch an archive, predict its new studies, and file the objects with them, until the process is ended.

    Parameters
    ----------
    folders : results is used, unless ``prediction.models`` names model folders
    prediction : which model, and how
    options : which studies, how often, and where the state is kept
    access : the archive, by DICOMweb; or where to listen and where to send (DIMSE)
    device : to compute on

    Returns
    -------
    with ``options.once``: one sentence for each study that failed in this pass

    Raises
    ------
    MMCCDError
        If the packages of the extra aren't installed, there is no such model, another process uses the state folder, the
        port can't be listened on, or, with ``options.once``, the archive doesn't answer.
    """
    if options.once and isinstance(access, DimseAccess):
        raise MMCCDError("--once can't be given with --listen: a listener waits for what comes.")
    archive = _archive(access, options)
    with watching(archive, folders, prediction, options, device) as watch, _open(archive, access, options):
        return watch.run()


def _archive(access: WebAccess | DimseAccess, options: PacsOptions) -> Archive:
    """Make the archive, where the packages that speak to it are installed."""
    try:
        if isinstance(access, WebAccess):
            from mmccd_auto.pacs.dicomweb.client import DicomWebArchive

            return DicomWebArchive(access, options.rules, options.limits)
        from mmccd_auto.pacs.dimse.inbox import Inbox

        return Inbox(Ledger(options.state), access, options.rules, options.limits)
    except ModuleNotFoundError as error:
        raise MMCCDError(f"mmccd_pacs needs {error.name}: pip install 'mmccd_auto[pacs]'.") from error


@contextmanager
def _open(archive: Archive, access: WebAccess | DimseAccess, options: PacsOptions) -> Iterator[None]:
    """Listen, where studies are sent here."""
    if isinstance(access, WebAccess):
        if not access.is_private:
            logger.warning(NOT_PRIVATE, "--dicomweb", "https://")
        yield
        return
    from mmccd_auto.pacs.dimse.inbox import Inbox
    from mmccd_auto.pacs.dimse.listener import listening

    if access.tls is None:
        logger.warning(NOT_PRIVATE, "--listen", "--client_cert and --ca_file")
    assert isinstance(archive, Inbox)
    with listening(archive, access, options.limits):
        yield
