"""Config of a study: frozen dataclasses with types, ranges and roles."""
