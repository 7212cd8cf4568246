"""Runs what is missing of the probes: gradient profiles (C1), convergence and freezing (C2)."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from convtl.config.schema import RESULTS_VERSION, Config
from convtl.data.domains import Domain, load_domain
from convtl.errors import UserError, unknown_name
from convtl.storage.cache import Cache
from convtl.training.probes.bench import draw_materials
from convtl.training.probes.jobs import Job, planned
from convtl.training.probes.limits import within_limits
from convtl.training.probes.tables import Parts, rows_of

VERSION = 1
"""Raised whenever code changes the numbers of a probe."""

Say = Callable[[str], None]


def run_gradients(settings: Config, out: Path, cache: Cache, say: Say) -> None:
    """Runs every probe of `settings.gradients` that `out` does not have, and writes out/gradients.csv.

    Images are those of the study's (first) target, `classes` letters a replicate. A killed run goes on at the
    configuration at which it stopped.

    Args:
      say: takes a line before each configuration is run.

    Raises:
      UserError: no probes are asked for, the target has too few images, or `out` cannot be
        written to.
    """
    if settings.gradients is None:
        raise UserError(
            "gradients: got null; accepted: keys of the probes, such as {replicates: 12}"
        )
    config, parts, domain = within_limits(settings), Parts(out), _domain(settings, cache, say)
    counts = (config.images_per_class, config.probe_per_class, config.test_per_class)
    jobs = list(planned(config))
    contents = [_content(job, settings, domain) for job in jobs]
    missing = [
        (number, job, content)
        for number, (job, content) in enumerate(zip(jobs, contents, strict=True), start=1)
        if not parts.expect(job.probe, content)
    ]
    if missing:
        materials = draw_materials(
            domain,
            seed=settings.seed,
            replicates=config.replicates,
            classes=settings.classes,
            counts=counts,
        )
        for number, job, content in missing:
            say(f"probe {number} of {len(jobs)}: {job.words}")
            parts.write(job.probe, content, rows_of(job.setting, job.measure(materials)))
    parts.write_table()


def missing_probes(settings: Config, out: Path, cache: Cache, say: Say) -> tuple[int, int]:
    """How many configurations of the probes `out` does not have, and how many there are; trains nothing.

    Raises:
      UserError: the target is not known.
    """
    parts, domain, jobs = (
        Parts(out),
        _domain(settings, cache, say),
        list(planned(within_limits(settings))),
    )
    there = [parts.expect(job.probe, _content(job, settings, domain)) for job in jobs]
    return there.count(False), len(jobs)


def _domain(settings: Config, cache: Cache, say: Say) -> Domain:
    """The letters that the nets are trained on."""
    name = settings.target[0]
    if name not in settings.domains:
        raise unknown_name("target", name, settings.domains)
    return load_domain(name, settings.domains[name], cache.root, say)


def _content(job: Job, settings: Config, domain: Domain) -> Mapping[str, Any]:
    """All that the numbers of one configuration depend on."""
    config = within_limits(settings)
    return {
        "version": VERSION,
        "protocol": RESULTS_VERSION,
        "domain": domain.digest,
        "seed": settings.seed,
        "classes": settings.classes,
        "counts": [config.images_per_class, config.probe_per_class, config.test_per_class],
        "replicates": config.replicates,
        "setting": job.setting,
        "recipe": job.recipe,
    }
