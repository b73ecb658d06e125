"""Images resized and cropped, as training does it, before they are measured."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from streamnorm.arrays import Array
from streamnorm.sources.needs import needed

__all__ = ["Resized"]

Size = int | tuple[int, int]


@dataclass(frozen=True)
class Resized:
    """Resize, then take the middle: what torchvision's Resize and CenterCrop do to pictures.

    Parameters
    ----------
    resize : int, (int, int) or None
        The shorter side, or height and width; bilinear, smoothed where it gets smaller.
    crop : int, (int, int) or None
        Side, or height and width, of what is taken out of the middle.
    """

    resize: Size | None = None
    crop: Size | None = None

    of_pictures: ClassVar[bool] = True

    def __call__(self, image: Array) -> Array:
        """Return the image, shape (height, width, channels), with another height and width.

        Raises
        ------
        ValueError
            If it is smaller than the crop.
        """
        array = image if self.resize is None else _resized(image, self.resize)
        return array if self.crop is None else _cropped(array, self.crop)


def _resized(image: Array, size: Size) -> Array:
    height, width = image.shape[:2]
    if isinstance(size, int):
        shorter = min(height, width)
        height, width = (size * height // shorter, size * width // shorter)
    else:
        height, width = size
    pillow: Any = needed("PIL.Image", "images", "resizing")
    flat = image[:, :, 0] if image.shape[2] == 1 else image
    picture = pillow.fromarray(np.ascontiguousarray(flat))
    found = np.asarray(picture.resize((width, height), pillow.Resampling.BILINEAR))
    return found.reshape(height, width, image.shape[2])


def _cropped(image: Array, size: Size) -> Array:
    high, wide = (size, size) if isinstance(size, int) else size
    height, width = image.shape[:2]
    if height < high or width < wide:
        msg = f"an image of {height} x {width} is smaller than the crop of {high} x {wide}"
        raise ValueError(msg)
    top, left = round((height - high) / 2), round((width - wide) / 2)
    return image[top : top + high, left : left + wide]
