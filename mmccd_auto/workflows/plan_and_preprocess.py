"""Planning and preprocessing of raw datasets: fingerprint -> plans -> slices."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mmccd_auto.core.disk.parts import Part, part_lock
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import save_json
from mmccd_auto.core.names import check_path_name
from mmccd_auto.core.processes.executor import Outcome, Workers
from mmccd_auto.core.processes.memory import keep_large_blocks
from mmccd_auto.core.wording import counted
from mmccd_auto.datasets.dataset import DATASET_FILE, Dataset, find_dataset, list_datasets, load_dataset
from mmccd_auto.datasets.folders import Folders
from mmccd_auto.datasets.health import describe_health
from mmccd_auto.datasets.integrity import verify_dataset
from mmccd_auto.datasets.subjects import describe_people
from mmccd_auto.model.speed import device_memory_gb, measure_device_speed
from mmccd_auto.plans.budget.planner import MMCCDPlannerForBudget
from mmccd_auto.plans.budget.report import tell_alternative, tell_budget
from mmccd_auto.plans.budget.rungs import MachineSpeed, usual_machine
from mmccd_auto.plans.cost import usual_device_speed
from mmccd_auto.plans.fingerprint import FINGERPRINT_FILE, DatasetFingerprint, fingerprint_dataset, measure_cases
from mmccd_auto.plans.options import PlannerOptions
from mmccd_auto.plans.plan import PLANS_FILE, Plan
from mmccd_auto.plans.planner import MMCCDPlanner
from mmccd_auto.plans.planners import find_planner
from mmccd_auto.plans.report import advise_on_training, describe_plan
from mmccd_auto.plans.rules import DEFAULT_PLANS
from mmccd_auto.plans.splits import SPLITS_FILE, write_or_load_splits
from mmccd_auto.preprocessing.preprocess_dataset import preprocess_dataset
from mmccd_auto.preprocessing.subject_numbers import load_subject_numbers
from mmccd_auto.training.budget.speed import measure_machine

PLANS_AND_SLICES = "plans and slices"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlanningOptions:
    """What a user may ask of the planner; see the command's help for each."""

    planner: str | None = None
    resolution: str | None = None
    memory_budget_gb: float | None = None
    target_spacing: float | None = None
    plans_name: str | None = None
    time_budget_minutes: float = 10.0
    extensions: tuple[str, ...] = ()
    training_hours: float | None = None


@dataclass(frozen=True)
class PreparationOptions:
    """What is done besides the plan.

    Attributes
    ----------
    verify : check every file first
    preprocess : write slices, too
    overwrite : redo the fingerprint, the plan and the slices; else what exists is kept and obeyed
    """

    verify: bool = False
    preprocess: bool = True
    overwrite: bool = False


PLAN_AND_SLICES = PreparationOptions()


def plan_and_preprocess(
    folders: Folders,
    datasets: Sequence[int | str] | None,
    planning: PlanningOptions,
    device: torch.device,
    processes: Workers,
    preparing: PreparationOptions = PLAN_AND_SLICES,
    part: Part | None = None,
) -> list[str]:
    """Fingerprint, plan and preprocess datasets.

    Parameters
    ----------
    folders : raw and preprocessed are used
    datasets : numbers or names; None takes every dataset of the raw folder
    planning : the user's wishes
    device : that will train and predict; the plan fits a usual device of its kind and its memory
    processes : workers; 0 works in this process; or a cluster
    preparing : what is done besides the plan
    part : of the cases: of these alone the measures are written, or (``preparing.preprocess``) the slices by the plan that
        is there

    Returns
    -------
    one sentence for each case that could not be used; empty when all went well

    Raises
    ------
    MMCCDError
        If a dataset can't be found, its check finds a problem, or it can't be planned; or if a part is to be preprocessed
        and there is no plan yet.
    """
    if preparing.verify and part is not None:
        raise MMCCDError("--verify_dataset_integrity looks at the whole dataset: leave --part out, or run it once before.")
    found = (
        list_datasets(folders.raw)
        if datasets is None
        else [find_dataset(folders.raw, identifier) for identifier in datasets]
    )
    if not found:
        raise MMCCDError(f"{folders.raw} holds no dataset: put a folder DatasetXXX_Name there.")
    failed: list[str] = []
    for folder in found:
        dataset = load_dataset(folder)
        if part is not None:
            failed += _do_part(folders, dataset, planning.plans_name, processes, preparing, part)
            continue
        if preparing.verify:
            _verify(dataset, processes)
        with part_lock(folders.preprocessed / dataset.name, None, PLANS_AND_SLICES):
            plan, unusable = make_plan(folders, dataset, planning, device, processes, preparing.overwrite)
            failed += unusable
            _tell(plan, device)
            if preparing.preprocess:
                output = folders.preprocessed / dataset.name / plan.plans_name
                outcomes = preprocess_dataset(dataset, plan, output, processes, preparing.overwrite)
                failed += [f"{dataset.name}: {outcome.error}" for outcome in outcomes if outcome.error is not None]
            _check_still_there(folders.preprocessed / dataset.name, plan.plans_name)
    return list(dict.fromkeys(failed))


