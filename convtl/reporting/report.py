"""The report of a study: its numbers, and report.md, report.html and figures made of them."""

import base64
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import matplotlib.figure
import pandas as pd
from jinja2 import FileSystemLoader, StrictUndefined
from jinja2.sandbox import SandboxedEnvironment
from markdown_it import MarkdownIt
from markupsafe import Markup

from convtl.analysis.advice import Advice, advise
from convtl.analysis.claims import Replication, Verdict, claims_of, judge, mean_z2, replication
from convtl.analysis.conditions import Conditions
from convtl.analysis.frame import of_study, read_rows, write_results
from convtl.analysis.record import newest_record, without_paths
from convtl.config.parsing import parse
from convtl.config.schema import Config
from convtl.errors import UserError
from convtl.reporting import facts, tables
from convtl.reporting.figures.drawing import Figure, save
from convtl.reporting.figures.registry import FIGURES
from convtl.reporting.samples import Samples
from convtl.secrets import redacted
from convtl.storage.files import written
from convtl.study.grid import apply_limits
from convtl.study.nets import net_of
from convtl.study.rows import short
from convtl.study.store import accessible
from convtl.training.devices import peak_memory_gib
from convtl.training.probes import TABLE, read_gradients

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Report:
    """Everything that a report is made of.

    Attributes:
      record: of the invocation (command, versions, device), and how its rows were made.
      folder: where the study's nets, samples and figures lie.
      replication: the same study under another seed.
      drawn: names of the figures in `folder`.
    """

    config: Config
    record: Mapping[str, Any]
    conditions: Conditions
    verdicts: tuple[Verdict, ...]
    folder: Path
    replication: "Report | None" = None
    drawn: tuple[str, ...] = ()

    @property
    def page(self) -> Path:
        return self.folder / "report.html"

    @property
    def samples(self) -> Samples:
        return Samples(self.folder)

    @property
    def deepest(self) -> int:
        """The depth at which all layers are trained."""
        return max(self.conditions.depths, default=0)

    @cached_property
    def answers(self) -> list[facts.Answer]:
        return facts.answers(self.conditions)

    @cached_property
    def limits(self) -> dict[str, Any]:
        return facts.limits(self.conditions)

    @cached_property
    def advice(self) -> list[Advice]:
        return advise(self.conditions) if self.config.advice else []

    @cached_property
    def pairs(self) -> list[Replication]:
        """Effects under both seeds; none without a replication."""
        return replication(self.verdicts, self.replication.verdicts) if self.replication else []

    @property
    def command(self) -> str:
        """The command that made the rows, without folders."""
        return without_paths(str(self.record.get("command") or ""))

    def predict(self, advice: Advice) -> str:
        """The command that uses the net of an advice on pictures; empty if no net was kept."""
        net = net_of(self.folder / "nets", advice.trial)
        if net is None:
            return ""
        pictures = getattr(self.config.domains.get(advice.target), "path", None)
        words = (
            f"net={os.path.relpath(net)}",
            f"images={self.config.path or pictures or 'PICTURES'}",
        )
        return shlex.join(["python", "-m", "convtl.predict", *words])

    def figure(self, name: str) -> matplotlib.figure.Figure:
        """Draw a figure of the registry."""
        return _figure(name).draw(self)

    def lines(self) -> str:
        """The answer, the verdicts and the advice for a terminal."""
        lines = [tables.answer(self).plain()] if self.answers else []
        for verdict in self.verdicts:
            effect, p = tables.effects(verdict), tables.p_value(verdict.p_adjusted)
            lines.append(
                f"{tables.outcome(verdict.verdict)}: {tables.title(verdict)}, {effect}, p {p}"
            )
        for one in self.advice:
            depth = tables.layers(one.now.depth, self.deepest)
            accuracy = tables.percent(one.now.accuracies[one.now.depth])
            lines.append(
                f"advice: with {one.now.images:,} images train {depth} of {one.source}: {accuracy} right"
            )
            lines.append(self.predict(one))
        return (
            "\n".join(filter(None, lines))
            or "nothing to report: no source has two depths that are done"
        )


def _figure(name: str) -> Figure:
    return next(figure for figure in FIGURES if figure.name == name)


def make_report(
    frame: pd.DataFrame,
    config: Config,
    record: Mapping[str, Any],
    folder: Path,
    gradients: pd.DataFrame | None = None,
    **others: Any,
) -> Report:
    """Look up, judge and advise: from the rows of a study to its report."""
    conditions = Conditions(frame, gradients, main_targets=config.target, order=config.source)
    verdicts = tuple(judge(claims_of(config), conditions))
    return Report(config, record, conditions, verdicts, folder, **others)


def report_of(out: Path, config: Config, record: Mapping[str, Any], **others: Any) -> Report:
    """Read the rows of a folder, write its results.csv, and make the report of one study in it."""
    everything = read_rows(out)
    write_results(out, everything)
    frame, left_out = of_study(everything, pd.DataFrame(record["points"]))
    gradients = read_gradients(out) if (out / TABLE).exists() else None
    distinct = frame.drop_duplicates("trial")
    made_by = distinct["commit"].map(short).value_counts().to_dict()
    how = {"made_by": made_by, "seconds": float(distinct["seconds"].sum()), "left_out": left_out}
    return make_report(frame, config, {**record, **how}, out, gradients, **others)


