"""Signals of schedulers and closed terminals are heard as Ctrl-C is."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from mmccd_auto.core.processes.signals import Terminated, endings_as_interrupts, exit_status

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")

COMMAND = """
import os, signal, sys, time
from mmccd_auto.cli.common import run_command
from mmccd_auto.core.files import atomic_path

def command(_):
    with atomic_path(sys.argv[1]) as temporary:
        temporary.write_text("half")
        print("working", flush=True)
        time.sleep(600)

signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
sys.exit(run_command(command, []))
"""
FORKED = """
import os, signal, sys, time
from mmccd_auto.core.processes.signals import endings_as_interrupts
ready, tell = os.pipe()
with endings_as_interrupts():
    child = os.fork()
    if child == 0:
        os.write(tell, b"1")
        time.sleep(600)
        sys.exit(0)
    os.read(ready, 1)
    os.kill(child, signal.SIGTERM)
    print(os.WTERMSIG(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_command_ends_with_the_status_of_the_signal_and_leaves_nothing(tmp_path, name, status):
    command = [sys.executable, "-c", COMMAND, str(tmp_path / "map")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "working\n"
        process.send_signal(signal.Signals[name])
        _, errors = process.communicate()
    assert process.returncode == status
    assert "Traceback" not in errors
    assert "run the same command again" in errors
    assert os.listdir(tmp_path) == []


def test_only_the_first_one_cuts_off():
    def cleaned_up() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            pytest.fail("the signal was not heard")
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGHUP)

    with pytest.raises(Terminated) as ended, endings_as_interrupts():
        cleaned_up()
    assert exit_status(ended.value) == 143
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_what_is_ignored_or_handled_by_others_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with endings_as_interrupts():
            os.kill(os.getpid(), signal.SIGHUP)
            with endings_as_interrupts():
                pass
            assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_forked_children_end_at_once():
    result = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True)
    assert (result.stdout.strip(), result.stderr) == (str(int(signal.SIGTERM)), "")


def test_another_thread_is_left_alone():
    heard = []

    def run() -> None:
        with endings_as_interrupts():
            heard.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert heard == [signal.SIG_DFL]
