"""What a person follows a training by: training_log.jsonl, progress.png and, beside the preprocessed data, example.png."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import atomic_path
from mmccd_auto.core.records import OTHERS_ALLOWED, dataclass_from_json
from mmccd_auto.core.strict_json import parse_json, read_json_bytes
from mmccd_auto.core.wording import in_words
from mmccd_auto.model.cycle import Cycle

LOG_FILE = "training_log.jsonl"
PICTURE_FILE = "progress.png"
EXAMPLE_FILE = "example.png"
INTENSITY_RANGE = (-3.0, 5.0)
ERROR_RANGE = (0.0, 4.0)
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
LEAST_JUDGEMENTS = 3
LAST_PART = 0.8
"""Judgements up to this part of the training are what its end is compared with."""
WORTHWHILE_GAIN = 0.01
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EpochRecord:
    """One line of the training log.

    Attributes
    ----------
    epoch : number of epochs done, this one included
    iterations : number of optimiser steps done, this epoch's included
    seconds : that training and validation took, without the judge
    samples_per_second : slices trained on, per second of the epoch's training part
    data_wait_share : part of the training time spent waiting for batches, 0..1
    learning_rate : of this epoch
    train : mean loss over the epoch, per network
    validation : loss of the running mean of the weights on always the same slices, masks, timesteps and noise, per network
    validation_on : "validation" for the fold's validation cases; "train-sample" where there are none (fold all)
    synthetic_auprc : how well synthetic anomalies are found in healthy validation slices; None where that was not tried
    """

    __pydantic_config__: ClassVar[Any] = OTHERS_ALLOWED
    epoch: Annotated[int, Ge(1)]
    iterations: Annotated[int, Ge(1)]
    seconds: Annotated[float, Ge(0)]
    samples_per_second: Annotated[float, Ge(0)]
    data_wait_share: Annotated[float, Ge(0)]
    learning_rate: Annotated[float, Ge(0)]
    train: dict[str, float]
    validation: dict[str, float]
    validation_on: str
    synthetic_auprc: float | None = None

    def describe(self, num_epochs: int) -> str:
        """Describe a line for a log: what was done, the losses, and the time left."""
        losses = "; ".join(
            f"{name} " + ", ".join(f"{network} {loss:.4f}" for network, loss in values.items())
            for name, values in (("train", self.train), (self.validation_on, self.validation))
            if values
        )
        left = (num_epochs - self.epoch) * self.seconds
        time = f"{in_words(self.seconds)} an epoch" + (f", about {in_words(left)} left" if left else "")
        return f"epoch {self.epoch} of {num_epochs}: {losses}; {time}"


@dataclass(frozen=True)
class Example:
    """One slice on its way through the networks, each image [H, W].

    Attributes
    ----------
    modalities : (input, translation)
    shown : the input as the first network sees it, the hidden strip as NaN
    input, translation : the real pair; the translation is None for methods that do without it
    generated : what is between: the translation that the forward network made, for a cycle
    cycled : the reconstruction of the input
    titles : of ``shown``, ``generated`` and ``cycled``; {input} and {translation} stand for the names of the modalities
    """

    modalities: tuple[str, str]
    shown: np.ndarray
    input: np.ndarray
    translation: np.ndarray | None
    generated: np.ndarray
    cycled: np.ndarray
    titles: tuple[str, str, str] = Cycle.picture_titles


class TrainingLog:
    """training_log.jsonl: one JSON object per epoch, in order and without gaps.

    Parameters
    ----------
    path : of the file
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[dict[str, Any]]:
        """Read the epochs so far; an unfinished last line, left by a kill, is not counted.

        Raises
        ------
        MMCCDError
            If any other line isn't that of an epoch, or the epochs don't ascend.
        """
        if not self.path.is_file():
            return []
        *lines, last = read_json_bytes(self.path).split(b"\n")
        lines = [line for line in (*lines, last if _is_whole(last) else b"") if line.strip()]
        records: list[dict[str, Any]] = []
        for number, line in enumerate(lines, start=1):
            where = f"{self.path}, line {number}"
            record = parse_json(line, where)
            dataclass_from_json(EpochRecord, record, where, "delete the line, or the file")
            if records and record["epoch"] <= records[-1]["epoch"]:
                raise MMCCDError(
                    f"{where}: epoch {record['epoch']} comes after {records[-1]['epoch']}: delete the line, or the file."
                )
            records.append(record)
        return records

    def append(self, record: EpochRecord) -> None:
        """Add an epoch at the end."""
        line = json.dumps(asdict(record), allow_nan=False) + "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            raise MMCCDError(
                f"{self.path} could not be written ({error.strerror or error}): check the disk and the permissions, "
                "then run the same command again."
            ) from error

    def truncate(self, epochs: int) -> None:
        """Keep the first ``epochs`` epochs: those after the checkpoint that a training continues from are done again."""
        kept = [record for record in self.read() if record["epoch"] <= epochs]
        if len(kept) < epochs:
            logger.warning("%s lacks epochs before %d: it was shortened or deleted.", self.path, epochs + 1)
        with atomic_path(self.path) as temporary:
            temporary.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")


