"""The build of the ready models, in miniature: from label maps to a map by default."""

from __future__ import annotations

import operator
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmccd_auto.core.files import load_json
from mmccd_auto.datasets.dataset import load_dataset
from mmccd_auto.datasets.folders import Folders
from mmccd_auto.imaging.io import read_volume, write_volume
from mmccd_auto.imaging.volume import Geometry
from mmccd_auto.inference.options import PredictionOptions
from mmccd_auto.plans.splits import SPLITS_FILE, load_splits
from mmccd_auto.ready.build import BuildOptions, build_ready_models, place_ready_models
from mmccd_auto.trained import ready_models as ready
from mmccd_auto.trained.select import choose_models

EDGE, SIZE = 2.0, (60, 70, 56)
NESTED = ((1.0, 511), (0.93, 515), (0.87, 24), (0.8, 3), (0.62, 2), (0.2, 4))
OPTIONS = BuildOptions(people=6, seed=3, spacing=6, modalities=("FLAIR",), folds=2, num_epochs=2, iterations_per_epoch=5)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Path]]:
    """A build from two label maps of nested ellipsoids."""
    home = tmp_path_factory.mktemp("build")
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, size) for size in reversed(SIZE)), indexing="ij")
    for name, stretch in (("round", 1.0), ("long", 1.1)):
        distance = np.sqrt((stretch * x / 0.95) ** 2 + (y / 0.95) ** 2 + (z / 0.95) ** 2)
        numbers = np.zeros(distance.shape, dtype=np.int16)
        for radius, number in NESTED:
            numbers[distance < radius] = number
        origin = tuple(-EDGE * edge / 2 for edge in SIZE)
        geometry = Geometry(SIZE, (EDGE,) * 3, origin, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
        write_volume(numbers, geometry, home / "label_maps" / f"{name}.nii.gz")
    return home, build_ready_models(home / "label_maps", home / "out", OPTIONS)


def test_one_anatomy_never_lies_on_both_sides(built) -> None:
    home, _ = built
    (raw,) = (home / "out" / "raw").iterdir()
    anatomy = {case: facts["label_map"] for case, facts in load_dataset(raw).content["cases"].items()}
    (split, *_) = load_splits(home / "out" / "preprocessed" / raw.name / SPLITS_FILE)
    sides = [{anatomy[case] for case in split[side]} for side in ("train", "val")]
    assert all(sides)
    assert not sides[0] & sides[1]


def test_the_log_tells_seeds_times_and_hashes(built) -> None:
    home, made = built
    log = load_json(home / "out" / "build.json")
    assert log["options"]["seed"] == OPTIONS.seed
    folds = [f"train and calibrate FLAIR, fold {fold}" for fold in range(OPTIONS.folds)]
    assert list(log["cpu_minutes"]) == ["simulate", "plan and preprocess", *folds]
    assert log["models"]["FLAIR"]["bytes"] == made["FLAIR"].stat().st_size < 2 * 2**20


def test_a_second_call_keeps_what_is_finished(built) -> None:
    home, made = built
    before = made["FLAIR"].read_bytes()
    assert build_ready_models(home / "label_maps", home / "out", OPTIONS) == made
    assert made["FLAIR"].read_bytes() == before


def test_what_was_built_predicts_by_default(built, tmp_path: Path, monkeypatch) -> None:
    home, made = built
    place_ready_models(made, tmp_path / "models")
    monkeypatch.setattr(ready, "MODELS_FOLDER", tmp_path / "models")
    nothing = Folders(tmp_path / "raw", tmp_path / "preprocessed", tmp_path / "results")
    (model,) = choose_models(nothing, PredictionOptions(), ready_for=operator.itemgetter(0))
    scan = next((home / "out" / "raw").glob("*/imagesTr/simulated_000_0000.nii.gz"))
    command = [str(Path(sys.executable).parent / "mmccd_predict"), "-m", str(model.path), "-i", str(scan)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("mmccd_")}
    done = subprocess.run(
        [*command, "-o", str(tmp_path / "maps"), "-device", "cpu", "--no_report"],
        cwd=tmp_path,
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "maps").glob("*_anomaly.nii.gz")
    found, given = read_volume(path), read_volume(scan)
    assert not found.geometry.differences(given.geometry)
    assert (found.array[given.array == 0] == 0).all()
    assert found.array.max() > 0
