"""Why inputs are normalized, and by which numbers: `python examples/input_normalization.py`.

First the std of a data set against the average of its batches' stds. Then two inputs of very
different scale: the surface of the loss, the largest learning rate at which training is stable, and
the training itself, with and without `Normalize` as the first line of the network's forward.
Needs torch and matplotlib; `--plot FILE` says where to draw (default: input_normalization.png).
"""

import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import streamnorm as sn
from streamnorm.nn import Normalize

START = (-0.8, 0.5)
"""The weights that training begins with."""
SHARE = 0.9
"""Of the largest stable learning rate."""


class Photographs(Dataset):
    """Pictures of 60 x 60 pixels: some are dark and some are bright, as photographs are."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        random = torch.Generator().manual_seed(index)
        light = torch.rand(3, 1, 1, generator=random)
        return (light + 0.1 * torch.randn(3, 60, 60, generator=random)).clamp(0, 1)


def shortcut_and_truth(count):
    """Return the averaged std of batches and of pictures, and the moments of all pictures."""
    accumulator = sn.Accumulator()
    of_batches, of_pictures = [], []
    for batch in accumulator.watch(DataLoader(Photographs(count), batch_size=128)):
        of_batches.append(batch.std((0, 2, 3)))
        of_pictures.append(batch.std((2, 3)).mean(0))
    return torch.stack(of_batches).mean(0), torch.stack(of_pictures).mean(0), accumulator.moments


class Network(nn.Module):
    """A linear model of two inputs, which it normalizes first if it is given their moments."""

    def __init__(self, moments=None):
        super().__init__()
        self.normalize = Normalize.from_moments(moments) if moments else nn.Identity()
        self.layer = nn.Linear(2, 1, dtype=torch.float64)
        self.layer.weight.data[:] = torch.tensor([START])
        nn.init.zeros_(self.layer.bias)

    def forward(self, x):
        return self.layer(self.normalize(x))[:, 0]


def table(rows=500):
    """Return two inputs of standard deviations 1 and 12, and a target that needs both."""
    random = torch.Generator().manual_seed(0)
    first = 1.5 + torch.randn(rows, dtype=torch.float64, generator=random)
    second = 8 + 12 * torch.randn(rows, dtype=torch.float64, generator=random)
    noise = 0.1 * torch.randn(rows, dtype=torch.float64, generator=random)
    return torch.stack([first, second], 1), (first - 1.5) + (second - 8) / 12 + noise


def descend(moments, rate, steps):
    """Train by plain gradient descent; gives the losses and the weights after every step."""
    x, target = table()
    network = Network(moments)
    optimizer = torch.optim.SGD(network.parameters(), lr=rate)
    losses, path = [], []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (network(x) - target).square().mean()
        loss.backward()
        losses.append(loss.item())
        path.append(network.layer.weight.detach()[0].tolist())
        optimizer.step()
    return losses, path


def largest_stable_rate(moments, steps=200):
    """Find the rate above which the loss grows, by halving; it is 2 / the largest curvature."""
    low, high = 1e-12, 1e3
    while high / low > 1.01:
        middle = (low * high) ** 0.5
        losses, _ = descend(moments, middle, steps)
        stable = losses[-1] == losses[-1] and losses[-1] <= losses[0]
        low, high = (middle, high) if stable else (low, middle)
    return low


def curvatures(moments):
    """Return the curvatures of the loss, from the flattest direction to the steepest."""
    x, _ = table()
    inputs = Network(moments).normalize(x)
    inputs = torch.cat([inputs, torch.ones(len(x), 1, dtype=torch.float64)], 1)
    return torch.linalg.eigvalsh(2 * inputs.T @ inputs / len(x))


def surface(moments, first, second):
    """Return the loss on a grid of both weights, with the best bias for each."""
    x, target = table()
    inputs = Network(moments).normalize(x)
    weights = torch.cartesian_prod(first, second)
    wrong = target - weights @ inputs.T
    return wrong.var(1, correction=0).reshape(len(first), len(second)).T


def draw(file, runs):
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13.5, 4.2), layout="constrained")
    for axis, (name, run) in zip(axes, runs.items(), strict=False):
        spans = run["spans"]
        first, second = (torch.linspace(*span, 200, dtype=torch.float64) for span in spans)
        loss = surface(run["moments"], first, second)
        levels = torch.logspace(-2.2, float(loss.max().log10()), 18).tolist()
        axis.contour(first, second, loss, levels, colors="0.7", linewidths=0.8)
        path = torch.tensor(run["path"])
        axis.plot(path[:, 0], path[:, 1], "o-", ms=3, lw=1, color=run["color"])
        axis.plot(*run["best"], "k*", ms=11)
        axis.set(xlim=spans[0], ylim=spans[1])
        axis.set(xlabel="weight of the first input", ylabel="weight of the second input")
        axis.set_title(
            f"{name}: curvatures 1 : {run['ratio']:.3g}\nlargest stable rate {run['rate']:.2g}"
        )
        axes[2].semilogy(run["losses"], color=run["color"], label=name)
    axes[2].axhline(0.01, color="0.5", lw=0.8, ls="--")
    axes[2].text(198, 0.0115, "what noise leaves", ha="right", color="0.4")
    axes[2].set(xlabel="step of gradient descent", ylabel="loss", xlim=(0, 200))
    axes[2].set_title(f"each at {SHARE:g} of its largest stable rate")
    axes[2].legend(loc="upper right")
    figure.savefig(file, dpi=110)


def best_weights(moments):
    """Return the weights of the least loss."""
    x, target = table()
    inputs = Network(moments).normalize(x)
    inputs = torch.cat([inputs, torch.ones(len(x), 1, dtype=torch.float64)], 1)
    return torch.linalg.lstsq(inputs, target[:, None]).solution[:2, 0].tolist()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=1280)
    parser.add_argument("--plot", default="input_normalization.png")
    options = parser.parse_args()

    batches, pictures, moments = shortcut_and_truth(options.pictures)
    print(f"{options.pictures} pictures of (3, 60, 60), in batches of 128")
    print("  std of all pixels:     ", moments.std().round(4).tolist())
    print("  mean of batches' stds: ", [round(s, 4) for s in batches.tolist()])
    print("  mean of pictures' stds:", [round(s, 4) for s in pictures.tolist()])

    x, _ = table()
    spans = ((-1.2, 3.0), (-1.2, 3.0))
    runs = {
        "as they are": {"moments": None, "color": "tab:red", "spans": spans},
        "normalized": {"moments": sn.measure(x), "color": "tab:blue", "spans": spans},
    }
    print("\nTwo inputs, of standard deviations 1 and 12:")
    for name, run in runs.items():
        run["rate"] = largest_stable_rate(run["moments"])
        run["losses"], run["path"] = descend(run["moments"], SHARE * run["rate"], 200)
        flattest, *_, steepest = curvatures(run["moments"]).tolist()
        run["ratio"], run["best"] = steepest / flattest, best_weights(run["moments"])
        print(
            f"  {name}: largest stable learning rate {run['rate']:.3g} (2 / curvature = "
            f"{2 / steepest:.3g}), loss after 200 steps {run['losses'][-1]:.3g}"
        )
    draw(options.plot, runs)
    print(f"\n{options.plot} shows the surfaces of the loss and the way down.")


if __name__ == "__main__":
    main()