def _is_whole(line: bytes) -> bool:
    """Check whether a last line without its end is JSON nevertheless.

    Editors leave the end out, a kill cuts it off anywhere.
    """
    try:
        parse_json(line, "")
    except MMCCDError:
        return False
    return True


def draw_progress(records: list[dict[str, Any]], example: Example | None, title: str, path: Path) -> None:
    """Draw losses and judgements over the iterations (progress.png), and one slice through the networks (example.png).

    Parameters
    ----------
    records : lines of the training log
    example : slice to show; None for the losses alone
    title : of the picture
    path : PNG file, written atomically
    """
    figure = Figure(figsize=(13, 6.6 if example else 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle("\n".join(filter(None, (title, _state_of(records)))), fontsize=11)
    heights = (1.5, 1) if example else (1,)
    rows = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    axes = rows[0].subplots()
    _draw_losses(axes, records)
    _draw_judgements(axes, records)
    if example:
        _draw_example(rows[1], example)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=90)


def _state_of(records: list[dict[str, Any]]) -> str:
    """Compute how far the training is and how fast it goes; empty before its first epoch."""
    if not records:
        return ""
    last, minutes = records[-1], sum(record["seconds"] for record in records) / 60
    return (
        f"epoch {last['epoch']}   {last['iterations']} iterations   {minutes:.1f} min   "
        f"{last['samples_per_second']:.1f} slices/s   {100 * last['data_wait_share']:.0f} % of the time waiting for data   "
        f"learning rate {last['learning_rate']:.2g}"
    )


def tell_whether_longer(records: list[dict[str, Any]]) -> str:
    """Say whether longer training is worthwhile, by the synthetic anomalies found at the end and before.

    Or that it isn't known, where these were hardly judged.

    Parameters
    ----------
    records : lines of the training log
    """
    judged = [(record["epoch"], record["synthetic_auprc"]) for record in _judged(records)]
    if len(judged) < LEAST_JUDGEMENTS:
        return "whether longer training is worthwhile isn't known: synthetic anomalies were hardly judged."
    end, last = judged[-1]
    epoch, before = max((one for one in judged if one[0] <= LAST_PART * end), key=lambda one: one[1], default=judged[0])
    figures = f"AUPRC of synthetic anomalies {last:.3f} at the end, {before:.3f} after epoch {epoch} of {end}"
    if last - before > WORTHWHILE_GAIN:
        return f"{figures}: still rising, so longer training is worthwhile (plan it with a larger --training_hours)."
    return f"{figures}: no longer rising, so longer training is hardly worthwhile."


def _judged(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    # Logs of earlier versions don't have the entry.
    return [record for record in records if record.get("synthetic_auprc") is not None]


def _draw_judgements(axes: Axes, records: list[dict[str, Any]]) -> None:
    """Draw synthetic anomalies found, on an axis at the right."""
    judged = _judged(records)
    if not judged:
        return
    right = axes.twinx()
    right.set(ylabel="AUPRC of synthetic anomalies", ylim=(0, 1))
    values = [record["synthetic_auprc"] for record in judged]
    places = [record["iterations"] for record in judged]
    right.plot(places, values, color="black", linestyle=":", marker="o", markersize=4)


def _draw_losses(axes: Axes, records: list[dict[str, Any]]) -> None:
    axes.set(xlabel="iterations", ylabel="mean squared error", yscale="log")
    axes.grid(True, which="both", alpha=0.25)
    axes.yaxis.set_major_formatter(LogFormatter())
    axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    if not records:
        return
    iterations = [record["iterations"] for record in records]
    for network, colour in zip(records[-1]["train"], COLOURS, strict=False):
        axes.plot(iterations, [record["train"][network] for record in records], color=colour, alpha=0.45, linewidth=1.2)
        last = records[-1]
        label = (
            f"{network}, pale: train, strong: {last['validation_on']} with mean weights, {last['validation'][network]:.4f}"
        )
        values = [record["validation"][network] for record in records]
        axes.plot(iterations, values, color=colour, linewidth=1.8, marker="." if len(records) < 30 else None, label=label)
    axes.legend(fontsize=9, frameon=False)


def _draw_example(figure: Any, example: Example) -> None:
    name, other = example.modalities
    error = np.square(example.input - example.cycled)
    shown, generated, cycled = (title.format(input=name, translation=other) for title in example.titles)
    images = [
        (shown, example.shown),
        (f"{name}, real", example.input),
        (f"{other}, real", example.translation),
        (generated, example.generated),
        (cycled, example.cycled),
    ]
    panels = [(title, image, "gray", INTENSITY_RANGE) for title, image in images if image is not None]
    panels.append((f"squared error, {ERROR_RANGE[0]:g}..{ERROR_RANGE[1]:g}", error, "inferno", ERROR_RANGE))
    for axes, (title, image, colours, (low, high)) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        axes.imshow(image, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
        axes.set_facecolor("#0072b2")
        axes.set_title(title, fontsize=9)
        axes.set(xticks=[], yticks=[])
