"""How pictures are read: with how much memory, by how many processes."""

from pydantic.dataclasses import dataclass

from convtl.config.values import STRICT, Count, Positive


@dataclass(frozen=True, config=STRICT)
class DataConfig:
    """What reading pictures may cost; changes no image."""

    memory_gb: Positive = 4.0
    """memory that decoding may take (10^9 bytes), and by which a dry run says how many lanes there could be; what
    is decoded lies on disk and is mapped"""
    workers: Count | None = None
    """processes that decode; null takes one for each core where there is enough to do"""
