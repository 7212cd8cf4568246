"""convtl: how many layers to fine-tune, by amount and similarity of data."""

__version__ = "0.1.0"
