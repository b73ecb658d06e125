"""What people use today, as its documentation says, and our own way; each gives mean and std.

A runner takes batches of shape (N, C, H, W), float32, and returns two arrays of shape (C,).
"""

import numpy as np
import torch
from sklearn.preprocessing import StandardScaler

import streamnorm as sn


def ours(batches):
    accumulator = sn.Accumulator()
    for batch in batches:
        accumulator.update(batch)
    return accumulator.moments.mean, accumulator.moments.std()


def ours_one_thread(batches):
    accumulator = sn.Accumulator(threads=1)
    for batch in batches:
        accumulator.update(batch)
    return accumulator.moments.mean, accumulator.moments.std()


def averaged_batches(batches):
    """The shortcut: mean and std of every batch, averaged."""
    means = [batch.mean(dim=(0, 2, 3)) for batch in batches]
    stds = [batch.std(dim=(0, 2, 3)) for batch in batches]
    return torch.stack(means).mean(0).numpy(), torch.stack(stds).mean(0).numpy()


def averaged_images(batches):
    """The shortcut in its other form: mean and std of every image, averaged."""
    count, mean, std = 0, 0.0, 0.0
    for batch in batches:
        flat = batch.view(batch.size(0), batch.size(1), -1)
        mean = mean + flat.mean(2).sum(0)
        std = std + flat.std(2).sum(0)
        count += batch.size(0)
    return (mean / count).numpy(), (std / count).numpy()


def sums_of_squares(batches):
    """E[x²] − E[x]² in float32."""
    count, total, squares = 0, 0.0, 0.0
    for batch in batches:
        total = total + batch.sum(dim=(0, 2, 3))
        squares = squares + (batch * batch).sum(dim=(0, 2, 3))
        count += batch.numel() // batch.size(1)
    mean = total / count
    return mean.numpy(), (squares / count - mean**2).clamp(min=0).sqrt().numpy()


def scikit_learn(batches):
    scaler = StandardScaler()
    for batch in batches:
        scaler.partial_fit(batch.permute(0, 2, 3, 1).reshape(-1, batch.size(1)).numpy())
    return scaler.mean_, np.sqrt(scaler.var_)


def numpy_whole(batches):
    """Everything in memory at once, over the axes of a channels-first array."""
    x = np.stack([batch.numpy() for batch in batches])
    return x.mean((0, 1, 3, 4)), x.std((0, 1, 3, 4))


RUNNERS = {
    "streamnorm, all threads": ours,
    "streamnorm, 1 thread": ours_one_thread,
    "torch, mean of batch std (shortcut)": averaged_batches,
    "torch, mean of image std (shortcut)": averaged_images,
    "torch, float32 sum and sum of squares": sums_of_squares,
    "NumPy, everything in memory": numpy_whole,
    "scikit-learn, partial_fit": scikit_learn,
}
