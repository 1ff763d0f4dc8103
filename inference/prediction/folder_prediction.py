"""Prediction of files, folders and hospital exports: what is found, what is written, and what is said of it."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmccd_auto.core.disk.hashing import files_sha256
from mmccd_auto.core.disk.locks import folder_lock
from mmccd_auto.core.disk.parts import part_lock
from mmccd_auto.core.disk.workspaces import workspace
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.processes.memory import only_what_is_new
from mmccd_auto.core.processes.streams import Settled, behind, closed_at_the_end, each, part_of_each, split
from mmccd_auto.core.wording import counted
from mmccd_auto.dicom.convert import convert_series
from mmccd_auto.dicom.writing.identity import DicomIdentity
from mmccd_auto.dicom.writing.objects import write_parametric_map, write_segmentation
from mmccd_auto.dicom.writing.score_meaning import ScoreMeaning
from mmccd_auto.dicom.writing.source_images import read_source
from mmccd_auto.imaging.formats.readable import check_readable
from mmccd_auto.imaging.io import read_volume
from mmccd_auto.imaging.labels import read_brain_mask
from mmccd_auto.imaging.volume import Volume
from mmccd_auto.inference.lesions.records import LesionRecord, lesions_of
from mmccd_auto.inference.options import OutputOptions
from mmccd_auto.inference.prediction.case_files import (
    DONE,
    KEPT,
    GivenFiles,
    SummaryRow,
    describe_request,
    remove_case_files,
    summary_row,
    write_prediction,
)
from mmccd_auto.inference.prediction.case_page import case_part, marking_of
from mmccd_auto.inference.prediction.case_record import FILES, finished_record, missing_files
from mmccd_auto.inference.prediction.cases.at_workers import ALL_HERE, Spread
from mmccd_auto.inference.prediction.cases.listing import discover, with_brain_masks
from mmccd_auto.inference.prediction.folder_run import RunSummary, WholeRun, left_out_rows, run_over_cases
from mmccd_auto.inference.prediction.prediction import Prediction, PredictsScans, Scan
from mmccd_auto.inference.prediction.run_report import write_run_report
from mmccd_auto.inference.scores.findings import CANDIDATES
from mmccd_auto.preprocessing.further_modalities import LaidModalities
from mmccd_auto.reporting.page.assemble import remove_report
from mmccd_auto.sources.beside import describe_beside, load_beside
from mmccd_auto.sources.inputs import InputCase, InputListing, check_output, discover_cases, path_below
from mmccd_auto.sources.pseudonyms import check_link_place, read_key, write_link
from mmccd_auto.sources.series_table import write_table

SERIES_FILE = "series.csv"
NOT_FILED = (
    "DICOM objects carry the pseudonym and new numbers (UIDs), so that an archive can't file them with the original study; "
    "--keep_identity writes them for the patient's own study."
)
MAPS_AND_REPORT = OutputOptions()
logger = logging.getLogger(__name__)


def predict_file(
    predictor: PredictsScans,
    path: Path,
    output: Path,
    case: str | None = None,
    brain_mask: str | Path | None = None,
    save_cycle: bool = False,
) -> Prediction:
    """Predict one file and write CASE_anomaly, CASE_mask and CASE_candidates.nii.gz, CASE.png and CASE.json.

    Parameters
    ----------
    path : of the scan
    output : folder, not the scan's own
    case : name; None takes it from the file's name
    brain_mask : file, 1 in the brain and 0 elsewhere
    save_cycle : also write CASE_brighter, CASE_darker, CASE_signed and CASE_cycle.nii.gz

    Raises
    ------
    MMCCDError
        If the scan can't be predicted.
    """
    check_output(path, output)
    (found,) = discover_cases(path, predictor.input_modality, predictor.modalities, exclude=output).cases
    if found.error is not None and case is None:
        raise MMCCDError(found.error)
    run = _Run(predictor, path.parent, output, None, OutputOptions(save_cycle=save_cycle, report=False), Path())
    found = InputCase(case or found.case, path)
    with folder_lock(output, "maps"):
        opened = run.open(found, None if brain_mask is None else Path(brain_mask))
        if isinstance(opened, Settled):
            raise TypeError(f"{found.case} was to be predicted, and not kept")
        prediction = predictor.predict_volume(opened.scan.volume, opened.scan.case, opened.scan.brain_mask)
        run.close(found, opened, prediction)
    return prediction


def predict_folder(
    predictor: PredictsScans,
    source: Path,
    output: Path,
    options: OutputOptions = MAPS_AND_REPORT,
    spread: Spread = ALL_HERE,
) -> RunSummary:
    """Predict every case of a folder and write the files of each, summary.csv, and report.html.

    A case that can't be predicted does not stop the others.

    Parameters
    ----------
    source : a folder of scans (see :func:`discover_cases`), one file, or DICOM: a folder, zip archive or DICOMDIR
    output : folder, another than ``source``
    options : what is written, and of which brains
    spread : where the work is done, and on which part of the cases: of a part the files of its cases alone are written

    Raises
    ------
    MMCCDError
        If there is nothing to predict, the folders can't be used, or a control is asked for that the model doesn't have.
    """
    check_output(source, output)
    if options.save_control:
        predictor.check_control()
    brain_masks, export = None if options.brain_masks is None else Path(options.brain_masks), options.export
    if brain_masks is not None and not brain_masks.is_dir():
        raise MMCCDError(f"{brain_masks} is no folder: give the folder that holds the brain masks, CASE.nii.gz.")
    if export.link_file is not None:
        check_link_place(export.link_file, output)
    whole = spread.part is None
    with part_lock(output, spread.part, "maps"), workspace("predict") as temporary:
        listing, series = discover(predictor, source, output, options, temporary)
        listing, masks = with_brain_masks(spread.chosen(listing), brain_masks)
        spread.check_seen(listing, temporary, source)
        if series and whole:
            write_table(series, output / SERIES_FILE)
        _announce(predictor, listing)
        if export.dicom_seg and not export.keep_identity and any(found.series for found in listing.cases):
            logger.info("%s", NOT_FILED)
        there = sum((output / f"{found.case}.json").is_file() for found in listing.cases)
        if there and not options.continue_prediction:
            logger.warning("%s: %d earlier results are replaced; --continue_prediction would keep them.", output, there)
        root = source if source.is_dir() else source.parent
        if export.link_file is not None and whole:
            files = [(one.case, "", path_below(root, one.file)) for one in listing.cases if one.file is not None]
            write_link(export.link_file, listing.studies, listing.names, files)
        run = _Run(predictor, root, output, masks, options, temporary)
        if whole:
            remove_report(output)
        rows = spread.rows(run, listing.cases, options.continue_prediction)
        # However the run ends, the threads that read from the workspace end before it goes.
        with only_what_is_new(), closed_at_the_end(rows):
            tables = WholeRun(left_out_rows(listing, root), run.write_page) if whole else None
            side_by_side = spread.elsewhere is not None
            return run_over_cases(listing.cases, rows, output, run.missing, run.lesions, tables, side_by_side)


@dataclass(frozen=True)
class _Opened:
    """A case that is to be predicted: what CASE.json will say of it, and its scan."""

    request: dict[str, Any]
    scan: Scan


@dataclass(frozen=True)
class _Run:
    """What is the same for all cases of a run."""

    predictor: PredictsScans
    root: Path
    output: Path
    masks: Mapping[str, Path] | None
    options: OutputOptions
    workspace: Path
    written: dict[str, tuple[str, ...]] = field(default_factory=dict)
    lesions: dict[str, tuple[LesionRecord, ...]] = field(default_factory=dict)

    def missing(self, case: str) -> list[str]:
        """Select those of the files of a case that is done or kept that are there no more."""
        return missing_files(self.output, self.written.get(case, ()))

    def write_page(self, rows: Sequence[SummaryRow]) -> None:
        """Write report.html of all cases, where it is asked for."""
        if self.options.report:
            path = write_run_report(self.output, self.predictor, rows)
            logger.info("open %s: the cases, the ones with the highest score first", path)

    def rows(self, cases: Sequence[InputCase], continue_prediction: bool = False) -> Iterator[SummaryRow | Settled]:
        """Predict the cases, or keep them, and give the line of summary.csv of each, or Settled with the error.

        While the networks work on a case, the next ones are read and made ready, and the last one is written.
        """
        opened = each(lambda found: self.open(found, self._mask_of(found), continue_prediction), cases)
        for_prediction, beside = split(opened, 2)
        scans = part_of_each("scan", for_prediction)
        asked = {"only_score": not self.options.save_cycle, "control": self.options.save_control}
        predictions = self.predictor.predict_volumes(scans, **asked)
        return behind(self.close, cases, beside, predictions)

    def open(self, found: InputCase, mask: Path | None, continue_prediction: bool = False) -> _Opened | Settled:
        """Read a case's scan; a case that is kept is settled by this."""
        case = found.case
        if found.error is None and continue_prediction and (mask is None or mask.is_file()):
            kept = self._kept(case, self._request(found, mask))
            if kept is not None:
                return Settled(kept)
        remove_case_files(self.output, case)
        if found.error is not None:
            raise MMCCDError(found.error)
        if mask is not None:
            if not os.path.lexists(mask):
                raise MMCCDError(f"{case} has no brain mask {mask}: add it, or predict without brain masks.")
            check_readable(mask)
        request = self._request(found, mask)
        if found.series is not None and request["dicom"] is not None:
            # Whether objects can refer to the images is known before the networks have worked for hours.
            read_source(found.series.files, self._dicom_identity(found))
        volume = self._load(found)
        others, faults = load_beside(found.beside, self.workspace)
        brain, laid = None if mask is None else read_brain_mask(mask), LaidModalities(left_out=faults)
        return _Opened(request, Scan(volume, case, brain, found.age, further=others, laid=laid))

    def close(self, found: InputCase, opened: _Opened, prediction: Prediction) -> SummaryRow:
        """Write everything of a predicted case; a failure leaves none of its files."""
        try:
            return self._finished(self._write(found, opened.request, prediction), DONE)
        except BaseException:
            remove_case_files(self.output, found.case)
            raise
        finally:
            # Pictures hold themselves in cycles: those of many cases would wait for the collector.
            gc.collect()

    def _kept(self, case: str, request: dict[str, Any]) -> SummaryRow | None:
        """Return the row of a case that is finished; None where it is to be predicted."""
        record = finished_record(self.output, case, request)
        try:
            return None if record is None else self._finished(record, KEPT)
        except KeyError as error:
            logger.warning("%s: predicted again: %s.json is of a version that knew no %s.", case, case, error)
            return None
        except MMCCDError as error:
            logger.warning("%s: predicted again: %s", case, error)
            return None

    def _finished(self, record: dict[str, Any], status: str) -> SummaryRow:
        case = record["case"]
        lesions = lesions_of(record, f"{case}.json")
        self.written[case] = (f"{case}.json", *record[FILES])
        self.lesions[case] = lesions
        return summary_row(record, status, lesions)

    def _mask_of(self, found: InputCase) -> Path | None:
        return None if self.masks is None else self.masks[found.case]

    def _write(self, found: InputCase, request: dict[str, Any], prediction: Prediction) -> dict[str, Any]:
        """Write a prediction's files and give the content of CASE.json."""
        of_case = {"case": found.case}
        for warning in prediction.warnings:
            logger.warning("%s: %s", found.case, warning, extra=of_case)
        findings = prediction.findings
        if findings.kind == CANDIDATES:
            advice = f"{findings.describe()}: look at {found.case}_candidates.nii.gz"
            logger.warning("%s: %s", found.case, advice, extra=of_case)
        else:
            logger.info("%s: %s", found.case, findings.describe(), extra=of_case)
        extra = self._write_dicom(found, prediction)
        marking = marking_of(prediction.scoring or self.predictor.scoring)
        page = case_part(prediction, marking, found.series) if self.options.report else None
        return write_prediction(prediction, request, self.output, found.series is not None, extra, page)

    def _load(self, found: InputCase) -> Volume:
        if found.series is None:
            # What is odd about the file is said with the case's other warnings, and kept in CASE.json.
            return read_volume(found.volume_file(), warn=False)
        return convert_series(found.series, self.workspace).volume

    def _request(self, found: InputCase, mask: Path | None) -> dict[str, Any]:
        predictor = self.predictor
        if found.series is None:
            file = found.volume_file()
            check_readable(file)
            name, content = path_below(self.root, file), files_sha256([file])
        else:
            # Folders and files of an export may be called by the patient's name.
            name, content = None, files_sha256(sorted(found.series.files))
        return describe_request(
            predictor.request(),
            GivenFiles(
                input_file=name,
                input_sha256=content,
                brain_mask_file=None if mask is None else mask.name,
                brain_mask_sha256=None if mask is None else files_sha256([mask]),
                brain_extraction=None if mask is not None else predictor.brain_extraction,
            ),
            save_cycle=self.options.save_cycle,
            dicom=self._dicom_kind(found),
            save_control=self.options.save_control,
            age=found.age,
            beside=describe_beside(found.beside, self.root) if predictor.further else None,
        )

    def _dicom_kind(self, found: InputCase) -> str | None:
        if found.series is None or not self.options.export.dicom_seg:
            return None
        return "filed with the patient" if self.options.export.keep_identity else "under the pseudonym, with new numbers"

    def _dicom_identity(self, found: InputCase) -> DicomIdentity | None:
        """Return under whom the DICOM objects of a case are filed; None files them with the patient."""
        export = self.options.export
        if export.keep_identity:
            return None
        salt = "" if export.key_file is None else read_key(export.key_file).hex()
        return DicomIdentity(found.case, found.case, salt)

    def _write_dicom(self, found: InputCase, prediction: Prediction) -> list[str]:
        """Return the names of the DICOM objects that were written.

        None where they are not asked for or the scan isn't DICOM.
        """
        if found.series is None or self._dicom_kind(found) is None:
            return []
        identity, scoring = self._dicom_identity(found), prediction.scoring or self.predictor.scoring
        files, model = found.series.files, self.predictor.identity
        is_mean = len(model.folds) > 1
        meaning = ScoreMeaning(scoring.score, scoring.calibrated, prediction.threshold, scoring.false_positive_rate, is_mean)
        names = []
        if prediction.mask is not None and prediction.candidates is not None:
            names.append(f"{found.case}_seg.dcm")
            mask, candidates = (Volume(one, prediction.geometry) for one in (prediction.mask, prediction.candidates))
            write_segmentation(mask, files, self.output / names[-1], identity, model, meaning, candidates)
        names.append(f"{found.case}_score.dcm")
        score = Volume(prediction.anomaly, prediction.geometry)
        write_parametric_map(score, files, self.output / names[-1], identity, model, meaning)
        return names


def _announce(predictor: PredictsScans, listing: InputListing) -> None:
    with_others = sum(bool(found.beside) for found in listing.cases)
    others = f" and {', '.join(predictor.further)} where they are there ({counted(with_others, 'case')})"
    logger.info(
        "%s to predict from %s%s; %s, on %s",
        counted(len(listing.cases), "case"),
        predictor.input_modality,
        others if with_others else " alone",
        predictor.describe(),
        predictor.device,
    )
