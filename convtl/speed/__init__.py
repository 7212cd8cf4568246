"""How fast convtl is, measured: against PyTorch on the same machine, and against what the machine can do."""
