"""python -m mmccd_auto.ready.build --label_maps DIR -o FOLDER: make the ready models from label maps, by the usual stages.

Everything random comes from seeds, which build.json says beside the CPU minutes and hashes. The label maps are not needed
once the models are there.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from mmccd_auto.cli.argument_types import number, whole
from mmccd_auto.cli.common import make_parser, run_command
from mmccd_auto.core.disk.removal import remove_folder
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import save_json
from mmccd_auto.core.records import JsonObject, read_record
from mmccd_auto.core.versions import software_versions
from mmccd_auto.datasets.dataset import load_dataset
from mmccd_auto.datasets.folders import Folders
from mmccd_auto.inference.options import PredictionOptions
from mmccd_auto.phantom.label_maps.dataset import SimulatedPeople, write_simulated_people
from mmccd_auto.phantom.label_maps.tissues import MODALITIES
from mmccd_auto.plans.splits import SPLITS_FILE, make_splits
from mmccd_auto.trained.model_archive import unpack_archive
from mmccd_auto.trained.ready_models import ready_name
from mmccd_auto.training.options import TrainingMachine
from mmccd_auto.workflows.plan_and_preprocess import PlanningOptions, plan_and_preprocess
from mmccd_auto.workflows.sharing.describe_model import MakersWords
from mmccd_auto.workflows.sharing.export_model import export_model
from mmccd_auto.workflows.train import TrainingOptions, train

DATASET_NUMBER, DATASET_NAME = 990, "SimulatedHeads"
TRAINER = "MMCCDTrainerLesionRemover"
TRANSLATIONS = {"FLAIR": "T1", "T1": "FLAIR", "T2": "T1"}
"""The remover needs the input modality only; the name of its configuration has a second one."""
LICENCE = "Apache-2.0"
DESCRIPTION = (
    "Trained and calibrated on simulated heads only, made from the label maps that SynthSeg was trained with "
    "(Billot et al., Medical Image Analysis 86, 2023; Apache-2.0) by MR signal equations. No scan of a person is in it."
)
AGES = "those of the label maps, which their source does not list; ventricles and sulci were widened at random"
BUILD_FILE = "build.json"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BuildOptions:
    """How the models are made.

    Attributes
    ----------
    people : simulated, in turn from the label maps
    seed : of the simulation
    spacing : mm, of the network's pixels
    modalities : to make a model of each
    folds : of each model, whose maps are averaged; each is trained without another fifth of the label maps
    num_epochs, iterations_per_epoch : instead of the plan's, for a shorter training
    """

    people: int = 80
    seed: int = 1
    spacing: float = 2.0
    modalities: tuple[str, ...] = MODALITIES
    folds: int = 3
    num_epochs: int | None = None
    iterations_per_epoch: int | None = None


def build_ready_models(
    label_maps: str | Path, output: str | Path, options: BuildOptions, processes: int = 0
) -> dict[str, Path]:
    """Simulate healthy people, plan, preprocess, train, calibrate and export; what is finished is kept on a second call.

    Parameters
    ----------
    label_maps : folder of label maps with FreeSurfer numbers
    output : folder; it gets raw/, preprocessed/, results/, ready_MODALITY.zip and build.json
    options : how the models are made
    processes : workers; 0 works in this process

    Returns
    -------
    the model files by modality

    Raises
    ------
    MMCCDError
        If the label maps can't be used, or a stage fails.
    """
    output, device = Path(output), torch.device("cpu")
    folders = Folders(output / "raw", output / "preprocessed", output / "results")
    log = _BuildLog(output / BUILD_FILE, options, processes)
    raw = folders.raw / f"Dataset{DATASET_NUMBER:03d}_{DATASET_NAME}"
    if not (raw / "dataset.json").is_file():
        with log.timed("simulate"):
            people = SimulatedPeople(options.people, options.seed)
            write_simulated_people(label_maps, folders.raw, DATASET_NUMBER, DATASET_NAME, people, processes)
    dataset = load_dataset(raw)
    anatomies = {case: str(facts["label_map"]) for case, facts in dataset.content["cases"].items()}
    splits = folders.preprocessed / dataset.name / SPLITS_FILE
    if not splits.is_file():
        # Heads from one label map are one anatomy, which must not lie on both sides.
        save_json(make_splits(anatomies), splits)
    with log.timed("plan and preprocess"):
        planning = PlanningOptions(planner="MMCCDPlannerSmall", resolution="lowres", target_spacing=options.spacing)
        failed = plan_and_preprocess(folders, [DATASET_NUMBER], planning, device, processes)
    if failed:
        raise MMCCDError(failed[0])
    made = {}
    for modality in options.modalities:
        configuration = f"{modality}-{TRANSLATIONS[modality]}"
        training = TrainingOptions(
            configuration, TRAINER, num_epochs=options.num_epochs, iterations_per_epoch=options.iterations_per_epoch
        )
        for fold in range(options.folds):
            with log.timed(f"train and calibrate {modality}, fold {fold}"):
                train(folders, DATASET_NUMBER, fold, training, TrainingMachine(device, processes))
        exported = export_model(
            folders,
            PredictionOptions(dataset=str(DATASET_NUMBER), configurations=(configuration,), trainer=TRAINER),
            output / f"{ready_name(modality)}.zip",
            ready_name(modality),
            MakersWords(DESCRIPTION, LICENCE, AGES),
        )
        made[modality] = exported.path
        log.add("models", modality, {"sha256": exported.sha256, "bytes": exported.bytes})
    return made


def place_ready_models(made: dict[str, Path], target: str | Path) -> None:
    """Unpack model files where the package keeps its ready models, each in place of an earlier one.

    Raises
    ------
    MMCCDError
        If a file isn't a model, or the folder can't be written to.
    """
    target = Path(target)
    for modality, archive in made.items():
        place, incoming = target / modality, target / f".new-{modality}"
        for folder in (incoming, place):
            if folder.exists():
                remove_folder(folder, target)
        incoming.mkdir(parents=True)
        unpack_archive(archive, incoming)
        incoming.rename(place)


class _BuildLog:
    """build.json: options, versions, CPU minutes of each stage and what was made.

    Parameters
    ----------
    path : of the file; one that is there is gone on with
    options : of the build
    processes : workers, whose CPU time isn't in that of the stages
    """

    def __init__(self, path: Path, options: BuildOptions, processes: int) -> None:
        self.path = path
        how = {name: value for name, value in asdict(options).items() if name != "modalities"}
        earlier = read_record(JsonObject, path) if path.is_file() else {}
        if earlier and earlier.get("options") != how:
            raise MMCCDError(f"{path} is of a build with other options: give the same ones, or another folder with -o.")
        self.content: dict[str, Any] = {
            "options": how,
            "trainer": TRAINER,
            "workers": processes,
            "versions": software_versions(),
            "cpu_minutes": dict(earlier.get("cpu_minutes", {})),
            "models": dict(earlier.get("models", {})),
        }

    def add(self, part: str, name: str, value: Any) -> None:
        """Set an entry and write the file."""
        self.content[part][name] = value
        save_json(self.content, self.path)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Take the CPU time of a stage."""
        before = _cpu_seconds()
        yield
        # A second call adds what an interrupted one had not finished.
        minutes = self.content["cpu_minutes"].get(stage, 0.0) + (_cpu_seconds() - before) / 60
        self.add("cpu_minutes", stage, round(minutes, 2))
        logger.info("%s: %.2f CPU minutes", stage, self.content["cpu_minutes"][stage])


