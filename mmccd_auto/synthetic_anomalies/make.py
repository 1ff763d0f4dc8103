"""Put an anomaly into healthy slices, or a balanced selection of them into many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.imaging.intensity_scale import UPPER_LIMIT
from mmccd_auto.synthetic_anomalies.blob import Blob, depth_in_slice, draw_blob, fitting_radius
from mmccd_auto.synthetic_anomalies.block import HealthyBlock
from mmccd_auto.synthetic_anomalies.patches import cut_paste, interpolated, poisson
from mmccd_auto.synthetic_anomalies.physical import other_tissue
from mmccd_auto.synthetic_anomalies.structure import deformation, texture

Alteration = Callable[[HealthyBlock, Blob, np.random.Generator], np.ndarray]

OF_ONE_SUBJECT: dict[str, Alteration] = {
    "brighter": partial(other_tissue, "brighter"),
    "darker": partial(other_tissue, "darker"),
    "equal": partial(other_tissue, "equal"),
    "deformation": deformation,
    "texture": texture,
    "cut_paste": cut_paste,
}
OF_TWO_SUBJECTS = {"interpolated": interpolated, "poisson": poisson}
KINDS: tuple[str, ...] = (*OF_ONE_SUBJECT, *OF_TWO_SUBJECTS)

RADIUS_MM = (4.0, 20.0)
RADIUS_MM_OF_KIND = {"deformation": (8.0, 20.0)}
"""A smaller place can't be displaced by several mm without tearing."""

LEAST_CHANGE = 0.1
LEAST_CHANGE_OF_KIND = {"equal": 0.01, "deformation": 0.2}
"""Where white matter gives way to what looks like it, little changes; displaced tissue differs by its mere noise."""
SIGN_OF_KIND = {"brighter": 1, "darker": -1}
TRIES = 40


@dataclass(frozen=True)
class SyntheticAnomaly:
    """A healthy block with an anomaly in it.

    Attributes
    ----------
    kind : one of KINDS
    image : float32 [S, H, W], exactly the healthy block's outside the brain and away from the anomaly
    anomaly : bool [S, H, W], where the anomaly's weight is above 0.5, within the brain. Its soft edge
        alters some voxels less than 4 mm around it
    change : mean absolute change inside ``anomaly``, in normalised units
    """

    kind: str
    image: np.ndarray
    anomaly: np.ndarray
    change: float


def kinds_for(donor: HealthyBlock | None) -> tuple[str, ...]:
    """Return the kinds that can be made: all with another subject's block, those of one subject without."""
    return tuple(OF_ONE_SUBJECT) if donor is None else KINDS


def make_anomaly(
    kind: str,
    block: HealthyBlock,
    donor: HealthyBlock | None,
    random: np.random.Generator,
    radius_mm: float | None = None,
) -> SyntheticAnomaly:
    """Put an anomaly of a kind somewhere into healthy slices.

    What changes the slices too little (by less than 0.1 on average; 0.01 for "equal", 0.2 for "deformation") or, for
    "brighter" and "darker", in the wrong direction is drawn again.

    Parameters
    ----------
    kind : one of KINDS
    block : healthy slices; left as they are
    donor : of the same modality of another subject, needed by "interpolated" and "poisson", ignored by the others
    random : everything is drawn from it
    radius_mm : of a ball of the anomaly's volume; drawn between 4 and 20 mm ("deformation": 8 and 20), even in the
        logarithm, where it's None. In either case kept within what the brain has room for and the pixels can show, see
        :func:`fitting_radius`

    Raises
    ------
    MMCCDError
        If the kind is unknown or needs a donor, the donor or radius doesn't fit, or no draw changes the slices enough.
    """
    alter = _alteration(kind, block, donor)
    if radius_mm is not None and not (np.isfinite(radius_mm) and radius_mm > 0):
        raise MMCCDError(f"a synthetic anomaly can't have a radius of {radius_mm} mm: give a length above 0.")
    depth = depth_in_slice(block.brain, block.spacing)
    for _ in range(TRIES):
        drawn = np.exp(random.uniform(*np.log(RADIUS_MM_OF_KIND.get(kind, RADIUS_MM)))) if radius_mm is None else radius_mm
        blob = draw_blob(depth, block.spacing, fitting_radius(drawn, block.brain, block.spacing), random)
        found = _within_limits(kind, block, blob, alter(block, blob, random))
        if found is not None:
            return found
    raise MMCCDError(
        f"{block.case}: no synthetic anomaly of the kind {kind} changes its {block.modality} enough in {TRIES} tries: "
        "look whether its brain has any contrast, or leave it out."
    )


