"""Which cases a folder of volume files, or a single file, holds for prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.readable_names import shown
from mmccd_auto.dicom.files.open_file import starts_like_dicom
from mmccd_auto.dicom.records import Series, Study
from mmccd_auto.imaging.contrasts import contrast
from mmccd_auto.imaging.file_names import VOLUME_ENDINGS, shortened, too_long, volume_ending, volume_stem, walk
from mmccd_auto.sources.cases import SourceCase
from mmccd_auto.sources.named_files import read_names
from mmccd_auto.sources.nifti_cases import case_names, list_nifti_cases, name_faults
from mmccd_auto.sources.pseudonyms import Pseudonym

READS_DICOM = "mmccd_predict and predict_folder read it, from its folder"


@dataclass(frozen=True)
class InputCase:
    """One case to predict: its file or DICOM series, or the sentence that says why it can't be predicted.

    Attributes
    ----------
    case : its name, a pseudonym where it comes from DICOM
    skipped : the case holds nothing that could be predicted (a study without the modality, say), which is no failure
    age : years at the scan, where a BIDS dataset gives it
    beside : by modality the files or series of the same visit that the model may use as well
    """

    case: str
    file: Path | None
    error: str | None = None
    series: Series | None = field(default=None, repr=False)
    skipped: bool = False
    age: float | None = None
    beside: Mapping[str, Path | Series] = field(default_factory=dict, repr=False)

    def volume_file(self) -> Path:
        """Return the file of a case that is no series; ValueError for one that has none."""
        if self.file is None:
            raise ValueError(f"{self.case} has no file: {self.error or 'it is a DICOM series'}")
        return self.file


@dataclass(frozen=True)
class InputListing:
    """What was found.

    Attributes
    ----------
    cases : sorted by name
    ignored : (path, reason) of files that are no input, other than scans of modalities that aren't needed
    studies, names : of the DICOM cases, for the table that leads back to people; else empty
    """

    cases: tuple[InputCase, ...]
    ignored: tuple[tuple[Path, str], ...]
    studies: tuple[Study, ...] = field(default=(), repr=False)
    names: tuple[Pseudonym, ...] = ()


def discover_cases(
    source: str | Path, modality: str, modalities: Sequence[str], exclude: str | Path | None = None
) -> InputListing:
    """Find the cases of a folder (or a single file) and in each the file of one modality.

    Names are read as :mod:`mmccd_auto.sources` reads them for the import too: by channel number (``CASE_0000.nii.gz``), by
    words, then by the words in their folders' names. Where no name gives a modality, every file is a case. Nothing is
    opened: only names are looked at.

    Parameters
    ----------
    source : a folder, searched with all its subfolders, or one volume file
    modality : the model's input modality
    modalities : the dataset's modalities in the order of their channel numbers
    exclude : a folder that is not searched (the output)

    Raises
    ------
    MMCCDError
        If there is nothing at ``source``, or nothing in it that can be read: DICOM, or no images at all.
    """
    source = Path(source)
    if source.is_file():
        return InputListing((_single_file(source, modality, modalities, exclude),), ())
    if not source.is_dir():
        raise MMCCDError(f"{shown(source)} does not exist: give a folder of NIfTI files or one file.")
    listing = list_nifti_cases(source, [modality], modalities, exclude, alone=True)
    if not listing.cases:
        raise MMCCDError(_nothing_found(source, exclude, bool(listing.left_out)))
    cases = []
    for case in listing.cases:
        scan = case.scans.get(modality)
        cases.append(InputCase(case.name, None if scan is None else scan.path, case.error, skipped=case.skipped))
    odd = tuple((item.path, item.reason) for item in listing.left_out if not item.unneeded)
    return InputListing(tuple(cases), odd)


def input_case(one: SourceCase, modality: str, age: float | None) -> InputCase:
    """Make of a case of a listing one for prediction; ``age`` in years, None where it isn't known."""
    scan = one.scans.get(modality)
    if isinstance(scan, Series):
        return InputCase(one.case, None, one.error, scan, one.skipped, beside=one.beside)
    return InputCase(one.case, scan, one.error, skipped=one.skipped, age=age, beside=one.beside)


def _single_file(path: Path, modality: str, modalities: Sequence[str], output: str | Path | None) -> InputCase:
    if not volume_ending(path.name):
        hint = f"it is DICOM: {READS_DICOM}" if _is_dicom(path) else "give a NIfTI file"
        raise MMCCDError(f"{shown(path)} is no volume file: {hint}.")
    file = read_names(path.parent, [path], modalities)[0]
    if file.modality is not None and contrast(file.modality) != contrast(modality):
        raise MMCCDError(f"{shown(path)} is named as {file.modality}: this model examines {modality}.")
    key = ((), file.stem or volume_stem(path))
    case = case_names([key])[key]
    if output is not None and (reason := too_long(case, output)):
        return InputCase(shortened(case), None, reason)
    return InputCase(case, path, name_faults(path, None) or (file.sentence if file.doubt else None))


def _nothing_found(folder: Path, exclude: str | Path | None, left_out: bool) -> str:
    if left_out:
        return f"{shown(folder)} holds labels, masks, earlier results or unread formats only: there is no scan to predict."
    files = [file.path for file in walk(folder, exclude)]
    if any(_is_dicom(path) for path in files):
        return f"{shown(folder)} holds DICOM files: {READS_DICOM}."
    if files:
        return f"{shown(folder)} holds no volume ({', '.join(VOLUME_ENDINGS)}): there is nothing to predict."
    return f"{shown(folder)} is empty: there is nothing to predict."


def _is_dicom(path: Path) -> bool:
    if path.suffix.lower() in (".dcm", ".ima"):
        return True
    try:
        with path.open("rb") as file:
            return starts_like_dicom(file.read(140))
    except OSError:
        return False


def check_output(source: Path, output: Path) -> None:
    """Raise :class:`MMCCDError` where the maps would lie beside the scans, or can't lie there at all.

    CASE.json and CASE_mask.nii.gz could replace files of the user's own.
    """
    folder = source.parent if source.is_file() else source
    if folder.resolve() == output.resolve():
        raise MMCCDError(f"{output} is the folder of the scans: give another one for the maps.")
    if output.exists() and not output.is_dir():
        raise MMCCDError(f"{output} is a file: give a folder for the maps.")


def path_below(root: Path, file: Path) -> str:
    """Give a file's path below the input folder; folders above it are nobody's business."""
    if file.is_relative_to(root):
        # As it is called, not where it leads: files of datalad are links to names that are hashes.
        return file.relative_to(root).as_posix()
    try:
        return file.resolve().relative_to(root.resolve()).as_posix()
    except ValueError:
        return file.name
