"""Probes of training itself: nets trained from scratch and looked at, unit by unit, while they learn."""
