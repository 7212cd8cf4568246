"""What a study would do, without doing it."""

from collections.abc import Sequence
from pathlib import Path

from convtl.storage.cache import Cache
from convtl.study.grid import Trial, distinct
from convtl.study.group import trial_flops, trial_recipe
from convtl.study.materials import Materials
from convtl.study.runner import check_trials, unfinished
from convtl.study.store import RowStore
from convtl.training.devices import chosen
from convtl.training.pretrain import KIND, SourceRequest
from convtl.training.recipe import Recipe

_ASSUMED_FLOPS = 3e10
"""A second, where no row of this folder tells: LeNet-5 on 2 cores ran at 2 to 5e10 (batch 32, 8 lanes)."""


def describe_plan(trials: Sequence[Trial], out: Path, cache: Cache) -> str:
    """Trials, programs, arithmetic, what is done or cached, expected time; one line each."""
    store = RowStore(out)
    trials = distinct(trials)
    missing = unfinished(trials, store)
    materials = Materials(cache, lambda line: None)
    check_trials(missing, materials)
    recipes: dict[Recipe, list[Trial]] = {}
    for trial in missing:
        recipes.setdefault(trial_recipe(materials, trial), []).append(trial)
    for recipe in recipes:
        chosen().check(recipe.batch_size)
    per_update = {id(group): trial_flops(group[0], recipe) for recipe, group in recipes.items()}
    flops = sum(
        per_update[id(group)] * t.updates * len(t.settings.lr)
        for group in recipes.values()
        for t in group
    )
    requests = {
        request.key: request for trial in missing for request in materials.sources.requests(trial)
    }
    nets = [name for name, request in requests.items() if isinstance(request, SourceRequest)]
    cached = sum(cache.path(KIND, name).exists() for name in nets)
    rows = [
        row for row in store.read().values() if row.get("seconds") and row.get("flops_per_update")
    ]
    speed, origin = _ASSUMED_FLOPS, "assumed"
    if rows:
        work = sum(row["flops_per_update"] * row["updates"] * row["n_rates"] for row in rows)
        speed, origin = work / sum(row["seconds"] for row in rows), "measured in this folder's rows"
    return "\n".join(
        [
            f"{len(trials)} trials: {len(trials) - len(missing)} done, {len(missing)} to run, in {out}",
            f"{len(recipes)} compiled programs, {sum(len(t.settings.lr) for t in missing)} training runs at least",
            f"{len(nets)} source nets: {cached} cached, {len(nets) - cached} to train",
            f"{flops:.3g} floating-point operations in training, at least",
            f"about {flops / speed / 60:.1f} min at {speed:.2g} a second ({origin}), pretraining not counted",
        ]
    )