def _do_part(
    folders: Folders,
    dataset: Dataset,
    plans_name: str | None,
    processes: Workers,
    preparing: PreparationOptions,
    part: Part,
) -> list[str]:
    """Measure the cases of a part, or preprocess them by the plan that all parts share; nothing else is written."""
    home = folders.preprocessed / dataset.name
    # Before the lock, which would make the folder.
    plan = _plan_of_parts(home, plans_name) if preparing.preprocess else None
    with part_lock(home, part, PLANS_AND_SLICES):
        outcomes: Sequence[Outcome[Any]]
        if plan is None:
            outcomes = measure_cases(dataset, home / FINGERPRINT_FILE, processes, preparing.overwrite, part)
        else:
            outcomes = preprocess_dataset(dataset, plan, home / plan.plans_name, processes, preparing.overwrite, part)
            _check_still_there(home, plan.plans_name)
    done = sum(outcome.error is None for outcome in outcomes)
    logger.info("part %s of %s: %s %s", part, dataset.name, counted(done, "case"), "preprocessed" if plan else "measured")
    return [f"{dataset.name}: {outcome.error}" for outcome in outcomes if outcome.error is not None]


def _plan_of_parts(home: Path, name: str | None) -> Plan:
    """Find the plan that is there already: the one that is named, the default one, or the only one."""
    there = sorted(path.parent.name for path in home.glob(f"*/{PLANS_FILE}"))
    wanted = name or (DEFAULT_PLANS if DEFAULT_PLANS in there else there[0] if len(there) == 1 else None)
    if wanted is None and there:
        raise MMCCDError(f"{home} holds several plans ({', '.join(there)}): name one by -overwrite_plans_name.")
    if wanted not in there:
        raise MMCCDError(
            f"{home} holds no plan {wanted or DEFAULT_PLANS} yet, by which parts could be preprocessed: run "
            "mmccd_plan_and_preprocess --no_pp once, without --part."
        )
    return Plan.load(home / str(wanted) / PLANS_FILE)


def make_plan(
    folders: Folders,
    dataset: Dataset,
    planning: PlanningOptions,
    device: torch.device,
    processes: Workers,
    overwrite: bool = False,
) -> tuple[Plan, list[str]]:
    """Fingerprint a dataset and plan for it; an existing plans.json is kept unless ``overwrite``.

    Returns
    -------
    the plan, and one sentence for each case that could not be measured
    """
    if planning.plans_name is not None:
        check_path_name("plans", planning.plans_name, "-overwrite_plans_name")
    home = folders.preprocessed / dataset.name
    kinds = {case: dataset.health(case) for case in dataset.cases("Tr")}
    if kinds:
        logger.info("%s: %s.", dataset.name, describe_health(kinds, dataset.stated_health is not None))
    fingerprint = fingerprint_dataset(dataset, home / FINGERPRINT_FILE, processes, overwrite)
    failed = [f"{dataset.name}: {error}" for error in fingerprint.failed.values()]
    known = None if overwrite else _known_machine(home / (planning.plans_name or DEFAULT_PLANS) / PLANS_FILE, device)
    planner = _planner(planning, fingerprint, dataset, device, known)
    plan = planner.plan()
    if planning.plans_name is not None:
        plan = replace(plan, plans_name=planning.plans_name)
    check_path_name("plans", plan.plans_name, f"the plans of {plan.planner}")
    path = home / plan.plans_name / PLANS_FILE
    if path.is_file() and not overwrite:
        plan = _obeyed(path, plan)
    else:
        plan.save(path)
    if isinstance(planner, MMCCDPlannerForBudget) and plan.budget is not None:
        logger.info("%s", tell_budget(plan))
        if device.type == "cpu":
            logger.info("%s", tell_alternative(planner.for_machine(usual_machine("cuda")).plan()))
    save_json(dataset.content, home / DATASET_FILE)
    write_or_load_splits(home / SPLITS_FILE, _subjects(dataset))
    load_subject_numbers(home, _subjects(dataset))
    return plan, failed


