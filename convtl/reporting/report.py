"""Report of a study: its numbers, report.md, report.html and figures."""

import base64
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import FileSystemLoader, StrictUndefined
from jinja2.sandbox import SandboxedEnvironment
from markdown_it import MarkdownIt
from markupsafe import Markup

from convtl.analysis.advice import Advice, advise
from convtl.analysis.claims import Verdict, claims_of, judge
from convtl.analysis.conditions import Conditions
from convtl.analysis.frame import of_study, read_rows, write_results
from convtl.analysis.record import newest_record, without_paths
from convtl.analysis.replication import Replication, mean_z2, replication
from convtl.config.parsing import parse
from convtl.config.schema import Config
from convtl.errors import UserError, redacted
from convtl.reporting import facts, samples, tables
from convtl.reporting.figures import accuracy, compare
from convtl.reporting.figures.drawing import Figure, save
from convtl.storage.files import written
from convtl.study.grid import apply_limits
from convtl.study.nets import net_of
from convtl.study.rows import short
from convtl.study.store import POINT, accessible
from convtl.training.probes import TABLE, read_gradients

FIGURES: tuple[Figure, ...] = tuple(
    value
    for module in (accuracy, compare, samples)
    for value in vars(module).values()
    if isinstance(value, Figure)
)
"""Every figure of a report, in order of definition with `@figure`."""
_TEMPLATES = Path(__file__).parent / "templates"
_FIGURE = """<figure><img alt="{title}" src="data:image/png;base64,{content}">
<figcaption><strong>{title}.</strong> {caption}</figcaption></figure>
"""


@dataclass(frozen=True)
class Report:
    """Content of a report.

    Attributes:
      record: of the invocation (command, versions, device) and the making of its rows.
      folder: of the study's nets, samples and figures.
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
    def second_verdicts(self) -> dict[str, str]:
        """Verdicts under the other seed, by claim."""
        return (
            {one.name: one.verdict for one in self.replication.verdicts} if self.replication else {}
        )

    @property
    def command(self) -> str:
        """The command that made the rows, without folders."""
        return without_paths(str(self.record.get("command") or ""))

    def predict(self, advice: Advice) -> str:
        """Return the command that applies an advised net; empty if no net was saved."""
        net = net_of(self.folder / "nets", advice.trial)
        if net is None:
            return ""
        pictures = getattr(self.config.domains.get(advice.target), "path", None) or "PICTURES"
        words = f"net={os.path.relpath(net)}", f"images={self.config.path or pictures}"
        return shlex.join(["python", "-m", "convtl.predict", *words])

    def lines(self) -> str:
        """Format the answer, the verdicts and the advice for a terminal."""
        lines = [tables.answer(self).plain()] if self.answers else []
        for one in self.verdicts:
            name, p = tables.title(one), tables.p_value(one.p_adjusted)
            lines += [f"{tables.outcome(one.verdict)}: {name}, {tables.effects(one)}, p {p}"]
        for advice in self.advice:
            now, layers = advice.now, tables.layers(advice.now.depth, self.deepest)
            right = tables.percent(now.accuracies[now.depth])
            lines += [
                f"advice: with {now.images:,} images train {layers} of {advice.source}: {right} right"
            ]
            lines += [self.predict(advice)]
        return "\n".join(filter(None, lines))


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
    verdicts = tuple(judge(claims_of(config), conditions, config.claims))
    return Report(config, record, conditions, verdicts, folder, **others)


def report_of(out: Path, config: Config, record: Mapping[str, Any], **others: Any) -> Report:
    """Read a folder's rows, write results.csv, and make the report of one study."""
    everything = read_rows(out)
    write_results(out, everything)
    frame, left_out = of_study(everything, pd.DataFrame(record["points"], columns=list(POINT)))
    gradients = read_gradients(out) if (out / TABLE).exists() else None
    distinct = frame.drop_duplicates("trial")
    made_by = distinct["commit"].map(short).value_counts().to_dict()
    how = {"made_by": made_by, "seconds": float(distinct["seconds"].sum()), "left_out": left_out}
    return make_report(frame, config, {**record, **how}, out, gradients, **others)


