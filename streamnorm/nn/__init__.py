"""torch modules made from moments."""

try:
    import torch  # noqa: F401 - asked for here, to say what to install
except ImportError as error:
    msg = "streamnorm.nn needs torch; install it with: pip install 'streamnorm[torch]'"
    raise ImportError(msg) from error

from streamnorm.nn.normalize import Normalize
from streamnorm.nn.running import RunningNormalize

__all__ = ["Normalize", "RunningNormalize"]
