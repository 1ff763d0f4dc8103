"""Options that can't be: one sentence before anything begins, and a help that tells each default once."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

from mmccd_auto.cli.common import run_command
from mmccd_auto.cli.options import BRAIN_EXTRACTIONS
from mmccd_auto.core.devices import choose_device
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.preprocessing.brain_extraction import backend_names

COMMANDS = (
    "plan_and_preprocess",
    "import_export",
    "train",
    "calibrate",
    "find_best_configuration",
    "cross_validate",
    "predict",
    "bids",
    "evaluate",
    "run",
    "sharing.export_model",
    "sharing.install_model",
    "sharing.models",
    "demo",
)


def run(command: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", [f"mmccd_{command}", *arguments])
    with pytest.raises(SystemExit) as ended:
        import_module(f"mmccd_auto.cli.commands.{command}").main()
    return int(ended.value.code or 0)


NAMES = ("../../elsewhere", "/elsewhere", "a__b", "x" * 300, ".", "..", "", "a\nb", ".hidden", "NUL")
WHOLE = ("0", "-1", "1000000000000", "1.5", "1e3", "nan", "\u0663", "", "9" * 5000, "1_0")
AMOUNTS = ("0", "-1", "nan", "inf", "1e999", "", "x", "\u0663")
BAD_OPTIONS: list[tuple[str, list[str], str, tuple[str, ...]]] = [
    ("train", ["900", "0"], "-np", ("-1", "257", "1.5", "two", "\u0663")),
    ("train", ["900", "0"], "--num_epochs", WHOLE),
    ("train", ["900", "0"], "--iterations_per_epoch", WHOLE),
    ("train", ["900", "0"], "-p", NAMES),
    ("train", ["900", "0"], "-tr", NAMES),
    ("train", ["900", "0"], "-c", NAMES),
    ("plan_and_preprocess", [], "-overwrite_plans_name", NAMES),
    ("plan_and_preprocess", [], "-np", ("-1", "100000")),
    ("plan_and_preprocess", [], "-gpu_memory_target", AMOUNTS),
    ("plan_and_preprocess", [], "-overwrite_target_spacing", (*AMOUNTS, "1e-9", "1e9")),
    ("plan_and_preprocess", [], "--time_budget", AMOUNTS),
    ("import_export", ["-i", "x", "-n", "x"], "-d", ("-1", "1000", "x", "\u0663")),
    ("import_export", ["-i", "x", "-n", "x", "-d", "1"], "--modalities", ("../x", "a__b")),
    ("calibrate", ["900"], "--max_slices", WHOLE),
    ("calibrate", ["900"], "-f", ("00", "\u0663", "-1", "../0")),
    ("find_best_configuration", ["900"], "--per_kind", WHOLE),
    ("find_best_configuration", ["900"], "--max_slices", WHOLE),
    ("find_best_configuration", ["900"], "-f", ("00", "1000")),
    ("cross_validate", ["900"], "-f", ("00", "x")),
    ("predict", ["-i", "x", "-o", "y"], "--sampling_steps", WHOLE),
    ("predict", ["-i", "x", "-o", "y"], "--strip_stride", WHOLE),
    ("predict", ["-i", "x", "-o", "y"], "--strips_per_pass", ("-1", "17", "1000000000")),
    ("predict", ["-i", "x", "-o", "y"], "--batch_size", WHOLE),
    ("predict", ["-i", "x", "-o", "y"], "--fpr", (*AMOUNTS, "1", "2")),
    ("predict", ["-i", "x", "-o", "y"], "--threshold", ("-1", "nan", "inf", "1e999", "x")),
    ("predict", ["-i", "x", "-o", "y"], "--min_lesion", ("-1", "nan", "inf", "1e999", "x")),
    ("predict", ["-i", "x", "-o", "y"], "-p", NAMES),
    ("evaluate", ["-ref", "x", "-pred", "y"], "--erosion", ("-1", "nan", "inf", "1e9")),
    ("demo", ["-o", "x"], "--seed", ("-1", "1e3", "99999999999")),
]


@pytest.mark.parametrize(("command", "others", "option", "values"), BAD_OPTIONS, ids=lambda value: str(value)[:30])
def test_absurd_options_are_refused_by_a_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    others: list[str],
    option: str,
    values: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    for value in values:
        assert run(command, [*others, f"{option}={value}"], monkeypatch) != 0
        told = capsys.readouterr().err.strip().splitlines()[-1]
        assert re.search(r"error: argument .*give ", told), told
        assert len(told) < 500
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fold", ["00", "01", "\u0663", "\u00b2", "-1", "1.0", "", "ALL", "../0", "1000"])
def test_folds_are_plain_digits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fold: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("train", ["900", "--", fold], monkeypatch) != 0
    assert re.search(r"argument FOLD: .* is no fold: give 0, 1, 2, \.\.\. or all", capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name", ["meta", "xla", "hpu", "mtia", "ipu", "vulkan", "cpu:3", "cuda:99", "mps:1", "gpu", "", "cuda:x", "-1"]
)
def test_devices_that_cannot_compute_are_refused(name: str) -> None:
    with pytest.raises(MMCCDError, match=r"^-device .*(use -device|choose) "):
        choose_device(name)


@pytest.mark.parametrize("name", ["cpu", "cpu:0"])
def test_the_cpu_has_one_name(name: str) -> None:
    assert choose_device(name) == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda", "mps")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_tells_each_default_once_and_none_that_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    assert run(command, ["--help"], monkeypatch) == 0
    told = capsys.readouterr().out
    assert not re.findall(r"default: (None|False|\[|==)", told)
    assert all(len(re.findall(r"\bdefault\b", line)) <= 1 for line in told.splitlines())
    assert "anew" not in told


def test_help_and_mistakes_are_told_before_anything_slow_is_loaded() -> None:
    script = f"""
import io, sys
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
for command in {COMMANDS}:
    for option in ("-h", "--no_such_option"):
        sys.argv = ["mmccd_" + command, option]
        with redirect_stdout(io.StringIO()) as shown, redirect_stderr(io.StringIO()):
            try:
                import_module("mmccd_auto.cli.commands." + command).main()
            except SystemExit as ended:
                assert ended.code == (0 if option == "-h" else 2), (command, option)
        assert ("usage" in shown.getvalue()) == (option == "-h"), command
print(sorted({{"torch", "SimpleITK", "scipy", "pandas", "matplotlib", "nibabel", "pydicom"}} & set(sys.modules)))
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == "[]"


def test_every_way_to_extract_a_brain_can_be_chosen() -> None:
    assert backend_names() == BRAIN_EXTRACTIONS


def test_a_path_that_the_system_refuses_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def command(_) -> None:
        (tmp_path / ("x" * 300)).stat()

    assert run_command(command, []) == 1
    said = capsys.readouterr().err
    assert "File name too long: check that this path is right" in said
    assert "Traceback" not in said
