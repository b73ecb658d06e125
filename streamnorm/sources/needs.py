"""Libraries that read and draw: imported when they are needed, with a hint where they are not."""

import importlib
from typing import Any

__all__ = ["needed"]

_DISTRIBUTIONS = {"PIL": "Pillow", "sklearn": "scikit-learn"}
"""Names by which libraries are known, where they are imported by others."""


def needed(module: str, extra: str, what: str) -> Any:
    """Import the library that `what` needs.

    Raises
    ------
    ImportError
        Saying how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        module = module.partition(".")[0]
        library = _DISTRIBUTIONS.get(module, module)
        msg = (
            f"{what} needs {library} ({error}); install it with: pip install 'streamnorm[{extra}]'"
        )
        raise ImportError(msg) from error
