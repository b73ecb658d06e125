"""A folder of pictures in, its mean and std out, and what the usual shortcut would have said.

Run it with ``./run demo``. The pictures are synthetic: classes differ in brightness and contrast,
as those of real data sets do, and that is what the shortcut cannot see.
"""

import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("night", "indoor", "street", "beach", "snow")
PICTURES = 2500
SIZES = ((48, 64), (64, 64), (64, 96), (80, 56))


def main() -> int:
    """Write the pictures, run the commands that a user would run."""
    print("1. A folder of pictures, as anyone might have one")
    with tempfile.TemporaryDirectory(prefix="streamnorm-demo-") as temporary:
        folder = Path(temporary) / "pictures"
        started = time.perf_counter()
        write_pictures(folder, PICTURES)
        seconds = time.perf_counter() - started
        print(f"   {PICTURES:,} PNG and JPEG files of several sizes written in {seconds:.1f} s\n")
        print("2. Mean and std of every channel, pooled over all pixels, in one pass")
        code = run("compute", str(folder), "--scale", "255")
        print("\n3. The same std beside what averaging the std of pictures or batches gives")
        code = code or run("compare", str(folder), "--scale", "255")
    print("\nOn your own pictures:")
    print("   .venv/bin/streamnorm compute path/to/folder --scale 255 -o train.stats.json")
    return code


def write_pictures(folder: Path, count: int) -> None:
    """Write `count` pictures, the same ones every time."""
    rng = np.random.default_rng(20260101)
    # One noise field, cut at random places: drawing new noise for each would take longer.
    field = rng.normal(size=(160, 160, 3)).astype(np.float32)
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
    for number in range(count):
        kind = number % len(CLASSES)
        height, width = SIZES[rng.integers(len(SIZES))]
        top, left = rng.integers(0, 160 - 96, size=2)
        brightness = 80 + 24 * kind + rng.normal(0, 12)
        contrast = 26 + 12 * (kind % 3)
        tint = np.array([1.0, 0.96, 0.9 + 0.04 * kind])
        pixels = (brightness + contrast * field[top : top + height, left : left + width]) * tint
        picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
        stem = folder / CLASSES[kind] / f"{number:05}"
        if number % 4 == 0:
            picture.save(stem.with_suffix(".png"), compress_level=1)
        else:
            picture.save(stem.with_suffix(".jpg"), quality=90)


def run(*arguments: str) -> int:
    """Run one command of streamnorm, shown as it would be typed."""
    print("   $ streamnorm " + shlex.join(arguments), flush=True)
    return subprocess.run([sys.executable, "-m", "streamnorm", *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
