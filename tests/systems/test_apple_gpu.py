"""The choice of an Apple GPU (MPS), where torch is made to say that there is one."""

from __future__ import annotations

import pytest
import torch

from mmccd_auto.core import devices
from mmccd_auto.core.devices import choose_device, sent_to, training_memory_format
from mmccd_auto.core.errors import MMCCDError


@pytest.fixture
def apple_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("apple_gpu")
@pytest.mark.parametrize("name", ["auto", "mps", "mps:0"])
def test_it_is_taken_where_it_is(name: str) -> None:
    assert choose_device(name).type == "mps"


@pytest.mark.usefixtures("apple_gpu")
def test_there_is_one_at_most() -> None:
    with pytest.raises(MMCCDError, match="there is one mps here"):
        choose_device("mps:1")


def test_an_nvidia_gpu_comes_first(apple_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device("auto").type == "cuda"


def test_without_one_the_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(MMCCDError, match="no Apple GPU here; use -device cpu"):
        choose_device("mps")


def test_tensors_are_not_pinned_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pinned memory is CUDA's; a stand-in for the tensor tells what is asked of it."""

    class Asked:
        def to(self, device: torch.device) -> tuple[str, torch.device]:
            return "sent", device

    assert sent_to("mps", Asked()) == ("sent", torch.device("mps"))
    assert devices.training_memory_format is training_memory_format
    assert training_memory_format(torch.device("mps")) is torch.channels_last
