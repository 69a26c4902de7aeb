"""A field of a settings class: its default, and what is allowed."""

import dataclasses
from typing import Any


def setting(default: Any = dataclasses.MISSING, *, doc: str, low: float | None = None, high: float | None = None,
            choices: tuple[str, ...] | None = None) -> Any:
    """A dataclass field with what is allowed: an inclusive range or a set of names."""
    limits = {"doc": doc, "low": low, "high": high, "choices": choices}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=limits)
    return dataclasses.field(default=default, metadata=limits)
