"""convtl: how many layers to fine-tune, given how much data there is and how similar it is."""

__version__ = "0.1.0"
