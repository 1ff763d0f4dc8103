"""The allocator keeps what was freed, until it is told to give it back."""

import subprocess
import sys

import pytest

SCRIPT = """
import numpy as np
from mmccd_auto.core.processes.memory import keep_large_blocks, release_free_blocks

def resident_mb():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20

assert keep_large_blocks()
start = resident_mb()
blocks = [np.ones(2_500_000) for _ in range(20)]
last = np.ones(1000)
full = resident_mb()
del blocks
kept = resident_mb()
assert release_free_blocks()
print(start, full, kept, resident_mb(), last.sum())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="an allocator of Linux")
def test_freed_blocks_stay_until_they_are_released() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    start, full, kept, released, _ = map(float, done.stdout.split())
    assert full - start > 350
    assert kept - start > 350
    assert released - start < 50
