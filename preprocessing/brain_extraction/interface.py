"""What a brain extraction gives, and what one has to be able to do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mmccd_auto.imaging.volume import Volume


@dataclass(frozen=True)
class BrainExtraction:
    """The brain of a scan.

    Attributes
    ----------
    mask : bool [z, y, x], on the scan's grid
    backend : name of what found it; "already stripped" where the scan showed nothing but the brain
    seconds : wall time
    warning : a sentence for the user; empty where nothing is odd
    """

    mask: np.ndarray
    backend: str
    seconds: float
    warning: str


class Backend(ABC):
    """A way of finding the brain.

    Attributes
    ----------
    name : for the option --bet
    modalities : those it works on; None for any
    """

    name: str
    modalities: tuple[str, ...] | None = None

    @abstractmethod
    def available(self) -> str:
        """Say why it can't run: empty where it can run.

        Otherwise why not and what to install, as the end of the sentence "NAME ...".
        """

    @abstractmethod
    def extract(self, volume: Volume, modality: str | None) -> np.ndarray:
        """Find the brain; bool [z, y, x] on the grid of ``volume``.

        Parameters
        ----------
        volume : a finite scan of a head, in any orientation
        modality : "FLAIR", "T1", ...; None where it isn't known

        Raises
        ------
        MMCCDError
            If it fails; the sentence begins with the backend's name.
        """

    def tries(self, volume: Volume, modality: str | None) -> Iterator[np.ndarray]:
        """Yield what :meth:`extract` gives, and then what it finds in other ways, for the case that this isn't plausible."""
        yield self.extract(volume, modality)

    def fits(self, modality: str | None) -> bool:
        """Check whether it was made for a modality."""
        return self.modalities is None or modality in self.modalities
