"""When a study is worked on, and when not: complete, not yet, again later, never again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.inference.options import PredictionOptions
from mmccd_auto.pacs.archive import Unreachable
from mmccd_auto.pacs.limits import Limits
from mmccd_auto.pacs.records import Ledger, StudyRecord
from mmccd_auto.workflows.pacs.options import PacsOptions
from mmccd_auto.workflows.pacs.study import KILLED, MOST_ATTEMPTS, NOTHING_ARRIVED, StudyWork
from mmccd_auto.workflows.pacs.watch import Watch


class Clock:
    """A time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class EmptyArchive:
    """Its studies have a number of images, of which none is worked on: each ends as skipped, without a model."""

    def __init__(self, **images: int) -> None:
        self.images = {f"1.2.{name.strip('_')}": number for name, number in images.items()}
        self.fetched: list[str] = []
        self.away = self.held = False
        self.broken: dict[str, Exception] = {}

    def studies(self) -> Iterable[str]:
        if self.away:
            raise Unreachable("The archive is away.")
        return list(self.images)

    def count(self, study: str) -> int:
        if study in self.broken and not isinstance(self.broken[study], Unreachable):
            raise self.broken[study]
        return self.images[study]

    def fetch(self, study: str, folder: Path) -> None:
        self.fetched.append(study)
        if study in self.broken:
            raise self.broken[study]

    def store(self, study: str, objects: Sequence[Path]) -> None:
        raise AssertionError("there is nothing to store")

    @property
    def holds_images(self) -> bool:
        return self.held

    def forget(self, study: str) -> None:
        if self.held:
            self.images[study] = 0


@pytest.fixture
def clock() -> Clock:
    return Clock()


def watch(archive: EmptyArchive, folder: Path, clock: Clock, **options: object) -> Watch:
    work = StudyWork(archive, Ledger(folder), None, PredictionOptions(), clock=clock)
    return Watch(work, PacsOptions(folder, **({"quiet_seconds": 100.0} | options)), clock.sleep)


def status(folder: Path, study: str) -> tuple[str, str]:
    record = Ledger(folder).read(study)
    return record.status, record.reason


def test_a_study_is_worked_on_when_it_has_been_quiet(tmp_path: Path, clock: Clock) -> None:
    archive = EmptyArchive(_1=10)
    one = watch(archive, tmp_path, clock)
    for images in (10, 20, 20):
        archive.images["1.2.1"] = images
        assert one.look() == []
        assert archive.fetched == []
        clock.sleep(60)
    assert one.look() == []
    assert archive.fetched == ["1.2.1"]
    assert status(tmp_path, "1.2.1") == ("skipped", NOTHING_ARRIVED)
    clock.sleep(1e6)
    one.look()
    # Another process, and the same state.
    watch(archive, tmp_path, clock).look()
    assert archive.fetched == ["1.2.1"]


def test_images_that_come_after_a_study_was_left_out_are_looked_at_however_many(tmp_path: Path, clock: Clock) -> None:
    """As where a series of another kind came first, and the wanted one has as many images."""
    archive = EmptyArchive(_1=5)
    archive.held = True
    one = watch(archive, tmp_path, clock, quiet_seconds=0.0)
    one.look()
    assert status(tmp_path, "1.2.1")[0] == "skipped"
    assert archive.images["1.2.1"] == 0
    one.look()
    assert archive.fetched == ["1.2.1"]
    archive.images["1.2.1"] = 5
    one.look()
    assert archive.fetched == ["1.2.1", "1.2.1"]


def test_images_that_come_while_a_study_is_left_out_stay(tmp_path: Path, clock: Clock) -> None:
    archive = EmptyArchive(_1=5)
    archive.held = True
    fetch = archive.fetch

    def growing(study: str, folder: Path) -> None:
        fetch(study, folder)
        archive.images[study] = 8

    archive.fetch = growing
    one = watch(archive, tmp_path, clock, quiet_seconds=0.0)
    one.look()
    assert archive.images["1.2.1"] == 8
    one.look()
    assert archive.fetched == ["1.2.1", "1.2.1"]


def test_studies_that_are_done_hide_no_others(tmp_path: Path, clock: Clock) -> None:
    archive = EmptyArchive(**{f"_{number}": 5 for number in range(1, 8)})
    for number in range(1, 5):
        Ledger(tmp_path).write(StudyRecord(f"1.2.{number}", "done", 5))
    one = watch(archive, tmp_path, clock, quiet_seconds=0.0, limits=Limits(studies=2))
    one.look()
    assert archive.fetched == ["1.2.5", "1.2.6"]


def test_an_answer_that_cannot_be_understood_ends_no_watch(tmp_path: Path, clock: Clock, caplog) -> None:
    archive = EmptyArchive(_1=5)

    def odd() -> Iterable[str]:
        raise MMCCDError("The archive's answer can't be understood.")

    archive.studies = odd
    assert watch(archive, tmp_path, clock).look() == []
    assert "It is asked again" in caplog.text
    with pytest.raises(MMCCDError, match="can't be understood"):
        watch(archive, tmp_path, clock, once=True).look()


