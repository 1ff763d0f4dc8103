"""Names that are no text never reach ITK, which ends the process on them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mmccd_auto.core.readable_names import has_readable_name, shown

SCRIPT = """
import os, sys
import numpy as np
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.imaging.io import read_geometry, read_volume, write_volume
from mmccd_auto.imaging.volume import Geometry
folder = sys.argv[1]
geometry = Geometry((4, 4, 4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
for ending in (".mha", ".nii.gz"):
    array = np.arange(64, dtype=np.float32).reshape(4, 4, 4)
    write_volume(array, geometry, os.path.join(folder, "x" + ending))
    bad = os.fsdecode(os.path.join(os.fsencode(folder), b"M\\xfcller" + ending.encode()))
    os.rename(os.path.join(folder, "x" + ending), bad)
    for call in (lambda: read_volume(bad), lambda: read_geometry(bad), lambda: write_volume(array, geometry, bad)):
        try:
            call()
        except MMCCDError as error:
            str(error).encode("utf-8")
print("survived")
"""


@pytest.mark.skipif(os.name == "nt" or sys.platform == "darwin", reason="names are any bytes on Linux only")
def test_volumes_of_such_names_are_read_or_refused_by_a_sentence(tmp_path):
    run = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-500:]
    assert run.stdout.strip() == "survived"


def test_how_they_are_shown():
    name = os.fsdecode(b"M\xfcller\n")
    assert not has_readable_name(name)
    assert shown(name) == "M\\xfcller\\n"
    assert shown("José 山田") == "José 山田"
