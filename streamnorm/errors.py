"""The warnings and errors that are streamnorm's own."""

__all__ = ["StateFileError", "StreamnormWarning"]


class StreamnormWarning(UserWarning):
    """Base class of every warning that streamnorm gives."""


class StateFileError(ValueError):
    """A state file that cannot be trusted: foreign, truncated, tampered with or too new."""
