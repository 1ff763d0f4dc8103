"""Steps and strips of a trained fold in successive elimination: the losers aren't tried to the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmccd_auto.core.progress import Progress
from mmccd_auto.core.wording import in_words as duration
from mmccd_auto.inference.choice.compare import SEEDS, Tried, candidate_settings, in_words, mean_over_seeds, try_scores
from mmccd_auto.inference.choice.elimination import Elimination, Found, eliminate
from mmccd_auto.inference.choice.trial import SyntheticTrial
from mmccd_auto.inference.maps.settings import InferenceSettings
from mmccd_auto.plans.plan import ScorePlan
from mmccd_auto.trained.model_folder import ModelFolder

Rung = tuple[int, int, int]


@dataclass(frozen=True)
class Race:
    """What was tried, and what for.

    Attributes
    ----------
    tried : a line for the published score and one for the planned score of each steps and strips, in the order of their cost
    chosen : of these
    given_up : by steps, stride and strips at once, why they weren't tried on all seeds
    tries, all_tries : how often steps and strips were tried on a seed, and how often they would have been without giving up
    seconds, all_seconds : what that took, and about what all of it would have taken
    """

    tried: tuple[Tried, ...]
    chosen: Tried
    given_up: dict[Rung, str]
    tries: int
    all_tries: int
    seconds: float
    all_seconds: float

    def describe_time(self) -> str:
        """Say how long it took, and what was saved."""
        if self.tries == self.all_tries:
            return f"{self.tries} tries in {duration(self.seconds)}"
        return (
            f"{self.tries} of {self.all_tries} tries in {duration(self.seconds)}; all of them would have taken about "
            f"{duration(self.all_seconds)}"
        )


def race_steps(model: ModelFolder, trial: SyntheticTrial, score: ScorePlan, seeds: int = SEEDS) -> Race:
    """Try steps and strips of a trained fold on its healthy held-out slices, seed by seed.

    Those that would hardly be worth their price are given up; see :mod:`mmccd_auto.inference.choice.elimination`.

    Parameters
    ----------
    model : trained
    trial : fold and slices
    score : by which they are compared
    seeds : of the noise and of the anomalies, at most
    """
    loaded = trial.load(model)
    candidates = candidate_settings(model, loaded)
    lines: dict[int, list[list[Tried]]] = {}
    with Progress(len(candidates) * seeds, f"{model.path.name}: steps and strips", "try") as progress:

        def try_one(candidate: int, draw: int) -> Found:
            settings = candidates[candidate]
            progress.show({"now": in_words(settings)})
            found = try_scores(model, loaded, trial, settings, draw, [score])
            lines.setdefault(candidate, []).append(found)
            progress.update()
            return found[1].found

        race = eliminate(try_one, len(candidates), seeds, _predecessors(candidates))
    whole = {number: [mean_over_seeds(of_score) for of_score in zip(*of, strict=True)] for number, of in lines.items()}
    given_up = {
        (one.sampling.steps, one.strip_stride, one.strips_per_pass): race.given_up[number]
        for number, one in enumerate(candidates)
        if number in race.given_up and len(lines.get(number, [])) < seeds
    }
    return Race(
        tuple(line for number in sorted(whole) for line in whole[number]),
        whole[race.chosen][1],
        given_up,
        sum(len(of) for of in lines.values()),
        len(candidates) * seeds,
        sum(pair[1].seconds for pair in whole.values()),
        _seconds_of_all(candidates, race, whole, seeds),
    )


def relative_cost(settings: InferenceSettings) -> float:
    """Compute the network evaluations of a slice, but for a factor that all settings of a model share."""
    return (settings.sampling.steps + 1) / settings.strip_stride / max(settings.strips_per_pass, 1)


def _predecessors(candidates: Sequence[InferenceSettings]) -> list[int | None]:
    """Let each of those with several steps come after the one before: where some more don't pay, still more don't."""
    several = [number for number, one in enumerate(candidates) if one.sampling.steps > 1]
    before = dict(zip(several[1:], several, strict=False))
    return [before.get(number) for number in range(len(candidates))]


def _seconds_of_all(
    candidates: Sequence[InferenceSettings], race: Elimination, whole: dict[int, list[Tried]], seeds: int
) -> float:
    """Estimate what trying everything on all seeds would take: as long as it took, and else in proportion to the cost."""
    each = {number: lines[1].seconds / race.found[number].count for number, lines in whole.items()}
    dearest = max(whole, key=lambda number: relative_cost(candidates[number]))
    rate = each[dearest] / relative_cost(candidates[dearest])
    return seeds * sum(each.get(number, rate * relative_cost(one)) for number, one in enumerate(candidates))
