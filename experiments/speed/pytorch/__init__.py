"""The PyTorch side of comparisons: the only files that import torch, beside the reader of its weights."""
