"""What was received and is not finished: one folder a study, one file an image, both called by their checked numbers."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path

from mmccd_auto.core.disk.removal import remove_folder
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import atomic_path, link_or_copy
from mmccd_auto.pacs.dimse.access import DimseAccess
from mmccd_auto.pacs.dimse.sender import send_objects
from mmccd_auto.pacs.limits import Limits
from mmccd_auto.pacs.received import is_wanted_file, read_received
from mmccd_auto.pacs.records import Ledger
from mmccd_auto.pacs.rules import StudyRules
from mmccd_auto.pacs.uids import is_uid

INBOX = "inbox"
REFUSED, MOST_REFUSED = ".refused", 1000


class Full(MMCCDError):
    """There is no room for more."""


class Inbox:
    """See :class:`mmccd_auto.pacs.archive.Archive`; objects go to where they are sent.

    Images come in by several threads (:meth:`accept`), while another one works on studies.
    """

    def __init__(self, ledger: Ledger, access: DimseAccess, rules: StudyRules, limits: Limits) -> None:
        self._folder = ledger.folder / INBOX
        self._ledger, self._access, self._rules, self._limits = ledger, access, rules, limits
        self._lock = threading.Lock()
        self._sizes: dict[str, int] = {}

    def prepare(self) -> None:
        """Make the folder, and count what an earlier run has left in it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._sizes = {study: self._size(study) for study in self.studies()}

    def accept(self, content: bytes, announced: str) -> bool:
        """Keep an image.

        Parameters
        ----------
        content : of the file, as it arrived
        announced : its SOPInstanceUID, by the protocol

        Returns
        -------
        whether it was kept; images of a study that is done are not needed, and others than of the head neither

        Raises
        ------
        Full
            If there is no room, or the study has too many images.
        MMCCDError
            If it is no DICOM object, or another one than was announced.
        """
        if len(content) > self._limits.instance_bytes:
            raise Full("The image is larger than is taken.")
        received = read_received(BytesIO(content))
        if received.instance != announced:
            raise MMCCDError("The image is another one than was announced: look at who sends it.")
        record = self._ledger.read(received.study)
        if not received.is_wanted(self._rules) or (record is not None and record.status == "done"):
            return False
        path = self._folder / received.study / f"{received.instance}.dcm"
        with self._lock:
            before = path.stat().st_size if path.exists() else 0
            try:
                self._check_room(path, len(content) - before)
            except Full:
                self._mark_refused(path)
                raise
            with atomic_path(path, private=True) as temporary:
                temporary.write_bytes(content)
            self._sizes[received.study] = self._sizes.get(received.study, 0) + len(content) - before
            path.with_suffix(REFUSED).unlink(missing_ok=True)
        return True

    def studies(self) -> Iterable[str]:
        """List the studies that have arrived, the oldest first."""
        folders = [path for path in self._folder.iterdir() if is_uid(path.name) and path.is_dir()]
        return [path.name for path in sorted(folders, key=lambda path: (path.stat().st_mtime, path.name))]

    def count(self, study: str) -> int:
        """Images that have arrived.

        Raises
        ------
        MMCCDError
            If others of the study were refused: half a study is not worked on.
        """
        refused = sum(1 for _ in (self._folder / study).glob(f"*{REFUSED}"))
        if refused:
            raise MMCCDError(
                f"{refused} of its images or more were refused for want of room: raise --most_images or --largest_study, or "
                "remove failed studies from the inbox, and send it again."
            )
        return len(self._images(study))

    def fetch(self, study: str, folder: Path) -> None:
        """Give the images other names, without copying them where the disk can do that."""
        for number, path in enumerate(self._images(study), 1):
            if is_wanted_file(path, study, self._rules):
                link_or_copy(path, folder / f"{number:06d}.dcm")

    def store(self, study: str, objects: Sequence[Path]) -> None:
        """Send objects."""
        send_objects(objects, self._access)

    @property
    def holds_images(self) -> bool:
        """They lie here until they are forgotten."""
        return True

    def forget(self, study: str) -> None:
        """Remove the images of a study."""
        with self._lock:
            remove_folder(self._folder / study, self._folder)
            self._sizes.pop(study, None)

    def _size(self, study: str) -> int:
        return sum(path.stat().st_size for path in self._images(study))

    def _mark_refused(self, path: Path) -> None:
        """Remember that an image was refused, so that its study isn't taken for whole; it is there until the image is."""
        folder = path.parent
        if folder.is_dir() or sum(1 for _ in self._folder.iterdir()) < self._limits.studies:
            folder.mkdir(exist_ok=True)
            if sum(1 for _ in folder.glob(f"*{REFUSED}")) < MOST_REFUSED:
                path.with_suffix(REFUSED).touch()

    def _images(self, study: str) -> list[Path]:
        return sorted((self._folder / study).glob("[0-9]*.dcm"))

    def _check_room(self, path: Path, size: int) -> None:
        study = path.parent.name
        if self._sizes.get(study, 0) + size > self._limits.study_bytes:
            raise Full("The study is larger than is taken.")
        if sum(self._sizes.values()) + size > self._limits.inbox_bytes:
            raise Full("The inbox is full: see which studies failed, and remove them.")
        if not path.parent.is_dir() and sum(1 for _ in self._folder.iterdir()) >= self._limits.studies:
            raise Full("The inbox holds as many studies as it may: see which of them failed, and remove them.")
        if path.parent.is_dir() and not path.exists() and len(self._images(study)) >= self._limits.instances:
            raise Full("The study has more images than are taken.")