def read_replication(out: Path, config: Config) -> Report:
    """Make the report of the same study under another seed.

    Raises:
      UserError: `out` holds no rows, another study or the same seed, or the study has no claims.
    """
    accepted = (
        f"a folder of study '{config.study}' with claims, run with another seed than {config.seed}"
    )
    try:
        record = newest_record(out)
        other = apply_limits(parse(record["config"]))
        report = report_of(out, other, record)
    except UserError as error:
        raise UserError(f"replication: got '{out}' ({error}); accepted: {accepted}") from None
    same = other.study == config.study and other.seed != config.seed
    if not same or not config.scorecard or report.conditions.frame.empty:
        held = f"study '{other.study}', seed {other.seed}, {len(report.conditions.frame)} rows"
        raise UserError(f"replication: got '{out}' with {held}; accepted: {accepted}")
    return report


def build(
    out: Path,
    config: Config,
    record: Mapping[str, Any],
    wall: float | None = None,
    replication: Report | None = None,
) -> Report:
    """Write results.csv, figures, report.md and report.html of a study's folder; its data are not needed.

    Args:
      record: what `convtl.study.store` keeps of the invocation.
      wall: seconds that the run took; None where only the report is made anew.
      replication: of the same study under another seed, to be set beside this one.
    """
    run = (
        {}
        if wall is None
        else {"run": f"{tables.duration(wall)}, {peak_memory_gib():.1f} GiB of memory"}
    )
    report = report_of(out, config, {**record, **run}, replication=replication)
    with accessible(out):
        figures = [figure for figure in FIGURES if figure.needs(report)]
        for figure in figures:
            save(figure.draw(report), out / "figures" / f"{figure.name}.png")
        report = replace(report, drawn=tuple(figure.name for figure in figures))
        write_text(out / "report.md", render(report, "report.md.j2"))
        write_text(report.page, html_page(report))
    return report


def write_text(path: Path, text: str) -> None:
    """Write a text, without what looks like a secret, in one step."""
    with written(path) as file:
        file.write(redacted(text).encode())


# --- templates ----------------------------------------------------------------------------------------


def render(report: Report, template: str, html: bool = False) -> str:
    """Fill a template (its name in this package, or its text) as Markdown, for an HTML page or by itself."""
    environment = _environment(html)
    is_name = template in environment.list_templates()
    made = environment.get_template(template) if is_name else environment.from_string(template)
    text = made.render(report=report, **TemplateFunctions(report, html).all())
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def html_page(report: Report) -> str:
    """Return report.html: a page that needs no other file."""
    text = render(report, "report.md.j2", html=True)
    body = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    return (
        _environment(True).get_template("report.html.j2").render(report=report, body=Markup(body))
        + "\n"
    )


def _environment(html: bool) -> SandboxedEnvironment:
    """Templates may read values, and nothing else; for HTML every value is escaped."""
    environment = SandboxedEnvironment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=html, undefined=StrictUndefined
    )
    environment.filters |= {function.__name__: function for function in tables.FILTERS}
    return environment


@dataclass(frozen=True)
class TemplateFunctions:
    """What templates call for numbers, tables and figures of a report, as Markdown or as HTML."""

    report: Report
    html: bool

    def all(self) -> dict[str, Any]:
        names = ("table", "figure", "accuracy", "value", "effect", "verdict", "code")
        named = {name: getattr(self, name) for name in names}
        return named | {
            "mean_z2": mean_z2,
            "layers": partial(tables.layers, deepest=self.report.deepest),
        }

    def table(self, name: str, words: Mapping[str, str] | None = None) -> str:
        """A table of `tables.TABLES`, empty if nothing is in it; `words` are tooltips of headings."""
        made = tables.TABLES[name](self.report)
        if not made:
            return ""
        return made.html(words or {}) if self.html else made.markdown()

    def figure(self, name: str) -> str:
        """A picture with its title and caption; empty where it is not drawn."""
        if name not in self.report.drawn:
            return ""
        figure = _figure(name)
        caption = " ".join(figure.caption_for(self.report).split())
        if not self.html:
            return f"![{figure.title}](figures/{name}.png)\n\n**{figure.title}.** {caption}\n"
        content = base64.b64encode(
            (self.report.folder / "figures" / f"{name}.png").read_bytes()
        ).decode()
        image = Markup('<img alt="{}" src="data:image/png;base64,{}">').format(
            figure.title, content
        )
        text = Markup("<figcaption><strong>{}.</strong> {}</figcaption>").format(
            figure.title, caption
        )
        return Markup("<figure>{}{}</figure>\n").format(image, text)

    def accuracy(self, digits: int = 1, **where: Any) -> str:
        """Mean test accuracy of one condition, over main targets unless one is named: `61.3%`."""
        return tables.percent(self._mean("test_accuracy", where), digits)

    def value(self, measure: str, digits: int = 2, **where: Any) -> str:
        """Mean of a measure of `Conditions` (transfer_gain, ...) or of a column, signed: `+0.42`."""
        return tables.signed(self._mean(measure, where), digits)

    def _mean(self, measure: str, where: dict[str, Any]) -> float:
        conditions, means = self.report.conditions, []
        for target in [where.pop("target")] if "target" in where else conditions.targets:
            is_column = measure in conditions.frame
            look_up = (conditions.values, measure) if is_column else (getattr(conditions, measure),)
            means.append(look_up[0](*look_up[1:], target=target, **where).mean())
        return float(sum(means) / len(means))

    def effect(self, name: str) -> str:
        """Effects of a claim with their intervals, in its unit and in points."""
        return tables.effects(self._verdict(name))

    def verdict(self, name: str) -> str:
        """The verdict on a claim: `supported`."""
        return tables.outcome(self._verdict(name).verdict)

    def _verdict(self, name: str) -> Verdict:
        return next(verdict for verdict in self.report.verdicts if verdict.name == name)

    def code(self, text: str) -> str:
        """A block of code."""
        if self.html:
            return Markup("<pre><code>{}</code></pre>\n").format(text)
        return f"```bash\n{text.replace('```', '')}\n```\n"