def read_replication(out: Path, config: Config) -> Report:
    """Make the report of the same study under another seed.

    Raises:
      UserError: `out` holds another study or the same seed, or the study has no claims.
    """
    accepted = f"'{config.study}' with claims, run with another seed than {config.seed}"
    try:
        record = newest_record(out)
        other = apply_limits(parse(record["config"]))
        if other.study != config.study or other.seed == config.seed or not config.scorecard:
            raise UserError(f"study '{other.study}' with seed {other.seed}")
        return report_of(out, other, record)
    except UserError as error:
        raise UserError(f"replication: got '{out}' ({error}); accepted: {accepted}") from None


def build(
    out: Path, config: Config, record: Mapping[str, Any], replication: Report | None = None
) -> Report:
    """Write results.csv, figures, report.md and report.html from rows alone.

    Args:
      record: of the invocation, as `convtl.study.store` writes it.
      replication: of the same study under another seed, shown beside this one.
    """
    report = report_of(out, config, record, replication=replication)
    with accessible(out):
        figures = [figure for figure in FIGURES if figure.needs(report)]
        for figure in figures:
            save(figure.draw(report), out / "figures" / f"{figure.name}.png")
        report = replace(report, drawn=tuple(figure.name for figure in figures))
        write_text(out / "report.md", render(report, "report.md.j2"))
        write_text(report.page, html_page(report))
    return report


def write_text(path: Path, text: str) -> None:
    """Write a text without secrets, atomically."""
    with written(path) as file:
        file.write(redacted(text).encode())


# --- templates ----------------------------------------------------------------------------------------


def render(report: Report, template: str, html: bool = False, **values: Any) -> str:
    """Fill a template (a file name here, or its text), as Markdown or HTML.

    Templates may read values, and nothing else; for HTML every value is escaped.
    """
    environment = SandboxedEnvironment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=html, undefined=StrictUndefined
    )
    environment.filters |= {function.__name__: function for function in tables.FILTERS}
    environment.globals |= {"report": report, "mean_z2": mean_z2}
    environment.globals |= {
        "layers": partial(tables.layers, deepest=report.deepest),
        "table": partial(_table, report, html),
        "figure": partial(_figure, report, html),
        "code": partial(_code, html),
    }
    is_name = template in environment.list_templates()
    made = environment.get_template(template) if is_name else environment.from_string(template)
    return re.sub(r"\n{3,}", "\n\n", made.render(values)).strip() + "\n"


def html_page(report: Report) -> str:
    """Return report.html: a page that needs no other file."""
    text = render(report, "report.md.j2", html=True)
    body = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    return render(report, "report.html.j2", html=True, body=Markup(body))


def _table(report: Report, html: bool, name: str, words: Mapping[str, str] | None = None) -> str:
    """Format one of `tables.TABLES`; empty if without rows; `words` are tooltips."""
    made = tables.TABLES[name](report)
    if not made:
        return ""
    return made.html(words or {}) if html else made.markdown()


def _figure(report: Report, html: bool, name: str) -> str:
    """Format a picture with title and caption; empty where it is not drawn."""
    if name not in report.drawn:
        return ""
    figure = next(figure for figure in FIGURES if figure.name == name)
    caption = " ".join(figure.caption_for(report).split())
    if not html:
        return f"![{figure.title}](figures/{name}.png)\n\n**{figure.title}.** {caption}\n"
    image = (report.folder / "figures" / f"{name}.png").read_bytes()
    content = base64.b64encode(image).decode()
    return Markup(_FIGURE).format(title=figure.title, caption=caption, content=content)


def _code(html: bool, text: str) -> str:
    """Format a block of code."""
    if html:
        return Markup("<pre><code>{}</code></pre>\n").format(text)
    return f"```bash\n{text.replace('```', '')}\n```\n"
