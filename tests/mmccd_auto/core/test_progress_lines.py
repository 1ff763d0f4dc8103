"""How far a command is: bars for a terminal alone, a line every so often for a log."""

from __future__ import annotations

import io
import logging
import sys
from pathlib import Path

import pytest

from mmccd_auto.core import progress
from mmccd_auto.core.processes.executor import run_cases
from mmccd_auto.core.progress import PlainLines, Progress, track
from mmccd_auto.plans.plan import Plan
from mmccd_auto.training.options import TrainerOptions
from mmccd_auto.training.trainers import CyclicUNetTrainer


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the clock shows."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.name == "mmccd_auto.core.progress"]


def test_a_log_gets_a_line_every_so_often_and_one_at_the_end(
    clock: list[float], caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), Progress(100, "prediction", "case") as bar:
        for _ in range(100):
            clock[0] += 1
            bar.update()
    assert lines(caplog) == [
        "prediction: 30 of 100 cases, about 70 s left",
        "prediction: 60 of 100 cases, about 40 s left",
        "prediction: 90 of 100 cases, about 10 s left",
        "prediction: 100 cases in 1.7 minutes",
    ]
    assert "\r" not in capsys.readouterr().err


def test_work_within_other_work_tells_a_log_only_how_long_it_will_take(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), Progress(0, "healthy slices", "evaluation", leave=False) as bar:
        bar.set_total(40)
        for _ in range(40):
            clock[0] += 1
            bar.update()
    assert lines(caplog) == ["healthy slices: 30 of 40 evaluations, about 10 s left"]


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with caplog.at_level(logging.INFO):
        assert list(track("abc", total=3, description="cases", unit="case")) == ["a", "b", "c"]
    assert "\rcases: 100%" in screen.getvalue()
    assert lines(caplog) == []


def _divide_while_telling() -> None:
    with Progress(2, "cases", "case") as bar:
        bar.update()
        raise ZeroDivisionError


def test_nothing_is_told_of_what_is_disabled_or_failed(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        list(track("abc", total=3, description="cases", unit="case", disable=True))
    with caplog.at_level(logging.INFO), pytest.raises(ZeroDivisionError):
        _divide_while_telling()
    assert lines(caplog) == []


def test_the_work_over_cases_does_not_fill_a_log(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        run_cases(abs, [(str(number), (number,)) for number in range(50)], 0, "preprocessing")
    assert [line.split(" in ")[0] for line in lines(caplog)] == ["preprocessing: 50 cases"]
    assert capsys.readouterr().err == ""


def test_a_training_tells_a_log_its_epochs_losses_and_time_left(
    tmp_path: Path, tiny_plan: Plan, preprocessed: Path, splits: list, caplog: pytest.LogCaptureFixture, monkeypatch
) -> None:
    trainer = CyclicUNetTrainer(
        tiny_plan,
        None,
        0,
        preprocessed,
        tmp_path / "model" / "fold_0",
        splits,
        TrainerOptions(num_epochs=3, iterations_per_epoch=1),
    )
    with caplog.at_level(logging.INFO):
        trainer.train()
    told = lines(caplog)
    assert [line.split(":")[0] for line in told] == ["epoch 1 of 3", "epoch 3 of 3"]
    assert "epoch 1 of 3: train forward " in told[0]
    assert "; validation forward " in told[0]
    assert "an epoch, about" in told[0]
    assert told[0].endswith("left")


def test_lines_come_not_more_often_than_every_half_minute(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    plain = PlainLines()
    with caplog.at_level(logging.INFO):
        for number in range(10):
            clock[0] += 10
            plain.tell(f"epoch {number}", last=number == 9)
    assert lines(caplog) == ["epoch 0", "epoch 3", "epoch 6", "epoch 9"]
