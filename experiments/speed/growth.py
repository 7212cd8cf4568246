"""What ten times the trials of one kind take: time, programs, memory."""

from functools import partial
from itertools import count
from statistics import median

from compilations import Compilations
from context import Context
from result import Result
from timing import interleaved, ratio
from whole_study import Silent

from convtl.config.parsing import parse
from convtl.study.grid import expand
from convtl.study.materials import Materials
from convtl.study.runner import run_trials
from convtl.study.store import RowStore
from convtl.training.devices import device_count, peak_memory_gib

_KIND = {
    "source": ["scratch"],
    "depth": [5],
    "n_per_class": [10],
    "lr": [1e-3],
    "lr_extend": 0,
    "claims": [],
}


def growth(context: Context) -> list[Result]:
    """A batch of trials that train everything from scratch, and ten times as many with other draws."""
    batch = context.settings.lanes * device_count()
    content = context.content | _KIND | {"updates": context.speed.updates}
    few, many = (expand(parse(content | {"replicates": times * batch}))[1] for times in (1, 10))
    materials, fresh = Materials(context.cache, lambda what: None), count()

    def run(trials: list) -> None:
        store = RowStore(context.scratch / f"growth{next(fresh)}")
        store.prepare()
        run_trials(trials, store, materials, Silent())

    run(few)  # what is compiled once a process is now there
    with Compilations() as by_few:
        run(few)
    before = peak_memory_gib()
    with Compilations() as by_many:
        run(many)
    grown = peak_memory_gib() - before
    programs = f"{by_many.number} programs for {len(many)} trials, {by_few.number} for {len(few)}"
    taken = interleaved(
        {"few": partial(run, few), "many": partial(run, many)}, max(1, context.speed.repeats // 3)
    )
    return [
        Result(
            "growth",
            "The default study's trials with all layers trained: ten times the trials, seconds",
            ours=f"{median(taken['many']):.1f} s for {len(many)} trials",
            theirs=f"{median(taken['few']):.1f} s for {len(few)}",
            ratio=ratio(taken, "few", "many"),
            goal=len(many) / len(few),
            sense="at most",
            wrong=f"compiled: {programs}" if by_many.number != by_few.number else None,
            limit=f"{programs}; the most memory that the process ever took grew by {1024 * grown:.0f} MiB: data of "
            "other draws",
        )
    ]
