"""MR signal equations: from relaxation times and proton density to the signal of a sequence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Relaxation:
    """What a tissue is to the scanner: T1 and T2 in ms, proton density relative to water."""

    t1: float | np.ndarray
    t2: float | np.ndarray
    density: float | np.ndarray


@dataclass(frozen=True)
class Sequence:
    """A spin echo, with an inversion pulse before it where ``inversion_time`` is given; all times in ms."""

    repetition_time: float
    echo_time: float
    inversion_time: float | None = None


HEALTHY = {
    "white matter": Relaxation(500, 70, 0.77),
    "grey matter": Relaxation(833, 83, 0.86),
    "deep grey matter": Relaxation(740, 76, 0.84),
    "fluid": Relaxation(2569, 329, 1.0),
}
"""At 1.5 T, as in BrainWeb (Kwan, Evans, Pike: IEEE Trans. Med. Imaging 18, 1999). BrainWeb has no deep grey matter: it is
set between white and cortical grey matter in T1, with a T2 shortened by iron."""

LESIONS = {
    "hyperintense": Relaxation(1000, 130, 0.88),
    "isointense": Relaxation(1300, 125, 0.88),
    "hypointense": Relaxation(2300, 280, 0.98),
    "haemorrhage": Relaxation(850, 35, 0.80),
}
"""By their look on FLAIR: oedema or demyelination (long T1 and T2); infiltrated tissue that FLAIR shows like grey matter
and T1 shows dark; a cyst, nearly water; a fresh bleeding, whose deoxyhaemoglobin shortens T2 (dark on FLAIR and T2). The
values are our choice; for measured ones of oedema, tumours and cysts at 1.5 T see Just and Thelen (Radiology 169, 1988)."""

SEQUENCES = {
    "FLAIR": Sequence(9000, 120, 1704),
    "T1": Sequence(500, 10),
    "T2": Sequence(4000, 100),
}
"""The inversion time nulls fluid: TI = T1 (ln 2 - ln(1 + exp(-TR / T1)))."""


def signal(tissue: Relaxation, sequence: Sequence) -> float | np.ndarray:
    """Compute the magnitude of the signal, relative to fully relaxed water without decay.

    Spin echo: S = PD (1 - exp(-TR / T1)) exp(-TE / T2); with inversion recovery before it
    S = PD |1 - 2 exp(-TI / T1) + exp(-TR / T1)| exp(-TE / T2).
    """
    recovered = 1 - np.exp(-sequence.repetition_time / tissue.t1)
    if sequence.inversion_time is not None:
        recovered = np.abs(
            1 - 2 * np.exp(-sequence.inversion_time / tissue.t1) + np.exp(-sequence.repetition_time / tissue.t1)
        )
    return tissue.density * recovered * np.exp(-sequence.echo_time / tissue.t2)
