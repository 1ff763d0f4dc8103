"""What CASE.json says of each lesion, and lesions.csv, which holds the lesions of all cases of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Interval, MinLen

from mmccd_auto.core.records import dataclass_from_json
from mmccd_auto.core.tables import write_csv

LESIONS_FILE = "lesions.csv"
LESION_LIST, CANDIDATE_LIST, TEMPLATE = "lesion_list", "candidate_list", "template"
MOST_CANDIDATES = 200

Point = tuple[float, float, float]
Length = Annotated[float, Interval(ge=0)]
Side = Literal["left", "right", "midline"]


@dataclass(frozen=True)
class LesionRecord:
    """One lesion, or one candidate, as CASE.json holds it.

    Attributes
    ----------
    number : 1 is the largest lesion; candidates go on after the lesions, so that no two in a case have one number
    volume_ml : millilitres
    longest_diameter_mm : from outer edge to outer edge
    peak_score, mean_score : in units of the map
    centre_lps_mm : centre of mass, mm in the patient's coordinates (to the left, to the back, upwards)
    centre_voxel : index i, j, k in the written maps of its voxel that is nearest to the centre, from 0
    side : of the patient; "midline" where neither side holds three quarters of it
    place : one of mmccd_auto.inference.lesions.places.PLACES, or "unknown: " and why
    mni_mm : the centre in MNI space, mm (to the right, to the front, upwards); None where the place is unknown
    ventricle_mm, cortex_mm : least distance of a voxel's centre from the lateral ventricles and from the cortex, 0 inside;
        None likewise
    """

    number: Annotated[int, Interval(ge=1)]
    volume_ml: Length
    longest_diameter_mm: Length
    peak_score: float
    mean_score: float
    centre_lps_mm: Point
    centre_voxel: tuple[Annotated[int, Interval(ge=0)], Annotated[int, Interval(ge=0)], Annotated[int, Interval(ge=0)]]
    side: Side
    place: Annotated[str, MinLen(1)]
    mni_mm: Point | None
    ventricle_mm: Length | None
    cortex_mm: Length | None


@dataclass(frozen=True)
class LesionRow:
    """One line of lesions.csv.

    Attributes
    ----------
    case : as in summary.csv
    number : of the lesion in its case, 1 is the largest
    volume_ml, longest_diameter_mm, peak_score, mean_score : as in :class:`LesionRecord`
    side, place : likewise
    ventricle_mm, cortex_mm : likewise; empty where the place is unknown
    centre_x_mm, centre_y_mm, centre_z_mm : in the patient's coordinates (LPS)
    voxel_i, voxel_j, voxel_k : index in the written maps, from 0
    mni_x_mm, mni_y_mm, mni_z_mm : in MNI space (RAS); empty where the place is unknown
    """

    case: str
    number: int
    volume_ml: float
    longest_diameter_mm: float
    peak_score: float
    mean_score: float
    side: str
    place: str
    ventricle_mm: float | None
    cortex_mm: float | None
    centre_x_mm: float
    centre_y_mm: float
    centre_z_mm: float
    voxel_i: int
    voxel_j: int
    voxel_k: int
    mni_x_mm: float | None
    mni_y_mm: float | None
    mni_z_mm: float | None

    @classmethod
    def of(cls, case: str, lesion: LesionRecord) -> LesionRow:
        """Return the line on a lesion."""
        x, y, z = lesion.centre_lps_mm
        i, j, k = lesion.centre_voxel
        mni_x, mni_y, mni_z = (None, None, None) if lesion.mni_mm is None else lesion.mni_mm
        same = {name: getattr(lesion, name) for name in (entry.name for entry in fields(cls)) if hasattr(lesion, name)}
        return cls(
            case=case,
            **same,
            centre_x_mm=x,
            centre_y_mm=y,
            centre_z_mm=z,
            voxel_i=i,
            voxel_j=j,
            voxel_k=k,
            mni_x_mm=mni_x,
            mni_y_mm=mni_y,
            mni_z_mm=mni_z,
        )


def lesions_of(record: Mapping[str, Any], source: str) -> tuple[LesionRecord, ...]:
    """Read the lesions of a case from the content of its CASE.json.

    Parameters
    ----------
    record : content of CASE.json
    source : name of the file, for errors

    Raises
    ------
    KeyError
        If the record is of a version that listed no lesions.
    MMCCDError
        If an entry is missing, of another type or out of range.
    """
    return dataclass_from_json(
        tuple[LesionRecord, ...], record[LESION_LIST], f"{source}: {LESION_LIST}", "predict the case again"
    )


def write_lesions(lesions: Iterable[tuple[str, LesionRecord]], output: Path) -> None:
    """Write lesions.csv: one line for each lesion, a header alone where there is none.

    Parameters
    ----------
    lesions : case and lesion
    output : folder

    Raises
    ------
    MMCCDError
        If the file can't be written.
    """
    rows = [LesionRow.of(case, lesion) for case, lesion in lesions]
    header = [entry.name for entry in fields(LesionRow)]
    write_csv(output / LESIONS_FILE, header, [list(asdict(row).values()) for row in rows])
