"""What commands write to standard error and to --json_log: terminals get bars, pipes and files plain lines."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence
from pathlib import Path

import pytest

from mmccd_auto.cli.common import make_parser, run_command
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.progress import Progress

logger = logging.getLogger("mmccd_auto.test")
WORK = """
import logging, sys
from mmccd_auto.cli.common import make_parser, run_command
from mmccd_auto.core.progress import track
def work(arguments):
    make_parser("work").parse_args(arguments)
    for item in track(range(3), total=3, description="cases", unit="case"):
        logging.getLogger("mmccd_auto.work").info("item %d", item)
        logging.getLogger("mmccd_auto.work").warning("odd %d", item)
sys.exit(run_command(work))
"""


def _work(arguments: Sequence[str] | None) -> None:
    make_parser("Work.").parse_args(arguments)
    logger.debug("detail")
    logger.info("decided", extra={"case": "case_1"})
    logger.warning("odd")
    raise MMCCDError("FILE is wrong: give another.")


@pytest.mark.parametrize(
    ("options", "expected"),
    [((), ["decided", "odd"]), (("--quiet",), ["odd"]), (("--verbose",), ["detail", "decided", "odd"])],
)
def test_options_choose_what_is_shown(
    options: tuple[str, ...], expected: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    log = tmp_path / "log.jsonl"
    assert run_command(_work, [*options, "--json_log", str(log)]) == 1
    assert capsys.readouterr().err.splitlines() == [*expected, "error: FILE is wrong: give another."]
    records = [json.loads(line) for line in log.read_text().splitlines()]
    messages = {one["message"]: one for one in records}
    assert messages["decided"]["case"] == "case_1"
    assert messages["odd"]["level"] == "warning"
    assert "error: FILE is wrong: give another." in messages
    assert all({"time", "level", "logger", "message"} <= one.keys() for one in records)
    assert run_command(_work, []) == 1, "no handler of an earlier command is left"
    assert len(log.read_text().splitlines()) == len(records)


def test_a_log_that_cannot_be_written_is_refused_first(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert run_command(_work, ["--json_log", str(tmp_path / "none" / "log.jsonl")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "--json_log" in line


def test_quiet_shows_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    def look(arguments: Sequence[str] | None) -> None:
        make_parser("Look.").parse_args(arguments)
        assert Progress(3, "cases", "case")._bar is None

    monkeypatch.setattr("mmccd_auto.core.progress.on_terminal", lambda: True)
    assert run_command(look, ["--quiet"]) == 0


def test_a_pipe_gets_whole_lines_without_control_characters() -> None:
    ended = subprocess.run([sys.executable, "-c", WORK], capture_output=True, timeout=600, check=True)
    assert not set(ended.stderr) & {0x0D, 0x1B, 0x08}
    expected = [line for number in range(3) for line in (f"item {number}", f"odd {number}")]
    assert ended.stderr.decode().splitlines()[:6] == expected


def test_a_terminal_gets_a_bar_and_whole_messages() -> None:
    reader, writer = pty.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen([sys.executable, "-c", WORK], stderr=writer, stdout=subprocess.DEVNULL)
    os.close(writer)
    found = b""
    try:
        while block := os.read(reader, 65536):
            found += block
    except OSError:
        # Linux reports the end of a pseudo-terminal as an error.
        pass
    finally:
        os.close(reader)
    assert process.wait(timeout=600) == 0
    text = found.decode()
    assert "cases: 100%" in text
    for number in range(3):
        assert f"item {number}\r\n" in text, "a message ends its line"
        before = text[: text.index(f"item {number}\r\n")]
        assert before == "" or before.endswith(("\r", "\n")), "a message begins a line that was cleared"
