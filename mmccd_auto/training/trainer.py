"""The training of a method: all its networks in one loop, on the same batches."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

from mmccd_auto.core.devices import sent_to, training_memory_format
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.progress import PlainLines, Progress, on_terminal
from mmccd_auto.core.versions import software_versions
from mmccd_auto.model.blocks import laid_out
from mmccd_auto.model.reconstructor import Reconstructor
from mmccd_auto.plans.plan import Plan
from mmccd_auto.plans.splits import Split
from mmccd_auto.preprocessing.subject_numbers import load_subject_numbers
from mmccd_auto.trained.checkpoint import CHECKPOINT_BEST, CHECKPOINT_FINAL, CHECKPOINT_LATEST, Checkpoint, save_checkpoint
from mmccd_auto.trained.model_folder import people_folder
from mmccd_auto.training.best_state import ask, best_judgement, is_judged, save_final
from mmccd_auto.training.budget.learning_rate import planned_learning_rate
from mmccd_auto.training.data.augmentation import default_augmentation
from mmccd_auto.training.data.data_loading import (
    Batch,
    BatchLoader,
    SliceStore,
    Transform,
    memory_limit,
    open_batches,
    seed_of,
)
from mmccd_auto.training.data.fold_data import find_fold_data, validation_images
from mmccd_auto.training.ema import ExponentialMovingAverage
from mmccd_auto.training.mixed_precision import mixed_precision, training_dtype
from mmccd_auto.training.optimisation import Optimisation, TrainingState, check_same_start
from mmccd_auto.training.options import AS_THE_PLAN_SAYS, TrainerOptions
from mmccd_auto.training.progress import EXAMPLE_FILE, LOG_FILE, PICTURE_FILE, EpochRecord, TrainingLog, draw_progress
from mmccd_auto.training.resume import check_still_there, find_earlier_training, prepare_fold, warn_of_other_circumstances
from mmccd_auto.training.start import STARTED_FROM, Start
from mmccd_auto.training.validation import check_finite, example_of, mean_losses

logger = logging.getLogger(__name__)


class Trainer:
    """Trains one fold of one configuration.

    A variant is a subclass that names its method or overrides one of the methods from :meth:`build_cycle` to
    :meth:`on_epoch_end`.

    The same plan, fold, seed and device give the same training, whatever the number of workers, and also when it was
    interrupted and continued: each epoch's random numbers and each iteration's batch are drawn from seeds of their own.

    Parameters
    ----------
    plan : of the dataset
    configuration : the modality cycle, "FLAIR-T1"; None for the plan's default
    fold : 0..4 or "all"
    preprocessed : the plan's folder with CASE.json and CASE/slice_*.npz
    output : the fold's folder, TRAINER__PLANS__CONFIGURATION/fold_K
    splits : content of splits_final.json; None only for the fold "all"
    options : device, workers, and what overrides the plan

    Raises
    ------
    MMCCDError
        If the configuration, the fold or the data can't be trained on.
    """

    cycle_class: ClassVar[type[Reconstructor]]
    picture_interval: ClassVar[float] = 20.0
    """Seconds that pass at least between two drawings of progress.png, besides that of the last epoch; infinite: none."""
    judgements: int | None = None
    """How often the judge is asked in the course of a training; 0: never; None: as often as the plan says."""
    start: Start | None = None
    """The finished model whose weights a new training starts from; None: from nothing. Set before :meth:`train`."""

    def __init__(
        self,
        plan: Plan,
        configuration: str | None,
        fold: int | str,
        preprocessed: Path,
        output: Path,
        splits: Sequence[Split] | None,
        options: TrainerOptions = AS_THE_PLAN_SAYS,
    ) -> None:
        chosen, ranks = plan.configuration(configuration), options.ranks
        self.dataset_plan = plan
        self.plan = dataclasses.replace(plan, training=dataclasses.replace(plan.training, **options.changes()))
        self.settings = self.plan.training
        self.configuration = configuration or plan.default_configuration
        self.modalities = (chosen.input_modality, chosen.translation_modality)
        self.fold = str(fold)
        self.preprocessed, self.output = Path(preprocessed), Path(output)
        self.device, self.processes = torch.device(options.device), options.processes
        self.dtype = self.number_format()
        self.dataset_content = options.dataset_content
        if self.judgements is None:
            self.judgements = self.settings.judgements
        self.judge = options.judge if self.judgements else None
        for name in ("num_epochs", "iterations_per_epoch", "batch_size"):
            if getattr(self.settings, name) < 1:
                raise MMCCDError(f"{name} {getattr(self.settings, name)} must be at least 1.")
        self.seed = seed_of(self.settings.seed, self.fold)
        self.ranks, self.share_of_batch = ranks, ranks.share(self.settings.batch_size)
        self.optimisation = Optimisation(self.training_losses, self._autocast, self.settings.gradient_clip, ranks)
        self.data = find_fold_data(self.preprocessed, splits, self.fold, self.modalities, self.shown)
        self._described = self.data.describe(load_subject_numbers(self.preprocessed.parent, self.data.subjects))
        self.log = TrainingLog(self.output / LOG_FILE)

    @property
    def _draws_seed(self) -> int:
        """Of what each process draws for itself: slices, augmentation, timesteps, strips, noise."""
        return self.seed if self.ranks.count == 1 else seed_of(self.seed, "rank", self.ranks.rank)

    @property
    def training_cases(self) -> list[str]:
        """Cases with a slice to train on."""
        return self.data.training_cases

    @property
    def validation_cases(self) -> list[str]:
        """Cases whose slices the validation loss is computed on."""
        return self.data.validation_cases

    @property
    def shown(self) -> tuple[str, ...]:
        """The modalities of a slice in training: the first is x of the losses, the others are y."""
        return self.modalities

    def build_cycle(self) -> Reconstructor:
        """Build the untrained cycle: one that ``cycle_class`` makes from the plan, or prediction can't build it."""
        return self.cycle_class.of_plan(self.plan, self.configuration)

    def training_losses(self, cycle: Reconstructor, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Return the losses by name, whose sum is minimised; x float32 [N, 1, H, W], y the others of :attr:`shown`."""
        return cycle.training_losses(x, y)

    def make_optimizer(self, cycle: Reconstructor) -> Optimizer:
        """Make AdamW over all networks: it works weight by weight, so this is the same as one for each.

        In one kernel ("fused") where torch has it.
        """
        return AdamW(
            cycle.parameters(),
            lr=self.settings.learning_rate,
            weight_decay=self.settings.weight_decay,
            fused=self.device.type in ("cpu", "cuda"),
        )

    def learning_rate(self, epoch: int) -> float:
        """Compute the learning rate in ``epoch`` (the first is 0), by the plan's schedule."""
        return planned_learning_rate(self.settings, epoch)

    def augmentation(self) -> Transform | None:
        """Return the transform of training batches, or None; see :func:`default_augmentation` for what it gets."""
        return default_augmentation(self.plan.patch_size, self.plan.slice_axis)

    def number_format(self) -> torch.dtype:
        """Return what the networks compute in, besides float32 for weights: asked once.

        Float16 brings loss scaling with it.
        """
        return training_dtype(self.device, self.plan.network)

    def on_epoch_end(self, record: EpochRecord, state: TrainingState) -> None:
        """Act after each epoch, once its log line and checkpoint are written.

        What it changes of the state isn't in that checkpoint yet.

        Where several processes train together, each of them calls it, with the record of the one that leads. What it changes
        it must change alike in all of them; ``self.ranks.leads`` says which one writes files.
        """

    def train(self, overwrite: bool = False) -> Path:
        """Train until the last epoch.

        A half-finished training of the same settings is continued, a finished one is kept, and one that had fewer epochs is
        prolonged.

        Parameters
        ----------
        overwrite : start over, whatever is there (a finished training is kept in the folder ``previous``)

        Returns
        -------
        path of checkpoint_final.pth

        Raises
        ------
        MMCCDError
            If the folder holds a training by other settings, a file is damaged, the losses are no longer finite, or the
            GPU's memory doesn't suffice.
        """
        devices = [self.device.index or 0] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices), torch.backends.cudnn.flags(enabled=True, benchmark=True):
            try:
                state = self._begin(overwrite)
                if state is None:
                    return self.output / CHECKPOINT_FINAL
                self._run(state)
                return self._finish(state) if self.ranks.leads else self.output / CHECKPOINT_FINAL
            except torch.cuda.OutOfMemoryError as error:
                raise MMCCDError(
                    f"the memory of {self.device} does not suffice for batches of {self.settings.batch_size} slices: plan "
                    "with a smaller memory target, or make training.batch_size in plans.json smaller."
                ) from error

    def _begin(self, overwrite: bool) -> TrainingState | None:
        """Return the state to train from; None where the training is finished."""
        torch.manual_seed(seed_of(self.seed, "weights"))
        cycle = self.build_cycle()
        if self.start is not None:
            self.start.give_to(cycle)
        cycle = laid_out(cycle.to(self.device), training_memory_format(self.device))
        state = TrainingState(
            cycle,
            ExponentialMovingAverage(cycle, self.settings.ema_decay),
            self.make_optimizer(cycle),
            torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16),
            torch.from_numpy(validation_images(self.data, self.plan.patch_size)).to(self.device),
        )
        expected = self._checkpoint(state, final=True)
        earlier = None if overwrite else find_earlier_training(self.output, expected, self.training_cases)
        if earlier is not None and earlier.latest is not None:
            if self.ranks.leads:
                warn_of_other_circumstances(earlier.latest, expected, self.output / CHECKPOINT_LATEST)
            state.restore(earlier.latest)
            self.optimisation.parts = earlier.latest.record.get("batch_parts", 1)
        elif earlier is not None:
            state.epoch = earlier.epochs
        check_same_start(state, self.ranks)
        if self.ranks.leads:
            prepare_fold(self.output, self.dataset_plan, self.dataset_content, earlier)
            if earlier is not None and not earlier.finished:
                self.log.truncate(earlier.epochs)
            elif earlier is not None and not (self.output / PICTURE_FILE).is_file() and math.isfinite(self.picture_interval):
                self._draw(None)
        return None if earlier is not None and earlier.finished else state

    def _run(self, state: TrainingState) -> None:
        if self._is_over(state):
            # what stopped the training may have come between the last checkpoint and its picture
            if self.ranks.leads:
                self._draw(state)
            return
        loader = BatchLoader(
            SliceStore(self.data.training, memory_limit(self.processes, self.ranks.local_count)),
            self.plan.patch_size,
            self.share_of_batch,
            self._draws_seed,
            self.augmentation(),
            state.step,
            self.processes,
        )
        drawn, lines = -float("inf"), PlainLines()
        with open_batches(loader, self.processes) as batches:
            while not self._is_over(state):
                record = self._run_epoch(state, batches)
                # Only the leading process's are in the checkpoint.
                self.optimisation.parts = max(self.ranks.gather(self.optimisation.parts))
                if self.ranks.leads:
                    check_still_there(self.output, record.epoch - 1)
                    self.log.append(record)
                    lines.tell(record.describe(self.settings.num_epochs), last=self._is_over(state))
                    save_checkpoint(self._checkpoint(state), self.output / CHECKPOINT_LATEST)
                    last = self._is_over(state) and math.isfinite(self.picture_interval)
                    if last or time.monotonic() - drawn > self.picture_interval:
                        self._draw(state)
                        drawn = time.monotonic()
                # Nobody begins the next epoch, whose time is taken, while the leading process still works on this one.
                self.on_epoch_end(self.ranks.gather(record)[0], state)

    def _run_epoch(self, state: TrainingState, batches: Iterator[Batch]) -> EpochRecord:
        """Run one epoch and its validation; ``state`` moves on."""
        started, waited = time.monotonic(), 0.0
        torch.manual_seed(seed_of(self._draws_seed, "epoch", state.epoch))
        rate = self.learning_rate(state.epoch)
        state.cycle.begin_epoch(state.epoch / self.settings.num_epochs)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        sums: dict[str, Tensor] = {}
        name, iterations = f"epoch {state.epoch + 1}/{self.settings.num_epochs}", self.settings.iterations_per_epoch
        # A terminal keeps a bar for each epoch, a log gets one line of it.
        with Progress(iterations, name, "iteration", leave=on_terminal(), disable=not self.ranks.leads) as bar:
            for _ in range(iterations):
                asked = time.monotonic()
                batch = next(batches)
                waited += time.monotonic() - asked
                images = sent_to(self.device, torch.from_numpy(batch["data"]))
                for network, loss in self.optimisation.step(state, images).items():
                    sums[network] = sums.get(network, 0) + loss
                bar.update()
            train = self.ranks.mean({network: float(total) / iterations for network, total in sums.items()})
            trained = time.monotonic()
            validation = self.validate(state.ema.model, state.validation) if self.ranks.leads else {}
            bar.show({f"{network} val": f"{loss:.4f}" for network, loss in validation.items()})
        check_finite((train, validation), self.output, state.epoch + 1)
        state.epoch += 1
        samples = iterations * self.settings.batch_size
        return EpochRecord(
            epoch=state.epoch,
            iterations=state.step,
            seconds=round(time.monotonic() - started, 3),
            samples_per_second=round(samples / (trained - started), 2),
            data_wait_share=round(waited / (trained - started), 4),
            learning_rate=rate,
            train=train,
            validation=validation,
            validation_on=self.data.validation_on,
            synthetic_auprc=self._judge(state),
        )

    def _autocast(self) -> contextlib.AbstractContextManager:
        return mixed_precision(self.device, self.dtype)

    def validate(self, cycle: Reconstructor, images: Tensor) -> dict[str, float]:
        """Compute the mean losses of ``cycle`` on ``images`` [N, C, H, W], always with the same random numbers.

        The cycle is in evaluation mode.
        """
        with self._autocast():
            return mean_losses(
                lambda x, y: self.training_losses(cycle, x, y),
                images,
                self.settings.batch_size,
                seed_of(self.seed, "validation"),
            )

    def _judge(self, state: TrainingState) -> float | None:
        """Ask for the judge's word on the epoch that ends, where it is asked; the best state so far is kept."""
        if (
            self.judge is None
            or not self.judgements
            or not self.ranks.leads
            or not is_judged(state.epoch, self.settings.num_epochs, self.judgements)
        ):
            return None
        judgement = ask(self.judge, state.ema.model, f"{self.output}: epoch {state.epoch}")
        if judgement is not None and judgement > best_judgement(self.log.read()):
            save_checkpoint(self._checkpoint(state, final=True), self.output / CHECKPOINT_BEST)
        return judgement

    def _is_over(self, state: TrainingState) -> bool:
        return state.epoch >= self.settings.num_epochs

    def _draw(self, state: TrainingState | None) -> None:
        """Draw the losses into the fold's folder, and a slice, where there is a state, beside the preprocessed data.

        It shows a person, and a model folder is handed on.
        """
        title = f"{self.plan.dataset_name}   {type(self).__name__}   {self.configuration}   fold {self.fold}"
        draw_progress(self.log.read(), None, title, self.output / PICTURE_FILE)
        if state is not None:
            seed, folder = seed_of(self.seed, "example"), people_folder(self.preprocessed, self.output.parent, self.fold)
            with self._autocast():
                example = example_of(state.ema.model, state.validation, self.modalities, self.plan.slice_axis, seed)
            draw_progress(self.log.read(), example, title, folder / EXAMPLE_FILE)

    def _checkpoint(self, state: TrainingState, final: bool = False) -> Checkpoint:
        return Checkpoint(
            method=state.cycle.name,
            trainer=type(self).__name__,
            plan=self.plan,
            configuration=self.configuration,
            fold=self.fold,
            epoch=state.epoch,
            step=state.step,
            weights=state.ema.model.state_dict(),
            raw_weights=state.cycle.state_dict(),
            optimizer={} if final else state.optimizer.state_dict(),
            gradient_scaler={} if final else state.scaler.state_dict(),
            record={
                **self._described,
                STARTED_FROM: None if self.start is None else self.start.describe(),
                "device": str(self.device),
                "precision": str(self.dtype).removeprefix("torch."),
                "processes": self.ranks.count,
                "batch_parts": self.optimisation.parts,
                "versions": software_versions(),
            },
        )

    def _finish(self, state: TrainingState) -> Path:
        check_still_there(self.output, state.epoch)
        path = save_final(self._checkpoint(state, final=True), self.log.read(), self.output)
        logger.info("%s: trained for %d epochs, %d iterations", path, state.epoch, state.step)
        check_still_there(self.output, state.epoch, [one.file for one in self.data.training])
        return path
