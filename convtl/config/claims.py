"""Claims: wording, meaning and deciding numbers; a file each in conf/claims/."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from convtl.config import values
from convtl.config.values import STRICT, Count, Fraction, ListOf, Name, Node, Several, Text

Layers = Count | Literal["all"]
_DIFFERENCES = Literal["depth_benefit", "transfer_gain", "schedule_gain"]


@dataclass(frozen=True, config=STRICT)
class TermConfig(Node):
    """One number per replicate, for each point that its coordinates list."""

    measure: Literal["logit_accuracy", "chosen_depth", "gradient"] | _DIFFERENCES = "logit_accuracy"
    weight: float = 1.0
    source: Several[Text] | None = None
    n_per_class: Several[Count] | None = None
    depth: Several[Layers] | None = None
    updates: Several[Count] | None = None
    similarity: Several[Fraction] | None = None
    regime: Several[Text] | None = None
    model: Several[Text] | None = None
    where: dict[Text, Any] = Field(default_factory=dict)
    """any other axis by its dotted key; of gradient, what the measure takes"""
    depths: ListOf[Layers] = ()  # of chosen_depth: among which validation chooses in each replicate
    low: Count | None = None  # of schedule_gain: updates
    high: Count | None = None
    scratch_updates: Count | Literal["same", "flat"] = "flat"
    """of transfer_gain; flat: the schedule from which four times as many gain scratch nothing"""
    name: Text | None = None  # of gradient


@dataclass(frozen=True, config=STRICT)
class PartConfig(Node):
    """A test of a weighted sum of terms, or of its slope times the range of points."""

    terms: Several[TermConfig]
    test: Literal["above", "below", "within", "same_sign"] = "above"
    """same_sign: not tested, but its mean has the sign of the first part's"""
    margin: float | Literal["delta", "-delta"] = 0.0
    """delta is the claim's smallest effect, and the margin of `within` if there is no other"""
    slope_over: Text | tuple[float, ...] | None = None
    """the coordinate that lists the points (counts as their log2), or an x for each point"""
    name: Text = "effect"
    targets: ListOf[Text] = ()  # empty: the claim's


@dataclass(frozen=True, config=STRICT)
class ClaimConfig(Node):
    """A claim, true if all its parts are; targets are averaged in each replicate."""

    says: Text
    means: Text
    parts: Several[PartConfig]
    ground: Literal["letters", "photographs"] = "letters"
    rank: Literal["primary", "secondary"] = "secondary"
    unit: Text = "logit"
    smallest_effect: values.Positive = 0.2
    targets: ListOf[Text] = ()  # empty: the study's
    papers: ListOf[dict[Literal["cite", "finds", "says"], Text]] = ()
    history: ListOf[dict[Literal["commit", "was", "gave", "why"], Text]] = ()
    """changes of words, numbers or test after a result had been seen"""


def _nodes(value: Any) -> Any:
    """Accept a claim's only part written without `parts`."""
    if not isinstance(value, dict):
        raise PydanticCustomError("claims", "conf/claims/NAME.yaml for each, and scorecard=[NAME]")
    for name, node in value.items():
        if isinstance(node, dict) and "terms" in node and "parts" not in node:
            of_part = node.keys() & {"terms", "test", "margin", "slope_over"}
            claim = {key: node[key] for key in node.keys() - of_part}
            value = value | {name: claim | {"parts": [{key: node[key] for key in of_part}]}}
    return value


Claims = Annotated[dict[Name, ClaimConfig], BeforeValidator(_nodes)]
