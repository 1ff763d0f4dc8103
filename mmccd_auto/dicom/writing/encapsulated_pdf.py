"""A printed report as a DICOM object (Encapsulated PDF), which every archive files and most viewers show."""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian, generate_uid

from mmccd_auto.core.versions import software_versions
from mmccd_auto.dicom.writing.derived import ScoreObject, file_beside, save_object
from mmccd_auto.dicom.writing.objects import NAME

PDF_SERIES_NUMBER = 9004
DOCUMENT_TITLE = "Brain MRI anomaly report; for research"


def write_encapsulated_pdf(score: ScoreObject, document: bytes, path: Path) -> None:
    """Write a PDF that is filed with the study of a case.

    Equal documents give an equal object but for dates and times.

    Parameters
    ----------
    score : objects of the case
    document : the PDF; it must not show the patient's name, since the object says that nothing is burnt in
    path : of the object

    Raises
    ------
    MMCCDError
        If the file can't be written.
    """
    source, now = score.header, datetime.now()
    result = Dataset()
    result.file_meta = FileMetaDataset()
    result.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    result.SOPClassUID = EncapsulatedPDFStorage
    content = hashlib.sha256(document).hexdigest()
    result.SOPInstanceUID = generate_uid(entropy_srcs=[NAME, "document", source.SOPInstanceUID, content])
    # Of type 2: present in every object, also where the scan doesn't tell them.
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"):
        setattr(result, keyword, None)
    result.AccessionNumber = result.ReferringPhysicianName = None
    file_beside(result, source)
    result.SeriesInstanceUID = generate_uid(entropy_srcs=[NAME, "document series", source.SeriesInstanceUID])
    result.Modality, result.SeriesNumber, result.InstanceNumber = "DOC", PDF_SERIES_NUMBER, 1
    result.SeriesDescription = f"{NAME} report, for research"
    result.Manufacturer = result.ManufacturerModelName = NAME
    result.DeviceSerialNumber, result.SoftwareVersions = source.DeviceSerialNumber, software_versions()["mmccd_auto"]
    result.ConversionType = "WSD"
    result.ContentDate, result.ContentTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    result.InstanceCreationDate, result.InstanceCreationTime = result.ContentDate, result.ContentTime
    result.AcquisitionDateTime = None
    result.BurnedInAnnotation = "NO"
    result.VerificationFlag = "UNVERIFIED"
    result.DocumentTitle = DOCUMENT_TITLE
    result.ConceptNameCodeSequence = []
    result.SourceInstanceSequence = [_reference(one) for one in score.evidence]
    result.MIMETypeOfEncapsulatedDocument = "application/pdf"
    result.EncapsulatedDocumentLength = len(document)
    result.EncapsulatedDocument = document + b"\0" * (len(document) % 2)
    save_object(result, path)


def _reference(one: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = one.SOPClassUID, one.SOPInstanceUID
    return item
