"""What every measurement is given."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine import Machine
from options import SpeedOptions

from convtl.config.schema import Config
from convtl.storage.cache import Cache


@dataclass(frozen=True)
class Context:
    """
    Attributes:
      settings: the study's config: its recipe is what is timed.
      content: the same as plain data.
      speed: what is measured, and for how long.
      scratch: a folder for files that nothing needs afterwards.
      no_torch: why there is nothing to compare with; None where PyTorch's side can be timed.
      say: takes a line about what is measured now.
    """

    settings: Config
    content: dict[str, Any]
    speed: SpeedOptions
    machine: Machine
    cache: Cache
    scratch: Path
    no_torch: str | None
    say: Callable[[str], None]


NEEDS_TORCH = "needs PyTorch: pip install 'convtl[torch]'"
CPUS_ONLY = "the side of PyTorch is written for CPUs only"