def _planner(
    planning: PlanningOptions,
    fingerprint: DatasetFingerprint,
    dataset: Dataset,
    device: torch.device,
    known: MachineSpeed | None,
) -> MMCCDPlanner:
    """Return the planner that is meant: the one for a budget, unless a planner or a resolution is named without a budget."""
    about = (fingerprint, dataset.name, dataset.modalities)
    options = PlannerOptions(
        memory_budget_gb=planning.memory_budget_gb or device_memory_gb(device),
        resolution=planning.resolution or "standard",
        target_spacing=planning.target_spacing,
        time_budget_minutes=planning.time_budget_minutes,
    )
    named = planning.planner is not None
    if named and planning.training_hours is not None:
        raise MMCCDError(f"--training_hours is not for {planning.planner}: leave -pl out to plan for a training budget.")
    if not named and (planning.resolution is None or planning.training_hours is not None):
        machine = known or _measured(device)
        return MMCCDPlannerForBudget(*about, machine, planning.training_hours, planning.resolution, options)
    planner = find_planner(planning.planner or "MMCCDPlanner", [Path(folder) for folder in planning.extensions])
    speed = partial(usual_device_speed, device=device)
    return planner(*about, speed, options)


def _known_machine(path: Path, device: torch.device) -> MachineSpeed | None:
    """Return the speed in the plan that is there already and will be obeyed.

    So that a second timing doesn't differ from it.
    """
    if not path.is_file():
        return None
    budget = Plan.load(path).budget
    if budget is None or budget.device_kind != device.type:
        return None
    return MachineSpeed(budget.device, budget.device_kind, budget.seconds_per_slice)


def _measured(device: torch.device) -> MachineSpeed:
    """Time this machine, with a line on the screen."""
    if device.type == "cpu":
        # As it will be at training and prediction.
        keep_large_blocks()
    logger.info("timing %s, for about ten seconds ...", device)
    return measure_machine(device)


def _check_still_there(home: Path, plans_name: str) -> None:
    """Raise :class:`MMCCDError` where what training needs beside the slices was removed while this ran."""
    for path in (home / plans_name / PLANS_FILE, home / SPLITS_FILE, home / DATASET_FILE, home / FINGERPRINT_FILE):
        if not path.is_file():
            raise MMCCDError(f"{path} was removed while this ran: run the same command again.")


def _tell(plan: Plan, device: torch.device) -> None:
    """Say what the plan is, and what it costs on this device: timed now, which the plan itself must not depend on."""
    if device.type == "cpu":
        # As it will be at training and prediction.
        keep_large_blocks()
    if plan.budget is not None:
        logger.info("%s", describe_plan(plan))
        return
    speed = measure_device_speed(plan.network, plan.patch_size, device)
    logger.info("%s", describe_plan(plan, speed))
    advice = advise_on_training(plan, speed, device.type == "cpu")
    if advice:
        logger.warning("%s", advice)


def _verify(dataset: Dataset, processes: Workers) -> None:
    problems = verify_dataset(dataset, processes)
    if problems:
        listed = "\n".join(f"- {problem}" for problem in problems)
        raise MMCCDError(f"{dataset.name} has {counted(len(problems), 'problem')}:\n{listed}")
    logger.info("%s: every file is as it should be.", dataset.name)


def _obeyed(path: Path, planned: Plan) -> Plan:
    """Return the plan that is there already, with a word on what would be planned otherwise now."""
    plan = Plan.load(path)
    if plan.plans_name != path.parent.name:
        raise MMCCDError(f"{path}: plans_name is {plan.plans_name}: give {path.parent.name}, the name of its folder.")
    left_out = {"cost", "why", "dataset_name", "plans_name", "budget"}
    differing = [
        entry.name
        for entry in fields(Plan)
        if entry.name not in left_out and getattr(plan, entry.name) != getattr(planned, entry.name)
    ]
    note = f"; would now be planned otherwise: {', '.join(differing)}" if differing else ""
    logger.info("%s is there and is obeyed (--overwrite plans again)%s", path, note)
    return plan


def _subjects(dataset: Dataset) -> dict[str, str]:
    """Return the person of each training case; logged where they were taken from the names of the cases."""
    subjects = {case: dataset.subject(case) for case in dataset.training_cases()}
    if any(case not in dataset.subjects and person != case for case, person in subjects.items()):
        logger.info("%s; name subjects in %s if this is wrong", describe_people(subjects), dataset.folder / DATASET_FILE)
    return subjects
