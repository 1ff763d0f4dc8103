"""A real archive (Orthanc) on loopback, studies to put into it, and the command that watches it."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from dicom_writing import FLAIR, T1, Scan, make_images, write
from pydicom.dataset import Dataset

ORTHANC = os.environ.get("ORTHANC") or shutil.which("Orthanc")
PLUGINS = ("/usr/share/orthanc/plugins", "/usr/lib/orthanc", "/usr/local/share/orthanc/plugins")
PLUGIN = next((path for folder in PLUGINS for path in Path(folder).glob("libOrthancDicomWeb.so*")), None)
USER, PASSWORD = "mmccd", "Geheim-4711"
PATIENCE_SECONDS = 60.0
# One step, wide strips, no template: a study takes about a second.
QUICK = ("--sampling_steps", "1", "--strip_stride", "8", "--threshold", "1", "-device", "cpu")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@dataclass
class Orthanc:
    """A running archive, spoken to by its own REST interface."""

    port: int
    dicom_port: int
    folder: Path
    scheme: str = "http"
    log: Path = field(default=Path())

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/dicom-web"

    def ask(self, path: str, content: bytes | None = None, method: str | None = None) -> object:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", content, method=method)
        token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        request.add_header("Authorization", f"Basic {token}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    def put(self, images: Sequence[Dataset], folder: Path) -> None:
        for number, image in enumerate(images):
            self.ask("/instances", write(image, folder / f"{number}.dcm").read_bytes(), "POST")

    def objects(self) -> list[dict[str, str]]:
        """Study, series, kind and number of every object that isn't an image of a scanner."""
        found = []
        for one in self.ask("/instances?expand"):
            tags = self.ask(f"/instances/{one['ID']}/simplified-tags")
            if tags["Manufacturer"] == "mmccd_auto":
                found.append({"id": one["ID"], **{name: tags.get(name, "") for name in WATCHED}})
        return found

    def file_of(self, identifier: str, path: Path) -> Path:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/instances/{identifier}/file")
        token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        request.add_header("Authorization", f"Basic {token}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            path.write_bytes(answer.read())
        return path


WATCHED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "Modality", "PatientID", "PatientName")


@pytest.fixture(scope="module")
def orthanc_program() -> tuple[str, Path]:
    if ORTHANC is None or PLUGIN is None:
        pytest.skip("there is no Orthanc with DICOMweb (apt-get install orthanc orthanc-dicomweb)")
    return ORTHANC, PLUGIN


@pytest.fixture(scope="module")
def orthanc_process(orthanc_program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    program, plugin = orthanc_program
    folder = tmp_path_factory.mktemp("orthanc")
    archive = Orthanc(free_port(), free_port(), folder, log=folder / "log.txt")
    settings = {
        "Name": "Test",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": archive.port,
        "DicomPort": archive.dicom_port,
        "DicomAet": "ORTHANC",
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: PASSWORD},
        "Plugins": [str(plugin)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        "OverwriteInstances": False,
        "SynchronousCMove": True,
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with archive.log.open("wb") as log:
        process = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=log, stderr=log, cwd=folder)
        try:
            _wait_for(archive, process)
            yield archive
        finally:
            process.terminate()
            process.wait(timeout=30)


def _wait_for(archive: Orthanc, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            archive.ask("/system")
            return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"Orthanc does not start: {archive.log.read_text(errors='replace')[-2000:]}")


@pytest.fixture
def orthanc(orthanc_process: Orthanc) -> Orthanc:
    """The archive, empty."""
    for patient in orthanc_process.ask("/patients"):
        orthanc_process.ask(f"/patients/{patient}", method="DELETE")
    return orthanc_process


def study(number: int, scans: Sequence[Scan] = (FLAIR, T1)) -> list[Dataset]:
    """The images of a study of a person of its own."""
    patient = (f"ZZNAME^Geheim {number}", f"ZZID-{number}", "19510203")
    uid = study_uid(number)
    return [image for scan in scans for image in make_images(replace(scan, patient=patient, study=uid))]


def study_uid(number: int) -> str:
    return f"1.2.826.0.1.3680043.8.498.77.{number}"


@pytest.fixture
def model(model_folder: Callable[..., Path]) -> Path:
    return model_folder("cyclic_unet")