def _cpu_seconds() -> float:
    return sum(os.times()[:2])


def _command(arguments: Sequence[str] | None) -> int:
    parser: argparse.ArgumentParser = make_parser("Make the ready models from label maps.")
    parser.add_argument("--label_maps", required=True, metavar="DIR", help="label maps with FreeSurfer numbers")
    parser.add_argument("-o", dest="output", required=True, metavar="FOLDER", help="where everything is made")
    parser.add_argument("--people", type=whole(5, 10000), default=BuildOptions.people, metavar="N", help="to simulate")
    parser.add_argument("--seed", type=whole(0, 2**31), default=BuildOptions.seed, metavar="N", help="of the simulation")
    parser.add_argument(
        "--spacing", type=number(1, 6), default=BuildOptions.spacing, metavar="MM", help="edge of the network's pixels"
    )
    parser.add_argument("--modalities", nargs="+", choices=MODALITIES, default=list(MODALITIES), help="a model of each")
    parser.add_argument(
        "--folds", type=whole(1, 5), default=BuildOptions.folds, metavar="N", help="of each model, whose maps are averaged"
    )
    parser.add_argument(
        "--num_epochs",
        type=whole(1, 100000),
        default=None,
        metavar="N",
        help="instead of the plan's, for a shorter training",
    )
    parser.add_argument(
        "--place", default=None, metavar="FOLDER", help="also unpack the models there (mmccd_auto/ready/models)"
    )
    parser.add_argument("-np", dest="processes", type=whole(0, 1024), default=0, metavar="N", help="workers; 0 for none")
    options = parser.parse_args(arguments)
    settings = BuildOptions(
        options.people,
        options.seed,
        options.spacing,
        tuple(options.modalities),
        options.folds,
        num_epochs=options.num_epochs,
    )
    made = build_ready_models(options.label_maps, options.output, settings, options.processes)
    if options.place is not None:
        place_ready_models(made, options.place)
        shutil.copyfile(Path(options.output) / BUILD_FILE, Path(options.place) / BUILD_FILE)
    for path in made.values():
        print(path)
    return 0


def main() -> None:
    """Run the command: entry point of ``python -m``."""
    sys.exit(run_command(_command))


if __name__ == "__main__":
    main()
