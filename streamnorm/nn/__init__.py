"""torch modules made from moments."""

from streamnorm.nn.normalize import Normalize

__all__ = ["Normalize"]
