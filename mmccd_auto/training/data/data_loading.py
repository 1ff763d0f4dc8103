"""Healthy slices from disk to batches that depend on the seed and the iteration only."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from batchgenerators.dataloading.data_loader import SlimDataLoaderBase
from batchgenerators.dataloading.multi_threaded_augmenter import MultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.tuples import pair
from mmccd_auto.imaging.intensity_scale import BACKGROUND
from mmccd_auto.preprocessing.slices import CaseRecord, read_slice

Batch = dict[str, np.ndarray]
Transform = Callable[..., Batch]
MEMORY_LIMIT = 4 * 1024**3
ABSENT = -1


@dataclass(frozen=True)
class TrainingSlice:
    """A slice without abnormality that holds both modalities of a cycle.

    Attributes
    ----------
    case, subject : whom it shows
    file : of the slice
    channels : where in the file's image the modalities stand that a training is shown, the input first; ABSENT for one that
        the case doesn't have
    """

    case: str
    subject: str
    file: Path
    channels: tuple[int, ...]


def find_healthy_slices(
    preprocessed: Path,
    records: Mapping[str, CaseRecord],
    cases: Sequence[str],
    modalities: tuple[str, str],
    shown: Sequence[str] | None = None,
) -> list[TrainingSlice]:
    """Find the healthy slices of those ``cases`` that are preprocessed and have both modalities, in the order of the cases.

    Parameters
    ----------
    preprocessed : the plan's folder below $mmccd_preprocessed/DATASET
    records : of the preprocessed cases there
    cases : case ids
    modalities : of the cycle: (input, translation)
    shown : that a training is shown, of which a case may lack those that aren't the cycle's; None for the cycle's
    """
    found = []
    for record in (records[case] for case in cases if case in records):
        if set(modalities) - set(record.modalities):
            continue
        channels = tuple(
            record.modalities.index(name) if name in record.modalities else ABSENT for name in shown or modalities
        )
        files = [preprocessed / item.file for item in record.slices if item.healthy]
        found += [TrainingSlice(record.case, record.subject, file, channels) for file in files]
    return found


class SliceStore:
    """The images of slices: held in memory when they fit, else read whenever they are asked for.

    Parameters
    ----------
    slices : to hold
    memory_limit : bytes; slices that need more stay on disk
    """

    def __init__(self, slices: Sequence[TrainingSlice], memory_limit: int = MEMORY_LIMIT) -> None:
        self.slices = list(slices)
        self._images: list[np.ndarray] | None = None
        if slices and self._read(0).nbytes * len(slices) <= memory_limit:
            self._images = [self._read(index) for index in range(len(slices))]

    @property
    def in_memory(self) -> bool:
        """Whether the images are held in memory."""
        return self._images is not None

    def __len__(self) -> int:
        return len(self.slices)

    def __getitem__(self, index: int) -> np.ndarray:
        """Read the modalities of a slice that the training is shown, float32 [C, H, W]."""
        return self._read(index) if self._images is None else self._images[index]

    def _read(self, index: int) -> np.ndarray:
        return read_channels(self.slices[index])


def read_channels(one: TrainingSlice) -> np.ndarray:
    """Read the modalities of a slice that a training is shown, float32 [C, H, W]; background where one is not there."""
    image = read_slice(one.file)[0]
    if ABSENT in one.channels:
        # ABSENT is the last one.
        image = np.concatenate([image, np.full_like(image[:1], BACKGROUND)])
    return np.ascontiguousarray(image[list(one.channels)], dtype=np.float32)


def crop(image: np.ndarray, shape: tuple[int, int], position: tuple[float, float] = (0.5, 0.5)) -> np.ndarray:
    """Cut ``shape`` (rows, columns) out of ``image`` [C, H, W], which is filled up with background where it is smaller.

    ``position`` says, per axis, where: 0 at the start, 1 at the end, 0.5 in the middle.
    """
    for axis, (wanted, where) in enumerate(zip(shape, position, strict=True), start=1):
        excess = image.shape[axis] - wanted
        if excess > 0:
            start = min(excess, int(where * (excess + 1)))
            image = image.take(range(start, start + wanted), axis=axis)
        elif excess < 0:
            margins = [(0, 0)] * 3
            margins[axis] = (-excess // 2, -excess - (-excess // 2))
            image = np.pad(image, margins, constant_values=BACKGROUND)
    return image


def seed_of(*parts: object) -> int:
    """Compute a 32-bit seed from any values that have a fixed text form.

    Unlike sums of seeds, neighbours have nothing in common.
    """
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "little")


@contextmanager
def numpy_seed(seed: int) -> Iterator[None]:
    """Let numpy's global generator, which batchgenerators draws from, start at ``seed``, and put back its state after."""
    before = np.random.get_state()  # noqa: NPY002 - batchgenerators has no other source
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


