"""The stages of a whole job: which are finished, with which inputs, and what they decided (run.json)."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import save_json
from mmccd_auto.core.records import read_record
from mmccd_auto.core.wording import in_words

RUN_FILE = "run.json"
FAILED = "failed"
"""Setting of a stage: a sentence for each case that could not be used."""

SAMPLE_BYTES = 4096
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StageRecord:
    """What is known of a stage.

    Attributes
    ----------
    key : SHA-256 of its inputs and options, and of those of the stages before it
    done : it is finished
    decided : what it decided or made, in words
    seconds : that it took, over all runs that worked on it
    settings : that a repetition must use again
    """

    key: str
    done: bool = False
    decided: str = ""
    seconds: float = 0.0
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Content:
    stages: dict[str, StageRecord]


class Stages:
    """The stages of the job in one folder.

    Parameters
    ----------
    output : folder of run.json
    overwrite : a stage whose inputs or options have changed is done again, and so are those after it
    """

    def __init__(self, output: Path, overwrite: bool) -> None:
        self.path, self.overwrite = output / RUN_FILE, overwrite
        self.records = dict(read_record(_Content, self.path).stages) if self.path.is_file() else {}
        self.used: list[str] = []
        self._key = ""

    def run(
        self,
        name: str,
        inputs: Mapping[str, Any],
        work: Callable[[dict[str, Any]], str],
        clear: Callable[[], None] | None = None,
    ) -> StageRecord:
        """Do a stage, or skip it where it is finished.

        A stage that could not use all of its cases is continued by the next run, which may have more memory or disk space.

        Parameters
        ----------
        name : of the stage, as people read it
        inputs : by option or input what the stage depends on beside the stages before it, as JSON
        work : does the stage, or continues it, and gives in words what was decided; it gets the stage's settings and may
            add to them
        clear : removes what an earlier run with other inputs has left

        Raises
        ------
        MMCCDError
            If it was begun with other inputs or options, and overwriting isn't asked for.
        """
        self._key = key = _digest([self._key, name, inputs])
        earlier = self.records.get(name)
        if earlier is not None and earlier.key != key:
            self._refuse_change(name)
            if clear is not None:
                clear()
            earlier = None
        self.used.append(name)
        if earlier is not None and earlier.done:
            logger.info("%s: finished before (%s)", name, earlier.decided)
            return earlier
        logger.info("%s ...", name)
        settings = {} if earlier is None else dict(earlier.settings)
        before = 0.0 if earlier is None else earlier.seconds
        started = time.monotonic()

        def record(done: bool, decided: str = "") -> StageRecord:
            made = StageRecord(key, done, decided, round(before + time.monotonic() - started, 1), settings)
            self.records[name] = made
            save_json(asdict(_Content(self.records)), self.path)
            return made

        record(done=False)
        try:
            decided = work(settings)
        except BaseException:
            record(done=False)
            raise
        return record(done=not settings.get(FAILED), decided=decided)

    def table(self) -> str:
        """Give a line for each stage of this run: how long it took and what was decided."""
        width = max(map(len, self.used))
        rows = [(name, self.records[name]) for name in self.used]
        return "\n".join(f"{name:<{width}}  {in_words(one.seconds):>11}  {one.decided}" for name, one in rows)

    def _refuse_change(self, name: str) -> None:
        if not self.overwrite:
            raise MMCCDError(
                f"{self.path.parent} holds a job whose stage '{name}' was begun with other inputs or options: give them as "
                "before to continue, give another output folder, or do this stage and those after it again with --overwrite."
            )


def content_key(source: Path) -> str:
    """Compute the SHA-256 of a file or folder from names, sizes, and the beginning and end of each file.

    Raises
    ------
    OSError
        If a file can't be read.
    """
    files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    sums = []
    for file in files:
        relative = file.name if file == source else file.relative_to(source).as_posix()
        if any(part.startswith(".mmccd") for part in Path(relative).parts):
            continue
        size = file.stat().st_size
        with file.open("rb") as stream:
            sample = stream.read(SAMPLE_BYTES)
            stream.seek(max(0, size - SAMPLE_BYTES))
            sample += stream.read(SAMPLE_BYTES)
        sums.append([relative, size, hashlib.sha256(sample).hexdigest()])
    return _digest(sums)


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=True).encode()).hexdigest()
