"""A folder of pictures, decoding included."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import streamnorm as sn
from benchmarks.data import QUICK

WORKERS = 2
# Width, height, grain and number: thumbnails, and photographs as large as those of ImageNet.
FOLDERS = {
    "thumbnails": (128, 96, 0, 200 if QUICK else 2000),
    "photographs": (500, 375, 10, 40 if QUICK else 400),
}
WAYS = ("decode only", "streamnorm", "DataLoader and NumPy, averaged")


@pytest.fixture(scope="module", params=FOLDERS)
def folder(request, tmp_path_factory):
    """Return a folder of JPEG files: soft shapes, with the grain of a camera."""
    width, height, grain, count = FOLDERS[request.param]
    path = tmp_path_factory.mktemp(request.param)
    rng = np.random.default_rng(0)
    for k in range(count):
        coarse = rng.integers(0, 255, (height // 16, width // 16, 3), np.uint8)
        soft = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        noisy = soft + rng.normal(0, grain, (height, width, 1)) if grain else np.asarray(soft)
        picture = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
        picture.save(path / f"{k:04d}.jpg", quality=90)
    return path


def decode(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def decode_only(folder):
    from concurrent.futures import ThreadPoolExecutor

    def decode_group(paths):
        for path in paths:
            decode(path)

    paths = sorted(folder.iterdir())
    groups = [paths[i : i + 16] for i in range(0, len(paths), 16)]
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(decode_group, groups))


class Pictures(torch.utils.data.Dataset):
    """What the tutorials write."""

    def __init__(self, folder):
        self.paths = sorted(Path(folder).iterdir())

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        return torch.from_numpy(decode(self.paths[index])).permute(2, 0, 1).float() / 255


def loader_and_numpy(folder):
    loader = torch.utils.data.DataLoader(Pictures(folder), batch_size=32, num_workers=WORKERS)
    means, stds = [], []
    for batch in loader:
        array = batch.numpy()
        means.append(np.mean(array, axis=(0, 2, 3)))
        stds.append(np.std(array, axis=(0, 2, 3)))
    return np.mean(means, axis=0), np.mean(stds, axis=0)


RUN = {
    "decode only": decode_only,
    "streamnorm": lambda folder: sn.compute(folder, workers=WORKERS, progress=False),
    "DataLoader and NumPy, averaged": loader_and_numpy,
}


@pytest.mark.parametrize("way", WAYS)
def test_folder(race, folder, way):
    files = list(folder.iterdir())
    kilobytes = sum(os.path.getsize(path) for path in files) / len(files) / 1024
    width, height = Image.open(files[0]).size
    race(
        lambda: RUN[way](folder),
        f"{len(files)} JPEG of {width} × {height}, {kilobytes:.0f} KiB each, {WORKERS} workers",
        column=way, bytes=len(files) * width * height * 3, rounds=5,
    )  # fmt: skip
