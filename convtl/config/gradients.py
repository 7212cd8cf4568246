"""Probes of training itself: how gradients and representations behave, unit by unit."""

from pydantic.dataclasses import dataclass

from convtl.config.values import STRICT, Count


@dataclass(frozen=True, config=STRICT)
class GradientsConfig:
    """How large gradients are, unit by unit, and when each unit arrives at what it will be."""

    replicates: Count = 12
    """fresh nets, each with a batch of its own"""
