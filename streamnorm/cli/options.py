"""Arguments that several commands share."""

import argparse

from streamnorm.layout import ChannelAxis

__all__ = ["add_channel_axis", "add_ddof", "add_scale", "add_workers"]


def add_channel_axis(parser: argparse.ArgumentParser) -> None:
    """Add --channel-axis."""
    parser.add_argument(
        "--channel-axis",
        type=_channel_axis,
        default="auto",
        metavar="AXIS",
        help="axis that is kept: a number, several as 1,2, or 'none' for one channel over "
        "everything (default: auto)",
    )


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Add --workers."""
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="threads that read and measure; the result does not depend on it (default: CPUs)",
    )


def add_scale(parser: argparse.ArgumentParser) -> None:
    """Add --scale."""
    parser.add_argument(
        "--scale",
        type=_scale,
        default=1.0,
        metavar="S",
        help="divide every value by S; 255 gives the numbers of 8-bit images as 0 to 1",
    )


def add_ddof(parser: argparse.ArgumentParser) -> None:
    """Add --ddof."""
    parser.add_argument(
        "--ddof",
        type=float,
        default=0,
        metavar="D",
        help="divide the sum of squares by count - D (default: 0)",
    )


def _channel_axis(text: str) -> ChannelAxis | str:
    if text in ("auto", "none"):
        return None if text == "none" else "auto"
    try:
        axes = tuple(int(part) for part in text.split(","))
    except ValueError:
        msg = f"expected a number, numbers like 1,2, 'none' or 'auto', got {text!r}"
        raise argparse.ArgumentTypeError(msg) from None
    return axes[0] if len(axes) == 1 else axes


def _scale(text: str) -> float:
    try:
        scale = float(text)
    except ValueError:
        scale = 0.0
    if not 0 < abs(scale) < float("inf"):
        msg = f"expected a finite number other than 0, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return scale