def test_one_look_waits_for_quiet(tmp_path: Path, clock: Clock) -> None:
    archive = EmptyArchive(_1=10, _2=5)
    begun = clock.now
    assert watch(archive, tmp_path, clock, once=True).run() == []
    assert archive.fetched == ["1.2.1", "1.2.2"]
    assert clock.now == begun + 100


def test_a_damaged_record_costs_its_study_alone(tmp_path: Path, clock: Clock) -> None:
    archive = EmptyArchive(_1=10, _2=5)
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "1.2.1.json").write_text('{"study": "../1", "status": "done"}')
    failed = watch(archive, tmp_path, clock, quiet_seconds=0.0).look()
    assert len(failed) == 1
    assert "1.2.1.json" in failed[0]
    assert "remove it so that the study is worked on again" in failed[0]
    assert archive.fetched == ["1.2.2"]


def test_a_study_that_is_too_large_fails_once(tmp_path: Path, clock: Clock) -> None:
    archive = EmptyArchive(_1=10, _2=5)
    archive.broken["1.2.1"] = MMCCDError("It is too large.")
    one = watch(archive, tmp_path, clock, quiet_seconds=0.0)
    assert one.look() == ["study 1.2.1: It is too large."]
    assert one.look() == []
    assert archive.fetched == ["1.2.2"]
    assert status(tmp_path, "1.2.1") == ("failed", "It is too large.")


def test_what_is_unreachable_is_tried_again_later_and_at_last_left(tmp_path: Path, clock: Clock) -> None:
    archive = EmptyArchive(_1=10)
    archive.broken["1.2.1"] = Unreachable("It is away.")
    one = watch(archive, tmp_path, clock, quiet_seconds=0.0)
    begun, times = clock.now, []
    for _ in range(20_000):
        before = len(archive.fetched)
        one.look()
        if len(archive.fetched) > before:
            times.append(clock.now - begun)
        if status(tmp_path, "1.2.1")[0] == "failed":
            break
        clock.sleep(10)
    assert times == [0, 60, 180, 420, 900, 1860, 3780, 7380]
    assert len(times) == MOST_ATTEMPTS
    assert status(tmp_path, "1.2.1") == ("failed", "It is away.")
    del archive.broken["1.2.1"]
    assert one.look() == []
    assert len(archive.fetched) == MOST_ATTEMPTS
    again = watch(archive, tmp_path, clock, quiet_seconds=0.0, retry_failed=True)
    again.look()
    again.look()
    assert len(archive.fetched) == MOST_ATTEMPTS + 1
    assert status(tmp_path, "1.2.1")[0] == "skipped"


def test_an_unexpected_error_costs_its_study_alone(tmp_path: Path, clock: Clock) -> None:
    archive = EmptyArchive(_1=10, _2=5, _3=1)
    archive.broken = {"1.2.2": MemoryError()}
    one = watch(archive, tmp_path, clock, quiet_seconds=0.0)
    archive.count = lambda study: archive.images[study]
    (failed,) = one.look()
    assert failed == "study 1.2.2: the study needs more memory than there is: free some, or leave this case out."
    assert archive.fetched == ["1.2.1", "1.2.2", "1.2.3"]


def test_a_study_that_kills_the_process_is_left_at_last(tmp_path: Path, clock: Clock) -> None:
    archive = EmptyArchive(_1=10)
    Ledger(tmp_path).write(StudyRecord("1.2.1", "working", 10, attempts=MOST_ATTEMPTS))
    assert watch(archive, tmp_path, clock).look() == [f"study 1.2.1: {KILLED}"]
    assert archive.fetched == []


def test_an_archive_that_is_away_is_asked_again(tmp_path: Path, clock: Clock, caplog) -> None:
    archive = EmptyArchive(_1=10)
    archive.away = True
    one = watch(archive, tmp_path, clock, quiet_seconds=0.0)
    assert one.look() == []
    assert "The archive is away. It is asked again in 60 s." in caplog.text
    with pytest.raises(Unreachable):
        watch(archive, tmp_path, clock, once=True).look()
    archive.away = False
    one.look()
    assert archive.fetched == ["1.2.1"]


def test_records_are_complete_or_absent_and_hold_checked_numbers(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    record = StudyRecord("1.2.3", "done", 4, objects=("1.2.3.4",))
    ledger.write(record)
    assert replace(ledger.read("1.2.3"), updated="") == record
    assert [path.name for path in (tmp_path / "studies").iterdir()] == ["1.2.3.json"]
    assert list(ledger.studies()) == ["1.2.3"]
    for odd in ("../1.2", "1.2/3", "", "1", ".1.2", "1.2.", "1." + "2" * 64):
        with pytest.raises(MMCCDError, match="study's UID is missing or malformed"):
            ledger.read(odd)
        with pytest.raises(MMCCDError, match="study's UID is missing or malformed"):
            ledger.work_folder(odd)
