"""What every rank of a process group does; run by `test_distributed.py` under torchrun.

Every rank writes what it found to a file of its own, as JSON.
"""

import datetime as dt
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import distributed

import streamnorm as sn
from streamnorm.engines.torch import all_merge
from streamnorm.nn import RunningNormalize

SIZES = (700, 3, 0, 1)
"""Rows of each rank: uneven, none at all, a single one."""


def table():
    return np.random.default_rng(0).normal(300, 1, (sum(SIZES), 3)).astype(np.float32)


def share(rank):
    """Return the rows of a rank."""
    start = sum(SIZES[:rank])
    return table()[start : start + SIZES[rank]]


def batches(rank, step):
    """Return the batch of a training step: other sizes on every rank, none on some."""
    rows = (rank * 5 + step * 3) % 8
    return torch.from_numpy(np.random.default_rng([rank, step]).normal(50, 9, (rows, 3)))


def described(value):
    document = {name: getattr(value, name).tolist() for name in ("count", "mean", "m2", "omitted")}
    return document | {"bits": value.rows.tobytes().hex(), "names": value.meta.names}


def refusal(call):
    """Return what is said where something is refused."""
    try:
        call()
    except (RuntimeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def merging(rank, ranks):
    own = share(rank)
    exact = sn.measure(own, exact=True)
    found = {
        "rounded": described(all_merge(sn.measure(own).with_meta(names=("a", "b", "c")))),
        "exact": all_merge(exact).digest(),
        "nothing here": all_merge(None if rank else exact).digest(),
        "wider": all_merge(sn.measure(own.astype("f8") if rank else own, exact=True)).digest(),
        "some ranks": None,
    }
    group = distributed.new_group([0, 1])
    if rank < 2:
        found["some ranks"] = all_merge(exact, group).digest()
    return found


def refusing(rank, ranks):
    value = sn.Moments.empty(3)
    return {
        "channels": refusal(lambda: all_merge(sn.Moments.empty(3 if rank else 4))),
        "kinds": refusal(lambda: all_merge(sn.ExactMoments.empty(3) if rank else value)),
        "nothing": refusal(lambda: all_merge(None)),
        "no value": refusal(lambda: all_merge(sn.Accumulator() if rank else value)),
        "no channels": refusal(lambda: all_merge(sn.Moments.empty(0))),
        "forgetting": refusal(lambda: RunningNormalize(3, half_life=9.0 if rank else None).sync()),
        "names": refusal(
            lambda: all_merge(value.with_meta(names=tuple(f"{c}{rank}" for c in "abc")))
        ),
        "beginnings": refusal(lambda: other_beginning(rank).sync()),
    }


def other_beginning(rank):
    module = RunningNormalize(3)
    if rank:
        other = RunningNormalize(3)
        other(torch.ones(4, 3))
        module.load_state_dict(other.state_dict())
    return module


def syncing(rank, ranks):
    """Train, and sync at every step, twice, or only at the end."""
    found = {}
    for name, every in (("at every step", 1), ("at the end", 8)):
        module = RunningNormalize(3)
        for step in range(8):
            module(batches(rank, step))
            if (step + 1) % every == 0:
                module.sync().sync()
        found[name] = described(module.moments)
    # One that starts from a checkpoint of one rank: what that has is there once.
    again = RunningNormalize(3)
    again.load_state_dict(module.state_dict())
    found["resumed"] = described(again.sync().moments)
    return found


def training(rank, ranks):
    """Under DDP, whose buffers are those of rank 0 at every forward."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(RunningNormalize(3), torch.nn.Linear(3, 2)).double()
    parallel = torch.nn.parallel.DistributedDataParallel(network, broadcast_buffers=True)
    for step in range(8):
        # A backward pass wants something to go back from.
        parallel(torch.cat([batches(rank, step), torch.ones(1, 3)])).sum().backward()
    own = described(network[0].moments)
    return {"own": own, "together": described(network[0].sync().moments)}


def sharding(rank, ranks):
    """Under FSDP with mixed precision, which casts buffers to bfloat16."""
    from torch.distributed.fsdp import FullyShardedDataParallel, MixedPrecision

    network = torch.nn.Sequential(RunningNormalize(3), torch.nn.Linear(3, 8))
    precision = MixedPrecision(buffer_dtype=torch.bfloat16, cast_forward_inputs=False)
    sharded = FullyShardedDataParallel(
        network, mixed_precision=precision, device_id=torch.device("cpu")
    )
    for step in range(4):
        sharded(torch.cat([batches(rank, step).float(), torch.ones(1, 3)]))
    module = next(m for m in sharded.modules() if isinstance(m, RunningNormalize))
    return {"dtype": str(module.statistics.dtype), "moments": described(module.moments)}


def dying(rank, ranks):
    """Rank 1 is gone before the others gather."""
    if rank == 1:
        os._exit(3)
    began = time.monotonic()
    said = refusal(lambda: all_merge(sn.measure(share(rank))))
    return {"said": said, "seconds": time.monotonic() - began}


def main(folder, names):
    distributed.init_process_group("gloo", timeout=dt.timedelta(seconds=15))
    rank, ranks = distributed.get_rank(), distributed.get_world_size()
    if "dying" in names:
        # Who leaves while another still connects breaks that one's start, not its gathering.
        Path(folder, f"ready-{rank}").touch()
        while len(list(Path(folder).glob("ready-*"))) < ranks:
            time.sleep(0.01)
    for name in names:
        found = globals()[name](rank, ranks)
        Path(folder, f"{name}-{rank}.json").write_text(json.dumps(found))
    if "dying" not in names:
        distributed.destroy_process_group()
    else:
        os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
