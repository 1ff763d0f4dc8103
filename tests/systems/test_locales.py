"""Systems whose own encoding is not UTF-8: old clusters (LC_ALL=C) and consoles of Windows (code page 1252)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmccd_auto.core.files import load_json
from mmccd_auto.imaging.io import write_volume
from mmccd_auto.imaging.volume import Geometry

GEOMETRY = Geometry((8, 9, 7), (2.0, 2.0, 3.0), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
OLD_CLUSTER = {"LC_ALL": "C"}
# Python takes the locale's encoding for files and file names, and doesn't choose UTF-8 by itself.
NO_UTF8 = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
WINDOWS_CONSOLE = {"PYTHONIOENCODING": "cp1252"}
CASE = "\u0141\u00f3d\u017a_1"
"""Its first and last letters are in no western code page."""
LESION = "\u03b2\u03bb\u03ac\u03b2\u03b7"

# Reads a dataset and a scan, writes the scan, a record and a table, and loads no more than that needs.
WORK = """
import sys
from pathlib import Path
from mmccd_auto.core.files import save_json
from mmccd_auto.core.tables import write_csv
from mmccd_auto.datasets.dataset import load_dataset
from mmccd_auto.imaging.io import read_volume, write_volume
dataset, output = load_dataset(Path.cwd()), Path("out")
(case,) = dataset.cases()
scan = read_volume(dataset.channel_file(case, "FLAIR"))
write_volume(scan.array, scan.geometry, output / f"{case}.nii.gz")
save_json({"labels": list(dataset.labels), "sum": int(scan.array.sum())}, output / f"{case}.json")
write_csv(output / "table.csv", ("lesion",), [list(dataset.labels)[1:]])
"""


def run(code: str, folder: Path, system: dict[str, str], *arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHON"))}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=folder, env={**environment, **system}, capture_output=True, timeout=600, check=False)


@pytest.mark.parametrize(
    "system", [OLD_CLUSTER | WINDOWS_CONSOLE, NO_UTF8 | WINDOWS_CONSOLE], ids=["old cluster", "no UTF-8"]
)
def test_names_and_files_in_other_alphabets(tmp_path: Path, system: dict[str, str]) -> None:
    """dataset.json, in UTF-8, names a lesion in Greek; the scan's name is Polish, unless file names can't be so here."""
    case = CASE if system.keys() == (OLD_CLUSTER | WINDOWS_CONSOLE).keys() else "case_1"
    array = np.random.default_rng(0).integers(0, 900, (7, 9, 8), dtype=np.int16)
    for channel in range(2):
        write_volume(array, GEOMETRY, tmp_path / "imagesTr" / f"{case}_{channel:04d}.nii.gz")
    content = {
        "channel_names": {"0": "FLAIR", "1": "T1"},
        "labels": {"background": 0, LESION: 1},
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    (tmp_path / "dataset.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    done = run(WORK, tmp_path, system)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {f"{case}.nii.gz", f"{case}.json", "table.csv"}
    assert load_json(tmp_path / "out" / f"{case}.json") == {"labels": ["background", LESION], "sum": int(array.sum())}
    assert LESION in (tmp_path / "out" / "table.csv").read_text(encoding="utf-8")


@pytest.mark.skipif(
    sys.platform in ("win32", "darwin"), reason="names of files are UTF-16 or UTF-8 there, whatever the locale"
)
def test_a_name_that_the_locale_has_no_letters_for_is_explained(tmp_path: Path) -> None:
    code = "import sys\nfrom mmccd_auto.core.readable_names import check_readable_name\ncheck_readable_name(sys.argv[1])"
    done = run(code, tmp_path, NO_UTF8, tmp_path / CASE)
    assert done.returncode == 1
    assert b"set LC_ALL=C.UTF-8" in done.stderr
    assert run(code, tmp_path, OLD_CLUSTER, tmp_path / CASE).returncode == 0


def test_a_sentence_on_such_a_name_can_be_printed(tmp_path: Path) -> None:
    code = "from mmccd_auto.cli.entry_points import install_model; install_model()"
    done = run(code, tmp_path, NO_UTF8 | WINDOWS_CONSOLE, tmp_path / CASE, "--results_folder", tmp_path)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert b"error: " in done.stderr
