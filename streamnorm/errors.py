"""The warnings and errors that are streamnorm's own."""

import sys
import warnings

__all__ = ["StateFileError", "StreamnormWarning", "warn"]


class StreamnormWarning(UserWarning):
    """Base class of every warning that streamnorm gives."""


class StateFileError(ValueError):
    """A state file that cannot be trusted: foreign, truncated, tampered with or too new."""


def warn(text: str) -> None:
    """Warn whoever called us from outside."""
    level, frame = 2, sys._getframe(1)  # noqa: SLF001 - what warnings.warn looks at too
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__", "")):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, StreamnormWarning, stacklevel=level)


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] == __name__.partition(".")[0]