class BatchLoader(SlimDataLoaderBase):
    """Endless batches of randomly drawn and augmented slices.

    Batch i depends on the seed and on i only: not on the batches before, so that a training that is continued sees those
    that an undisturbed one would have seen, and not on the number of workers. Worker k of n makes the batches k, k + n, ...,
    and batchgenerators takes them from the workers in turn. The transform is called here rather than by the augmenter,
    because here the iteration, and thereby the seed, is known.

    Parameters
    ----------
    store : slices to draw from, with equal chance and with replacement
    patch_size : (rows, columns) px; larger slices are cropped at random
    batch_size : slices per batch
    seed : of the training
    transform : of ``data`` and ``seg``, see :func:`mmccd_auto.training.data.augmentation.default_augmentation`; None for
        none
    first_iteration : number of the first batch
    processes : workers that share the batches; 0 for this process alone
    """

    def __init__(
        self,
        store: SliceStore,
        patch_size: tuple[int, int],
        batch_size: int,
        seed: int,
        transform: Transform | None = None,
        first_iteration: int = 0,
        processes: int = 0,
    ) -> None:
        super().__init__(store, batch_size, max(1, processes))
        self.patch_size = pair(patch_size)
        self.seed = seed
        self.transform = transform
        self._iteration = first_iteration

    def set_thread_id(self, thread_id: int) -> None:
        """Give the worker its number; called in the worker before its first batch."""
        super().set_thread_id(thread_id)
        self._iteration += thread_id
        if multiprocessing.parent_process() is not None:
            threading.Thread(target=_exit_with_parent, daemon=True).start()

    def generate_train_batch(self) -> Batch | MMCCDError:
        """Return the next batch of this worker.

        An error is handed on as a result, since the worker can't raise it elsewhere.
        """
        iteration = self._iteration
        self._iteration += self.number_of_threads_in_multithreaded
        try:
            return self.batch(iteration)
        except MMCCDError as error:
            return error

    def batch(self, iteration: int) -> Batch:
        """Return batch number ``iteration``.

        Returns
        -------
        ``data`` float32 [N, C, H, W] (what the training is shown, background exactly -3) and ``seg`` bool of the
        same shape, true inside each modality's own brain
        """
        draw = np.random.default_rng([self.seed, iteration])
        chosen = draw.integers(len(self._data), size=(self.batch_size,))
        data = np.stack([crop(self._data[index], self.patch_size, pair(draw.random(2))) for index in chosen])
        batch = {"data": data, "seg": (data != BACKGROUND).astype(np.float32)}
        if self.transform is not None:
            with numpy_seed(seed_of(self.seed, iteration)):
                batch = self.transform(**batch)
        return {**batch, "seg": batch["seg"] > 0}


def _exit_with_parent() -> None:
    """End this worker when its parent is gone: a parent killed by SIGKILL can't end its workers."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


@contextmanager
def open_batches(loader: BatchLoader, processes: int) -> Iterator[Iterator[Batch]]:
    """Give the batches of ``loader`` in order, made by ``processes`` workers (0: in this process); ends the workers after.

    Raises
    ------
    MMCCDError
        While iterating: if a slice can't be read, or if a worker was killed.
    """
    if processes == 0:
        yield _checked(SingleThreadedAugmenter(loader, None))
        return
    augmenter = MultiThreadedAugmenter(loader, None, processes, seeds=None, wait_time=0.002)
    try:
        yield _checked(augmenter)
    finally:
        augmenter._finish()


def _checked(augmenter: SingleThreadedAugmenter | MultiThreadedAugmenter) -> Iterator[Batch]:
    while True:
        try:
            batch = next(augmenter)
        except RuntimeError as error:
            if not isinstance(augmenter, MultiThreadedAugmenter) or "background workers" not in str(error):
                raise
            raise MMCCDError(
                "a worker that loads training slices ended, probably because memory ran out (its error, if it had one, "
                "stands above): use fewer processes (-np), or -np 0 to load in this process."
            ) from error
        if isinstance(batch, MMCCDError):
            raise batch
        yield batch


def memory_limit(processes: int, trainings: int = 1) -> int:
    """Compute the bytes that training slices may take in one process, so that all workers together stay within the limit.

    Forked workers share the parent's memory; spawned ones hold a copy each.

    Parameters
    ----------
    processes : workers of this training process
    trainings : training processes on this machine that train together, each of which holds the slices
    """
    copies = 1 if processes == 0 or multiprocessing.get_start_method() == "fork" else processes + 1
    return MEMORY_LIMIT // (copies * trainings)
