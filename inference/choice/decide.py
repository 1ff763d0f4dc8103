"""What stays and what changes: a choice that was made before gives way to one that finds more beyond chance, only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmccd_auto.inference.choice.compare import Tried, best_of
from mmccd_auto.inference.choice.elimination import compare
from mmccd_auto.inference.choice.ensembles import TriedEnsemble, best_members
from mmccd_auto.inference.choice.paired_difference import paired_difference
from mmccd_auto.plans.plan import ConfigurationPlan


def decide_choice(tried: Sequence[Tried], before: ConfigurationPlan | None) -> tuple[Tried, str]:
    """Decide on a model's steps, strips and score.

    Parameters
    ----------
    tried : lines of the model
    before : what was chosen before; None: nothing

    Returns
    -------
    the line that counts from now on, and why
    """
    best = best_of(tried)
    standing = None if before is None else next((one for one in tried if is_choice(one, before)), None)
    if standing is None:
        return best, "nothing was chosen before" if before is None else "what was chosen before can't be tried any more"
    if best == standing:
        return standing, "what was chosen before is the best"
    gain = compare(best.found, standing.found)
    if gain.is_gain:
        return best, f"better than what was chosen before by {gain.describe()}"
    return standing, f"what was chosen before stays: the best differs from it by {gain.describe()}, no more than chance"


def decide_models(
    single: Tried, ensembles: Sequence[TriedEnsemble], best: Mapping[str, Tried], before: Sequence[str] | None
) -> tuple[tuple[str, ...], str]:
    """Decide which model or ensemble predicts scans of a modality.

    Parameters
    ----------
    single : the best model
    ensembles : that were tried on the same anomalies
    best : by model, what was chosen for it
    before : what predicted before; None: nothing was chosen

    Returns
    -------
    the models, and why
    """
    members = best_members(single, ensembles)
    figures = {one.models: one.by_anomaly for one in ensembles} | {(name,): one.by_anomaly for name, one in best.items()}
    if len(members) > 1:
        gain = paired_difference(figures[members], single.by_anomaly)
        reason = f"the mean of {len(members)} models differs from {single.model} by {gain.describe()}"
        if not gain.is_gain:
            members, reason = (single.model,), f"{reason}, no more than chance: the single model is simpler"
    else:
        reason = "no ensemble is more than 1 % better" if ensembles else "it is the only one"
        reason = "it finds most" if len(best) > 1 and not ensembles else reason
    standing = None if before is None else tuple(before)
    if standing is None or set(standing) == set(members):
        return (standing or members), reason
    gain = paired_difference(figures[members], figures.get(standing, ()))
    if gain.is_gain:
        return members, f"better than what predicted before by {gain.describe()}"
    return (
        standing,
        f"it predicted before, and {' + '.join(members)} differs from it by {gain.describe()}, no more than chance",
    )


def is_choice(line: Tried, configuration: ConfigurationPlan) -> bool:
    """Check whether a line was tried by the steps, strips and score of a configuration."""
    return not line.published and (line.sampling_steps, line.strip_stride, line.strips_per_pass, line.score) == (
        configuration.sampling_steps,
        configuration.strip_stride,
        configuration.strips_per_pass,
        configuration.score,
    )
