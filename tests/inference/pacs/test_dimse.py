"""DICOM's own protocol on loopback: who may send, what is taken, and a study that comes back with its objects."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from certificates import make_certificates
from dicom_writing import FLAIR, SECONDARY_CAPTURE, T1, make_images, make_object, with_tags
from pacs_world import QUICK, free_port, study, study_uid
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, Association, evt
from pynetdicom.sop_class import MRImageStorage, SecondaryCaptureImageStorage, Verification

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import load_json
from mmccd_auto.pacs.archive import Unreachable
from mmccd_auto.pacs.dimse.access import DimseAccess, Place, TlsFiles, check_title, parse_destination, parse_place
from mmccd_auto.pacs.dimse.inbox import Inbox
from mmccd_auto.pacs.dimse.listener import listening
from mmccd_auto.pacs.dimse.sender import send_objects
from mmccd_auto.pacs.limits import Limits
from mmccd_auto.pacs.records import Ledger, StudyRecord
from mmccd_auto.pacs.rules import StudyRules

PATIENCE_SECONDS = 400.0
SCANNER, OURS, PACS = "SCANNER", "MMCCD", "PACS"
SMALL = replace(FLAIR, slices=3)


def access(**more: object) -> DimseAccess:
    values = {"listen": Place("127.0.0.1", free_port()), "title": OURS, "callers": (SCANNER,)}
    return DimseAccess(**(values | {"destination": Place("127.0.0.1", 1), "destination_title": PACS} | more))


@contextmanager
def listener(tmp_path: Path, limits: Limits | None = None, **more: object) -> Iterator[tuple[DimseAccess, Inbox]]:
    where, bounds = access(**more), limits or Limits()
    inbox = Inbox(Ledger(tmp_path / "state"), where, StudyRules(), bounds)
    with listening(inbox, where, bounds):
        yield where, inbox


def connect(place: Place, title: str = SCANNER, called: str = OURS, tls: TlsFiles | None = None) -> Association:
    entity = AE(ae_title=title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 30
    for kind in (Verification, MRImageStorage, SecondaryCaptureImageStorage):
        entity.add_requested_context(kind, ExplicitVRLittleEndian)
    arguments = None if tls is None else (tls.connecting(), place.host)
    return entity.associate(place.host, place.port, ae_title=called, tls_args=arguments)


def send(images: Sequence[Dataset], association: Association) -> list[int | None]:
    """The status of each image; None where there was no answer."""
    assert association.is_established
    found = [association.send_c_store(image).get("Status") for image in images]
    association.release()
    return found


def test_images_are_kept_by_their_checked_numbers(tmp_path: Path) -> None:
    with listener(tmp_path) as (where, inbox):
        association = connect(where.listen)
        assert association.send_c_echo().Status == 0
        images = make_images(SMALL)
        assert send([*images, images[0]], association) == [0, 0, 0, 0]
        assert list(inbox.studies()) == [FLAIR.study]
        assert inbox.count(FLAIR.study) == 3
        files = {path.name for path in (tmp_path / "state" / "inbox" / FLAIR.study).iterdir()}
        assert files == {f"{image.SOPInstanceUID}.dcm" for image in images}
        inbox.fetch(FLAIR.study, tmp_path / "work")
        assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["000001.dcm", "000002.dcm", "000003.dcm"]
        inbox.forget(FLAIR.study)
        assert list(inbox.studies()) == []


@pytest.mark.parametrize(("title", "called"), [("STRANGER", OURS), (SCANNER, "ANOTHER")])
def test_titles_that_are_not_allowed_get_no_association(title: str, called: str, tmp_path: Path) -> None:
    with listener(tmp_path) as (where, _):
        assert connect(where.listen, title, called).is_rejected


def test_other_kinds_of_object_are_not_taken(tmp_path: Path) -> None:
    capture = make_object(SMALL, SECONDARY_CAPTURE, "capture")
    with listener(tmp_path) as (where, inbox):
        association = connect(where.listen)
        with pytest.raises(ValueError, match="presentation context"):
            association.send_c_store(capture)
        knee = make_images(with_tags(SMALL, BodyPartExamined="KNEE"))
        assert send(knee, association) == [0, 0, 0]
        assert list(inbox.studies()) == []


def test_images_that_are_not_what_they_say_are_refused(tmp_path: Path) -> None:
    (path_like,) = make_images(replace(SMALL, slices=1))
    path_like.StudyInstanceUID = "../../1.2"
    (another,) = make_images(replace(SMALL, slices=1))
    with listener(tmp_path) as (where, inbox):
        assert send([path_like], connect(where.listen)) == [0xC000]
        with pytest.raises(MMCCDError, match="another one than was announced"):
            inbox.accept(_encoded(another, tmp_path), "1.2.3")
        with pytest.raises(MMCCDError, match=r"no DICOM object|damaged"):
            inbox.accept(b"x" * 1000, "1.2.3")
        assert list(inbox.studies()) == []
    assert [path.name for path in tmp_path.rglob("*.dcm")] == ["encoded.dcm"]


def _encoded(image: Dataset, folder: Path) -> bytes:
    image.save_as(folder / "encoded.dcm", enforce_file_format=True)
    return (folder / "encoded.dcm").read_bytes()


@pytest.mark.parametrize("limits", [Limits(instances=2), Limits(inbox_bytes=12_000), Limits(study_bytes=12_000)])
def test_what_there_is_no_room_for_is_refused(limits: Limits, tmp_path: Path) -> None:
    with listener(tmp_path, limits) as (where, inbox):
        assert send(make_images(SMALL), connect(where.listen)) == [0, 0, 0xA700]
        # Half a study is not worked on.
        with pytest.raises(MMCCDError, match="1 of its images or more were refused for want of room"):
            inbox.count(FLAIR.study)
        # A duplicate takes no room.
        assert send(make_images(SMALL)[:1], connect(where.listen)) == [0]
    with listener(tmp_path) as (where, inbox):
        assert send(make_images(SMALL), connect(where.listen)) == [0, 0, 0]
        assert inbox.count(FLAIR.study) == 3


def test_an_image_that_is_too_large_is_cut_off(tmp_path: Path) -> None:
    large = replace(SMALL, rows=512, columns=512, pixel=0.4, slices=1)
    with listener(tmp_path, Limits(instance_bytes=200_000)) as (where, inbox):
        assert send(make_images(large), connect(where.listen)) == [None]
        assert list(inbox.studies()) == []
        assert send(make_images(SMALL), connect(where.listen)) == [0, 0, 0]


def test_a_length_that_is_only_claimed_is_not_waited_for(tmp_path: Path) -> None:
    with listener(tmp_path) as (where, _), socket.create_connection((where.listen.host, where.listen.port)) as one:
        one.sendall(b"\x01\x00\xff\xff\xff\xff" + b"x" * 1000)
        one.settimeout(30)
        # The end of the connection, be it orderly or not.
        with suppress(ConnectionResetError):
            assert one.recv(100) == b""
        assert connect(where.listen).is_established


def test_studies_that_are_done_are_not_kept_again(tmp_path: Path) -> None:
    with listener(tmp_path) as (where, inbox):
        Ledger(tmp_path / "state").write(StudyRecord(FLAIR.study, "done", 3))
        assert send(make_images(SMALL), connect(where.listen)) == [0, 0, 0]
        assert list(inbox.studies()) == []


def test_encryption_lets_in_those_with_a_certificate(tmp_path: Path) -> None:
    files = make_certificates(tmp_path / "certificates")
    ours = TlsFiles(files / "ca.pem", files / "server.pem", files / "server.key")
    theirs = TlsFiles(files / "ca.pem", files / "client.pem", files / "client.key")
    stranger = TlsFiles(files / "ca.pem", files / "stranger.pem", files / "stranger.key")
    with listener(tmp_path, tls=ours) as (where, inbox):
        assert send(make_images(SMALL), connect(where.listen, tls=theirs)) == [0, 0, 0]
        assert not connect(where.listen, tls=stranger).is_established
        assert not connect(where.listen).is_established
        assert inbox.count(FLAIR.study) == 3
        assert connect(where.listen, tls=theirs).is_established
    with pytest.raises(MMCCDError, match="belong together"):
        TlsFiles(files / "ca.pem", files / "server.pem", files / "client.key").accepting()


class Destination:
    """Where objects are sent to: keeps what it is sent."""

    def __init__(self, status: int = 0) -> None:
        self.place, self.status = Place("127.0.0.1", free_port()), status
        self.objects: list[Dataset] = []
        self._entity = AE(ae_title=PACS)
        for kind in ("66.4", "30", "88.34", "104.1", "4"):
            self._entity.add_supported_context(f"1.2.840.10008.5.1.4.1.1.{kind}")
        self._arrived = threading.Condition()

    def _store(self, event: evt.Event) -> int:
        with self._arrived:
            self.objects.append(event.dataset)
            self._arrived.notify_all()
        return self.status

    def wait_for(self, number: int, process: subprocess.Popen) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        with self._arrived:
            while len(self.objects) < number and time.monotonic() < deadline and process.poll() is None:
                self._arrived.wait(1.0)

    def __enter__(self) -> Destination:
        handlers = [(evt.EVT_C_STORE, self._store)]
        self._server = self._entity.start_server((self.place.host, self.place.port), block=False, evt_handlers=handlers)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()


def test_a_destination_that_does_not_take_objects_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "object.dcm"
    path.write_bytes(_encoded(make_images(SMALL)[0], tmp_path))
    with pytest.raises(Unreachable, match="takes no association"):
        send_objects([path], access())
    for status, refused in ((0xA700, True), (0xB000, False), (0x0111, False)):
        with Destination(status) as destination:
            where = access(destination=destination.place)
            if refused:
                with pytest.raises(Unreachable, match=r"refuses an object \(status A700\)"):
                    send_objects([path], where)
            else:
                send_objects([path], where)
            assert len(destination.objects) == 1


@pytest.fixture
def serving(model: Path, tmp_path: Path) -> Callable[..., subprocess.Popen]:
    """Starts the command as a hospital does."""

    def start(listen: Place, destination: Place) -> subprocess.Popen:
        arguments = ["--state", str(tmp_path / "state"), "--listen", f"{listen.host}:{listen.port}", "--aet", OURS]
        arguments += ["--from_aets", SCANNER, "--send_to", f"{PACS}@{destination.host}:{destination.port}"]
        arguments += ["--quiet_time", "1", "--interval", "1", "-m", str(model), *QUICK]
        code = "from mmccd_auto.cli.entry_points import pacs; pacs()"
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.Popen([sys.executable, "-c", code, *arguments], stderr=subprocess.PIPE, env=environment)

    return start


def _until_it_listens(place: Place, process: subprocess.Popen) -> Association:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        association = connect(place)
        if association.is_established:
            return association
        time.sleep(0.5)
    raise RuntimeError(f"it does not listen: {process.communicate(timeout=30)[1].decode()}")


def test_a_study_that_is_sent_comes_back_with_its_objects(serving, tmp_path: Path) -> None:
    place = Place("127.0.0.1", free_port())
    with Destination() as destination:
        process = serving(place, destination.place)
        try:
            association = _until_it_listens(place, process)
            assert set(send([*study(1), *study(2, [T1])], association)) == {0}
            destination.wait_for(4, process)
            # The whole study once more: it is done.
            record = tmp_path / "state" / "studies" / f"{study_uid(1)}.json"
            deadline = time.monotonic() + PATIENCE_SECONDS
            while load_json(record)["status"] != "done" and time.monotonic() < deadline:
                time.sleep(0.2)
            assert set(send(study(1), connect(place))) == {0}
        finally:
            process.send_signal(signal.SIGTERM)
            _, told = process.communicate(timeout=120)
        assert process.returncode == 143, told.decode()
    assert Counter(one.Modality for one in destination.objects) == Counter(("SEG", "OT", "SR", "DOC"))
    assert {(one.StudyInstanceUID, one.PatientID) for one in destination.objects} == {(study_uid(1), "ZZID-1")}
    assert list((tmp_path / "state" / "inbox").glob(f"{study_uid(1)}/*")) == []
    assert "ZZNAME" not in told.decode()


@pytest.mark.parametrize("text", ["", " ", "x" * 17, "A\\B", "Ä", "A\nB"])
def test_titles_that_are_none(text: str) -> None:
    with pytest.raises(MMCCDError, match="AE title"):
        check_title(text)


@pytest.mark.parametrize("text", ["", "host", "host:", "host:0", "host:65536", "ho st:1", ":104", "-h:104", "h:٣"])
def test_places_that_are_none(text: str) -> None:
    with pytest.raises(MMCCDError, match="give HOST:PORT"):
        parse_place(text)


def test_a_destination_is_taken_apart() -> None:
    assert parse_destination("PACS@10.0.0.5:104") == ("PACS", Place("10.0.0.5", 104))
    assert parse_destination("PACS@[::1]:104") == ("PACS", Place("::1", 104))
