"""Train on several ranks, with statistics that no rank gets wrong: shards are uneven, one is empty.

    torchrun --standalone --nproc-per-node=2 examples/train_ddp.py

Two ways to the same numbers on every rank. Before training, every rank measures its shard, and
`all_merge` gives all of them the moments of the whole. Or while training, `RunningNormalize` learns
from every batch (a sample that comes again counts again), and `sync` merges what the ranks have
learned. Needs torch; runs on CPUs with gloo.
"""

import datetime as dt
import os
import sys

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

import streamnorm as sn
from streamnorm.engines.torch import all_merge
from streamnorm.nn import Normalize, RunningNormalize

SAMPLES = 5003


def data_set():
    """Return readings of two sensors far from 0, and what follows from them."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(SAMPLES, 2, generator=random) * torch.tensor([1.0, 40.0])
    x += torch.tensor([20.0, 1e4])
    return x, ((x[:, :1] - 20) + (x[:, 1:] - 1e4) / 40)


def shard(rank, ranks):
    """Return the samples of a rank: every one belongs to one rank, and the last has few."""
    x, y = data_set()
    if ranks > 2 and rank == ranks - 1:
        return x[:0], y[:0]
    chosen = range(rank, SAMPLES, ranks - (ranks > 2))
    return x[chosen], y[chosen]


def train(model, x, y, *, steps=60, sync=None):
    """Take as many steps on every rank, however many samples it has."""
    parallel = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(parallel.parameters(), lr=0.2)
    for step in range(steps):
        batch = slice(64 * step % max(len(x), 1), 64 * step % max(len(x), 1) + 64)
        optimizer.zero_grad()
        loss = (parallel(x[batch]) - y[batch]).square().sum() / 64
        loss.backward()
        optimizer.step()
        if sync is not None and step % 10 == 9:
            sync()
    return loss.item()


def main():
    if "RANK" not in os.environ:
        sys.exit(f"start it with: torchrun --standalone --nproc-per-node=2 {sys.argv[0]}")
    distributed.init_process_group("gloo", timeout=dt.timedelta(seconds=60))
    rank, ranks = distributed.get_rank(), distributed.get_world_size()
    x, y = shard(rank, ranks)
    torch.manual_seed(0)

    moments = all_merge(sn.measure(x))
    model = nn.Sequential(Normalize.from_moments(moments), nn.Linear(2, 1))
    loss = train(model, x, y)
    exact = all_merge(sn.measure(x, exact=True))
    print(
        f"rank {rank}: {len(x)} samples here, {moments.count[0]} in all, std "
        f"{moments.std().round(4).tolist()}, digest {exact.digest()[:12]}, loss {loss:.2g}",
        flush=True,
    )
    assert exact.digest() == sn.measure(data_set()[0], exact=True).digest()

    running = RunningNormalize(2)
    train(nn.Sequential(running, nn.Linear(2, 1)), x, y, sync=running.sync)
    print(
        f"rank {rank}: learned while training {running.moments.count[0]} values of every sensor, "
        f"std {running.moments.std().round(4).tolist()}",
        flush=True,
    )
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