def mixed_anomalies(blocks: Sequence[HealthyBlock], seed: int, per_kind: int) -> list[tuple[int, SyntheticAnomaly]]:
    """Return a selection in which every kind is equally often, and every block about equally often.

    The blocks come in turn, in an order drawn once, so that a selection smaller than their number is spread over all of
    them. A block that a kind can't be made in gives way to the next. Donors are drawn from other cases of the same
    modality; the kinds that need one are left out where there is none.

    Parameters
    ----------
    blocks : healthy slices of several cases
    seed : everything is drawn from it; each anomaly by its own place in the selection, so that none depends on the others
    per_kind : anomalies of each kind

    Returns
    -------
    for each anomaly the index of its block, and the anomaly; kind by kind in the order of KINDS

    Raises
    ------
    MMCCDError
        If there are no blocks, ``per_kind`` is below 1, or a kind can't be made in any block.
    """
    if not blocks or per_kind < 1:
        raise MMCCDError(
            f"{per_kind} synthetic anomalies of each kind can't be put into {len(blocks)} healthy blocks: give at least one "
            "of both."
        )
    donors = [_donors(block, blocks) for block in blocks]
    kinds = KINDS if any(donors) else kinds_for(None)
    order = np.random.default_rng([seed, 0]).permutation(len(blocks))
    return [
        _anomaly_in_turn(kind, blocks, donors, np.roll(order, -number), [seed, 1, number])
        for number, kind in enumerate(kind for kind in kinds for _ in range(per_kind))
    ]


def _anomaly_in_turn(
    kind: str, blocks: Sequence[HealthyBlock], donors: list[list[int]], order: np.ndarray, seed: list[int]
) -> tuple[int, SyntheticAnomaly]:
    """Compute an anomaly in the first block of the order that takes it, with that block's index."""
    fault = None
    for index in order:
        random = np.random.default_rng([*seed, int(index)])
        donor = blocks[random.choice(donors[index])] if donors[index] else None
        try:
            return int(index), make_anomaly(kind, blocks[index], donor, random)
        except MMCCDError as error:
            fault = fault or error
    raise MMCCDError(
        f"none of {len(blocks)} healthy blocks takes a synthetic anomaly of the kind {kind}; {fault}"
    ) from fault


def _donors(block: HealthyBlock, blocks: Sequence[HealthyBlock]) -> list[int]:
    return [index for index, other in enumerate(blocks) if other.case != block.case and other.modality == block.modality]


def _alteration(kind: str, block: HealthyBlock, donor: HealthyBlock | None) -> Alteration:
    if kind in OF_ONE_SUBJECT:
        return OF_ONE_SUBJECT[kind]
    if kind not in OF_TWO_SUBJECTS:
        raise MMCCDError(f"there is no kind of synthetic anomaly {kind}: choose one of {', '.join(KINDS)}.")
    if donor is None:
        raise MMCCDError(
            f"{block.case}: a synthetic anomaly of the kind {kind} needs another subject's slices: give a donor, or choose "
            f"one of {', '.join(kinds_for(None))}."
        )
    if donor.modality != block.modality:
        raise MMCCDError(
            f"{block.case}: {donor.modality} of {donor.case} can't be put into {block.modality}: give a donor of the same "
            "modality."
        )
    return partial(OF_TWO_SUBJECTS[kind], donor=donor)


def _within_limits(kind: str, block: HealthyBlock, blob: Blob, altered: np.ndarray) -> SyntheticAnomaly | None:
    """Return the altered block, kept to the blob, the brain and the range of normalised values.

    None if it differs too little.
    """
    anomaly = block.brain & (blob.weight > 0.5)
    if not anomaly.any():
        return None
    # Normalisation clips, so that nothing brighter can reach a model, unless the scheme is one that doesn't.
    highest = max(UPPER_LIMIT, float(block.image.max()))
    image = np.where(block.brain & (blob.weight > 0), np.minimum(altered, highest), block.image).astype(np.float32)
    differences = (image[anomaly] - block.image[anomaly]).astype(np.float64)
    change = float(np.abs(differences).mean())
    counted = differences.mean() * SIGN_OF_KIND[kind] if kind in SIGN_OF_KIND else change
    if counted < LEAST_CHANGE_OF_KIND.get(kind, LEAST_CHANGE):
        return None
    return SyntheticAnomaly(kind, image, anomaly, change)
