"""The ages that a source gives, kept in dataset.json."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from mmccd_auto.core.files import save_json
from mmccd_auto.core.wording import counted
from mmccd_auto.datasets.ages import AGES_KEY
from mmccd_auto.datasets.dataset import DATASET_FILE, load_dataset

SHOWN = 5


def keep_ages(dataset: Path, ages: Mapping[str, float], imported: Collection[str]) -> list[str]:
    """Write the ages of imported cases into dataset.json; what it says already stays, and cases that are gone lose theirs.

    Parameters
    ----------
    dataset : folder
    ages : years by case, as the source gives them
    imported : cases of this import

    Returns
    -------
    a sentence where dataset.json says otherwise than the source
    """
    there = load_dataset(dataset)
    cases = {*there.cases("Tr"), *there.cases("Ts")}
    before = {case: age for case, age in there.ages.items() if case in cases}
    told = {case: ages[case] for case in imported if case in ages}
    kept = dict(sorted((told | before).items()))
    if kept != there.ages:
        save_json({**there.content, AGES_KEY: kept}, dataset / DATASET_FILE)
    differing = sorted(case for case, age in told.items() if before.get(case, age) != age)
    if not differing:
        return []
    shown = ", ".join(differing[:SHOWN]) + (", ..." if len(differing) > SHOWN else "")
    return [
        f"{DATASET_FILE} and the source differ in {counted(len(differing), 'age')} ({shown}): it keeps its own; remove "
        f"them from its {AGES_KEY} to take the source's."
    ]
