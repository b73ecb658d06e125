"""Libraries that read formats: imported when they are needed, with a hint where they are not."""

import importlib
from typing import Any

__all__ = ["needed"]


def needed(module: str, extra: str, what: str) -> Any:
    """Import the library that reads `what`.

    Raises
    ------
    ImportError
        Saying how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        library = module.partition(".")[0]
        msg = (
            f"reading {what} needs {library} ({error}); install it with: "
            f"pip install 'streamnorm[{extra}]'"
        )
        raise ImportError(msg) from error
