"""The one exception class of this package, and how it warns."""

from __future__ import annotations

import sys
import warnings


class GdtuoError(ValueError):
    """What gdtuo refuses: the message says what was given, what was expected, what to do."""


def warn(text: str) -> None:
    """Warn of the line that called this package. Torch's decorators and hooks lie between, more or
    fewer of them by its version, so that the frames are looked at, not counted."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and _package(frame.f_globals) in ("gdtuo", "torch"):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, RuntimeWarning, stacklevel=level)


def _package(module: dict[str, object]) -> str:
    return str(module.get("__name__")).partition(".")[0]
