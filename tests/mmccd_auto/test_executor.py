"""Work over cases: order, faults kept to their case, killed workers, interrupts."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool

import pytest

import mmccd_auto
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.processes.executor import SequentialExecutor, make_executor, run_cases

WORK = '''
import os, signal, time
from pathlib import Path
from mmccd_auto.core.errors import MMCCDError

def square(number):
    return number * number

def interrupt_itself(number):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(30)

def process_id(_):
    return os.getpid()

def thread_limit(_):
    return os.environ["OMP_NUM_THREADS"]

def fail_on(number, bad):
    if number == bad:
        raise MMCCDError(f"case{number}.nii.gz is broken: fix it.")
    return number

def defect(number):
    return 1 // number

class OddError(Exception):
    """Can be sent to another process, but not be made again there."""
    def __init__(self, number, more):
        super().__init__(f"secret {number}")

def raise_on(number, kind):
    if number == 1:
        raise {
            "itk": RuntimeError("In SimpleITK:\\nitk::ERROR: ResampleImageFilter(0x55aa): Failed to resample image."),
            "itk memory": RuntimeError("itk::ERROR: Image(0x55aa): Failed to allocate memory for image."),
            "torch memory": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
            "os": OSError(40, "Too many levels of symbolic links", "/secret/loop"),
            "odd": OddError(1, 2),
            "attributes": AttributeError("secret"),
        }[kind]
    return number

def unsendable(number):
    return (lambda: number) if number == 1 else number

def leave(number):
    raise SystemExit(3)

def die_on(number, bad):
    if number in bad:
        os.kill(os.getpid(), signal.SIGKILL)
    return number

def out_of_memory_unless_alone(number, folder):
    """Fails the first time it is called for case 1."""
    mark = Path(folder) / "mark"
    if number == 1 and not mark.exists():
        mark.touch()
        raise MemoryError
    return number

def always_out_of_memory(number):
    if number == 1:
        raise MemoryError
    return number

def slow(folder, number):
    temporary = Path(folder) / f"temporary{number}"
    temporary.touch()
    try:
        time.sleep(600)
    finally:
        temporary.unlink()
'''


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A module that spawned workers can import."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "work_for_executor.py").write_text(WORK)
    monkeypatch.syspath_prepend(str(folder))
    sys.modules.pop("work_for_executor", None)
    import work_for_executor

    yield work_for_executor
    sys.modules.pop("work_for_executor", None)


def numbered(count, *more):
    return [(f"case{number}", (number, *more)) for number in range(count)]


@pytest.mark.parametrize("processes", [0, 2])
def test_outcomes_in_order_and_faults_kept_to_their_case(work, processes):
    outcomes = run_cases(work.fail_on, numbered(7, 3), processes, "test")
    assert [outcome.case for outcome in outcomes] == [f"case{number}" for number in range(7)]
    assert [outcome.result for outcome in outcomes] == [0, 1, 2, None, 4, 5, 6]
    assert [outcome.error for outcome in outcomes] == [None] * 3 + ["case3.nii.gz is broken: fix it."] + [None] * 3


@pytest.mark.parametrize("processes", [0, 1])
def test_a_defect_ends_its_case_alone_and_is_visible_as_one(work, processes, caplog):
    caplog.set_level(logging.DEBUG)
    outcomes = run_cases(work.defect, numbered(3), processes, "test")
    assert [outcome.result for outcome in outcomes] == [None, 1, 0]
    told = r"case0: an unexpected ZeroDivisionError in work_for_executor, line \d+: please report it"
    assert re.match(told, outcomes[0].error)
    assert "return 1 // number" in caplog.text


@pytest.mark.parametrize("processes", [0, 1])
@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("itk", "unexpected RuntimeError (Failed to resample image)"),
        ("itk memory", "ran out of memory"),
        ("torch memory", "ran out of memory"),
        ("os", "unexpected OSError (Too many levels of symbolic links)"),
        ("odd", "unexpected OddError"),
        ("attributes", "unexpected AttributeError"),
    ],
)
def test_any_exception_ends_its_case_alone(work, processes, kind, told):
    outcomes = run_cases(work.raise_on, numbered(4, kind), processes, "test")
    assert [outcome.result for outcome in outcomes] == [0, None, 2, 3]
    assert outcomes[1].error.startswith("case1")
    assert told in outcomes[1].error
    assert "secret" not in outcomes[1].error, "an exception may name a patient's files"


def test_a_result_that_can_not_be_sent_ends_its_case_alone(work):
    outcomes = run_cases(work.unsendable, numbered(3), 1, "test")
    assert [outcome.error is None for outcome in outcomes] == [True, False, True]


def test_exit_is_no_failure_of_a_case(work):
    with pytest.raises(SystemExit):
        run_cases(work.leave, numbered(2), 0, "test")


def test_no_cases():
    assert run_cases(abs, [], 2, "test") == []


def test_zero_works_in_this_process_and_one_in_another(work):
    assert run_cases(work.process_id, [("a", (1,))], 0, "test")[0].result == os.getpid()
    assert run_cases(work.process_id, [("a", (1,))], 1, "test")[0].result != os.getpid()


def test_workers_share_the_cores(work, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cores = os.cpu_count() or 1
    outcomes = run_cases(work.thread_limit, numbered(cores + 1), cores, "test")
    assert {outcome.result for outcome in outcomes} == {"1"}


def test_negative_number_of_processes():
    with pytest.raises(MMCCDError, match="-np -1"):
        run_cases(abs, numbered(1), -1, "test")


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_only_the_case_that_kills_its_worker_is_reported(work):
    outcomes = run_cases(work.die_on, numbered(9, (2, 7)), 2, "test")
    assert [outcome.result for outcome in outcomes] == [0, 1, None, 3, 4, 5, 6, None, 8]
    for index in (2, 7):
        assert outcomes[index].error.startswith(f"case{index} ")
        assert "memory" in outcomes[index].error


def test_memory_error_is_tried_again_alone(work, tmp_path):
    outcomes = run_cases(work.out_of_memory_unless_alone, numbered(4, str(tmp_path)), 2, "test")
    assert [outcome.result for outcome in outcomes] == [0, 1, 2, 3]


@pytest.mark.parametrize("processes", [0, 1])
def test_memory_error_even_alone_is_reported(work, processes):
    outcomes = run_cases(work.always_out_of_memory, numbered(3), processes, "test")
    assert [outcome.result for outcome in outcomes] == [0, None, 2]
    assert "ran out of memory" in outcomes[1].error


class BreaksAtSubmit(SequentialExecutor):
    """Takes a few calls, then says at submit that it is broken."""

    def __init__(self, calls: int):
        self.calls = calls

    def submit(self, function, /, *args, **kwargs) -> Future:
        if self.calls == 0:
            raise BrokenProcessPool("broken")
        self.calls -= 1
        return super().submit(function, *args, **kwargs)


def test_pool_that_breaks_at_submit_loses_no_case():
    outcomes = run_cases(abs, numbered(20), 2, "test", executor_factory=lambda _: BreaksAtSubmit(3))
    assert [outcome.result for outcome in outcomes] == list(range(20))


def test_pool_that_never_works_ends_with_a_report_for_each_case():
    outcomes = run_cases(abs, numbered(5), 2, "test", executor_factory=lambda _: BreaksAtSubmit(0))
    assert all(outcome.result is None and outcome.error for outcome in outcomes)


class Recording(SequentialExecutor):
    """Leaves its futures unfinished until somebody waits, and notes how many are open at once."""

    open_calls = 0
    most_open = 0

    def submit(self, function, /, *args, **kwargs) -> Future:
        future = super().submit(function, *args, **kwargs)
        Recording.open_calls += 1
        Recording.most_open = max(Recording.most_open, Recording.open_calls)
        result = future.result

        def counted(timeout=None):
            Recording.open_calls -= 1
            return result(timeout)

        future.result = counted
        return future


def test_at_most_two_cases_per_worker_are_in_flight():
    Recording.open_calls = Recording.most_open = 0
    run_cases(abs, numbered(50), 3, "test", executor_factory=lambda _: Recording())
    assert Recording.most_open == 6


def test_executor_is_shut_down_however_the_work_ends(work):
    made = []

    def factory(processes):
        made.append(make_executor(processes))
        return made[-1]

    with pytest.raises(SystemExit):
        run_cases(work.leave, numbered(2), 1, "test", executor_factory=factory)
    with pytest.raises(RuntimeError, match="shutdown"):
        made[0].submit(abs, 1)


@pytest.mark.skipif(os.name == "nt", reason="needs process groups")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("all_of_them", [True, False])
def test_signals_end_parent_and_workers_and_remove_what_they_wrote(work, tmp_path, name, all_of_them):
    """Sent to all processes, as terminals and schedulers do, or to the parent alone, as docker stop does."""
    folder = tmp_path / "output"
    folder.mkdir()
    script = tmp_path / "script.py"
    script.write_text(
        "import signal, sys\n"
        f"sys.path.insert(0, {str(tmp_path / 'modules')!r})\n"
        "import work_for_executor\nfrom mmccd_auto.core.processes.signals import endings_as_interrupts\n"
        "from mmccd_auto.core.processes.executor import run_cases\n"
        "if __name__ == '__main__':\n"
        # Shells start what works in the background with interrupts ignored, and nohup with SIGHUP, which children inherit.
        "    signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "    signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        f"    cases = [(str(n), ({str(folder)!r}, n)) for n in range(6)]\n"
        "    with endings_as_interrupts():\n"
        "        run_cases(work_for_executor.slow, cases, 2, 'test')\n"
    )
    with subprocess.Popen([sys.executable, str(script)], stderr=subprocess.PIPE, start_new_session=True) as process:
        deadline = time.monotonic() + 600
        while len(list(folder.iterdir())) < 2 and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.05)
        assert len(list(folder.iterdir())) == 2
        (os.killpg if all_of_them else os.kill)(process.pid, signal.Signals[name])
        # The workers hold the same stderr, so this returns only once they have ended too.
        _, errors = process.communicate(timeout=600)
    assert process.returncode != 0
    assert errors.count(b"Traceback") == 1, errors.decode()
    assert (b"KeyboardInterrupt" if name == "SIGINT" else b"Terminated: " + name.encode()) in errors.splitlines()[-1]
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="needs signals")
def test_a_worker_that_notices_the_interrupt_first_adds_no_traceback_of_its_own(work):
    with pytest.raises(KeyboardInterrupt) as raised:
        run_cases(work.interrupt_itself, [("a", (1,))], 1, "test")
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


def test_daemonic_process_works_sequentially(work, monkeypatch):
    import multiprocessing

    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)
    assert run_cases(work.process_id, [("a", (1,))], 2, "test")[0].result == os.getpid()


@pytest.fixture
def run_script(tmp_path):
    """Runs the lines of a script's main part in a folder of its own; gives what it printed and what it logged."""
    (tmp_path / "here").mkdir()
    script = tmp_path / "script.py"

    def run(*lines: str, before: str = "", **environment: str) -> tuple[list[str], str]:
        imported = "load_libraries_early, make_executor, run_cases"
        head = f"import logging, os\nfrom mmccd_auto.core.processes.executor import {imported}\n{before}\n"
        script.write_text(head + "if __name__ == '__main__':\n    " + "\n    ".join(lines))
        done = subprocess.run(
            [sys.executable, str(script)],
            cwd=tmp_path / "here",
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines(), done.stderr

    return run


@pytest.fixture
def long_folder(tmp_path):
    """A folder for temporary files whose name no socket can have: the server can't start there."""
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    return str(folder)


@pytest.mark.parametrize("server", [True, False])
def test_nothing_is_imported_from_where_it_is_started(tmp_path, run_script, long_folder, server):
    """Not a clone's folder of the package's name, and no file that is named like a module that workers load."""
    here = tmp_path / "here"
    (here / "mmccd_auto").mkdir()
    (here / "mmccd_auto" / "__init__.py").touch()
    # Before Python 3.11 nothing keeps a worker from looking for the first of the standard library's modules there.
    late = ("numpy.py", "queue.py")
    for name in (*late, "socket.py", "torch.py") if sys.version_info >= (3, 11) else late:
        (here / name).write_text("import os\nos.write(2, b'code of ' + __file__.encode())\n")
    printed, logged = run_script(
        "load_libraries_early()",
        "with make_executor(1) as executor:",
        "    print(executor.submit(eval, '__import__(\"mmccd_auto\").__file__').result())",
        "    executor.submit(eval, '__import__(\"numpy\").ndarray').result()",
        "    executor.submit(eval, '__import__(\"queue\").Queue').result()",
        **({} if server else {"TMPDIR": long_folder}),
    )
    assert printed == [mmccd_auto.__file__]
    assert "code of" not in logged


def test_a_folder_for_temporary_files_that_no_socket_can_lie_in(run_script, long_folder):
    printed, logged = run_script(
        "logging.basicConfig(level=logging.INFO)",
        "load_libraries_early()",
        "for _ in range(2):",
        "    print([one.result for one in run_cases(abs, [(str(n), (-n,)) for n in range(3)], 2, 'test')])",
        TMPDIR=long_folder,
    )
    assert printed == ["[0, 1, 2]"] * 2
    assert logged.count("their server failed") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only there workers come from a server")
def test_the_server_leaves_no_folder_behind(run_script, tmp_path):
    """At once where its parent ends, with the next run where it is killed."""
    (tmp_path / "tmp").mkdir()
    work = "run_cases(abs, [('a', (1,))], 1, 'test')"
    run_script(work, TMPDIR=str(tmp_path / "tmp"))
    assert os.listdir(tmp_path / "tmp") == []
    killed = "import os, signal\nfrom mmccd_auto.core.processes.executor import run_cases\nif __name__ == '__main__':\n"
    (tmp_path / "killed.py").write_text(f"{killed}    {work}\n    os.kill(os.getpid(), signal.SIGKILL)\n")
    subprocess.run([sys.executable, str(tmp_path / "killed.py")], env={**os.environ, "TMPDIR": str(tmp_path / "tmp")})
    assert len(os.listdir(tmp_path / "tmp")) == 1
    run_script(work, TMPDIR=str(tmp_path / "tmp"))
    assert os.listdir(tmp_path / "tmp") == []


@pytest.mark.skipif(sys.platform != "linux", reason="only there workers come from a server")
def test_a_server_that_dies_loses_no_case(tmp_path, run_script):
    """Here at every start, while it loads torch: that is the first of its libraries."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "torch.py").write_text("import os\nos._exit(3)\n")
    printed, logged = run_script(
        "load_libraries_early()",
        "print([one.result for one in run_cases(abs, [(str(n), (-n,)) for n in range(5)], 2, 'test')])",
        PYTHONPATH=str(tmp_path / "modules"),
    )
    assert printed == ["[0, 1, 2, 3, 4]"]
    assert "Traceback" not in logged


@pytest.mark.skipif(sys.platform != "linux", reason="only there workers come from a server")
def test_an_interrupt_while_the_server_loads_its_libraries_is_for_the_parent_alone(tmp_path):
    (tmp_path / "torch.py").write_text("import sys, time\nprint('loading', flush=True)\ntime.sleep(3)\n")
    script = tmp_path / "script.py"
    script.write_text(
        "import signal, time\nfrom mmccd_auto.core.processes.executor import load_libraries_early\n"
        # Shells start what works in the background with interrupts ignored, which children inherit.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "try:\n    load_libraries_early()\n    time.sleep(30)\nexcept KeyboardInterrupt:\n    print('parent', flush=True)\n"
    )
    command, environment = [sys.executable, str(script)], {**os.environ, "PYTHONPATH": str(tmp_path)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, start_new_session=True, **pipes) as process:
        if sys.version_info >= (3, 11):
            assert process.stdout.readline() == "loading\n"
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)
        printed, errors = process.communicate(timeout=600)
    assert (printed, errors) == ("parent\n", "")


@pytest.mark.skipif(os.name == "nt", reason="needs signals")
@pytest.mark.parametrize("server", [True, False])
def test_an_interrupt_while_a_worker_starts_is_noticed_once_it_can_be(run_script, long_folder, server):
    """The worker is interrupted before it has come so far that it sees to interrupts: by the script, which it loads."""
    printed, logged = run_script(
        "try:",
        "    run_cases(print, [('a', ('worked',))], 1, 'test')",
        "except KeyboardInterrupt:",
        "    print('interrupted')",
        before="import signal\nif __name__ == '__mp_main__':\n    os.kill(os.getpid(), signal.SIGINT)",
        **({} if server else {"TMPDIR": long_folder}),
    )
    assert printed == ["interrupted"]
    assert "Traceback" not in logged


@pytest.mark.parametrize("server", [True, False])
def test_workers_see_the_environment_of_their_pool_start(run_script, long_folder, server):
    printed, _ = run_script(
        "load_libraries_early()",
        "os.environ['MADE_LATER'] = 'yes'",
        "del os.environ['GONE_LATER']",
        "with make_executor(1) as executor:",
        "    names = ('MADE_LATER', 'GONE_LATER', 'PYTHONSAFEPATH')",
        "    print([executor.submit(os.getenv, name).result() for name in names])",
        "print(os.environ.get('PYTHONSAFEPATH'))",
        GONE_LATER="yes",
        **({} if server else {"TMPDIR": long_folder}),
    )
    assert printed == ["['yes', None, None]", "None"]
