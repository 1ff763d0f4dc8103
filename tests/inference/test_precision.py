"""Which precision is taken, that a timing decides once, and what that is remembered by."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.inference.maps import remembered
from mmccd_auto.inference.maps.precision import choose_precision, quickest_precision

CPU = torch.device("cpu")
BOTH = ("float32", "bfloat16")
PATCH = (32, 32)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's cache folder that holds nothing, and a process that knows nothing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(remembered, "_known", {})
    return tmp_path / "cache"


@pytest.fixture
def slow(random_cycle, tiny_plan, monkeypatch: pytest.MonkeyPatch):
    """A cycle that takes its time in float32 and has room for four slices; and the batches that it was given."""
    cycle, calls = random_cycle(tiny_plan), []
    real = cycle.reconstruct

    def reconstruct(x, *others):
        calls.append(len(x))
        if len(x) > 4:
            raise torch.cuda.OutOfMemoryError
        if not torch.is_autocast_enabled("cpu"):
            time.sleep(0.3)
        return real(x, *others)

    monkeypatch.setattr(cycle, "reconstruct", reconstruct)
    return cycle, calls


def test_the_quicker_precision_is_taken_and_remembered_whatever_the_batch_size(slow, home, monkeypatch) -> None:
    cycle, calls = slow
    for batch_size in (9, 3):
        assert quickest_precision(BOTH, cycle, CPU, PATCH, batch_size) == "bfloat16"
    assert calls == [9] + [4] * 10
    # The next command knows it, too; another network's is another.
    monkeypatch.setattr(remembered, "_known", {})
    assert quickest_precision(BOTH, cycle, CPU, PATCH, 9) == "bfloat16"
    assert len(calls) == 11
    quickest_precision(BOTH, cycle, CPU, (32, 48), 1)
    assert len(calls) == 21
    content = json.loads((home / "mmccd_auto" / "timings.json").read_text())
    assert len(content) == 2
    assert set(content.values()) == {"bfloat16"}
    assert all("weights, 32 x" in key and "torch" in key for key in content)


@pytest.mark.parametrize("content", ["[]", "{", '{"other": 3}'])
def test_a_damaged_memory_is_written_anew(slow, home, content) -> None:
    cycle, _ = slow
    path = home / "mmccd_auto" / "timings.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert quickest_precision(BOTH, cycle, CPU, PATCH, 1) == "bfloat16"
    assert "bfloat16" in json.loads(path.read_text()).values()


def test_where_nothing_can_be_written_the_process_alone_remembers(slow, home, monkeypatch) -> None:
    cycle, calls = slow
    home.write_text("a file where the folder should be")
    for _ in range(2):
        assert quickest_precision(BOTH, cycle, CPU, PATCH, 1) == "bfloat16"
    assert len(calls) == 10


def test_without_room_for_one_slice_it_is_float32_and_not_remembered(slow, home, monkeypatch) -> None:
    cycle, _ = slow

    def fail(*_):
        raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr(cycle, "reconstruct", fail)
    assert quickest_precision(BOTH, cycle, CPU, PATCH, 4) == "float32"
    assert not home.exists()


def test_what_is_asked_for_is_taken_and_a_cpu_is_not_timed(slow, home) -> None:
    cycle, calls = slow
    assert choose_precision("auto", cycle, CPU, PATCH, 9) == "float32"
    assert choose_precision("bfloat16", cycle, CPU, PATCH, 9) == "bfloat16"
    with pytest.raises(MMCCDError, match="float16"):
        choose_precision("float16", cycle, CPU, PATCH, 9)
    assert not calls


@pytest.mark.parametrize(("capability", "expected"), [((8, 0), "bfloat16"), ((7, 5), "float32")])
def test_a_gpu_is_timed_only_where_it_has_units_for_bfloat16(slow, home, monkeypatch, capability, expected) -> None:
    """torch.cuda.is_bf16_supported() says yes where bfloat16 is emulated only."""
    cycle, _ = slow
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr("mmccd_auto.inference.maps.precision.quickest_precision", lambda *given: "bfloat16")
    assert choose_precision("auto", cycle, torch.device("cuda"), PATCH, 9) == expected
