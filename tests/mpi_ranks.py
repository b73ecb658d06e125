"""What every rank does; run by `test_engine_mpi.py` under mpiexec or torchrun.

Every rank writes what it found to a file of its own, as JSON.
"""

import json
import sys
from pathlib import Path

import engine_data
import numpy as np

import streamnorm as sn


def by_mpi():
    """Return this rank, the number of ranks, and what merges."""
    from mpi4py import MPI

    from streamnorm.engines.mpi import all_merge

    return MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size, all_merge


def by_torch():
    from torch import distributed

    from streamnorm.engines.torch import all_merge

    distributed.init_process_group("gloo")
    return distributed.get_rank(), distributed.get_world_size(), all_merge


def batches(source, rank, ranks, data):
    """Yield what this rank reads of a source."""
    if source == "cifar":
        for at in range(rank * 1000, engine_data.IMAGES, ranks * 1000):
            yield engine_data.cifar(data / "cifar10" / "train_images.npy", at, at + 1000)
    elif source == "robots":
        yield engine_data.robots(data)[rank::ranks]
    else:
        for month in range(rank, 24, ranks):
            yield engine_data.sea(engine_data.sea_path(data), month)[None]


AXES = {"cifar": -1, "robots": 1, "sea": None}


def real(all_merge, rank, ranks, data):
    found = {}
    for source, axis in AXES.items():
        for exact in (True, False):
            accumulator = sn.Accumulator(
                channel_axis=axis, exact=exact, nan_policy="omit", threads=1
            )
            for batch in batches(source, rank, ranks, Path(data)):
                accumulator.update(batch)
            value = all_merge(accumulator.moments)
            bits = value.digest() if exact else value.rows.tobytes().hex()
            found[f"{source} {'exact' if exact else 'rounded'}"] = bits
            found[f"{source} omitted"] = int(value.omitted[0])
    return found


def uneven(all_merge, rank, ranks):
    """Some rows, one row, only NaN, nothing at all; and many more."""
    rows = [np.arange(10.0)[:, None], [[5.0]], np.full((3, 1), np.nan), None][rank]
    value = None if rows is None else sn.measure(rows, exact=True, nan_policy="omit")
    total = all_merge(value)
    return {"count": int(total.count[0]), "omitted": int(total.omitted[0]), "hex": total.digest()}


def labelled(all_merge, rank, ranks):
    value = sn.measure([[float(rank)]]).with_meta(labels=f"train#{rank}")
    return {"labels": list(map(str, all_merge(value).meta.labels))}


REFUSED = {
    "channels": lambda rank: sn.measure(np.ones((2, 2 + (rank == 2)))),
    "kinds": lambda rank: sn.measure([[1.0]], exact=rank == 1),
    "labels": lambda rank: sn.measure([[1.0]]).with_meta(labels="train#0"),
    "types": lambda rank: 7 if rank == 3 else sn.measure([[1.0]]),
    "nothing": lambda rank: None,
}


def refusing(all_merge, rank, ranks):
    found = {}
    for name, make in REFUSED.items():
        try:
            all_merge(make(rank))
        except ValueError as error:
            found[name] = str(error)
    return found


def raising(all_merge, rank, ranks):
    if rank == 2:
        raise RuntimeError("this rank cannot read its shard")
    return {"bits": all_merge(sn.measure([[1.0]])).rows.tobytes().hex()}


def main(engine, folder, scenario, *arguments):
    rank, ranks, all_merge = {"mpi": by_mpi, "torch": by_torch}[engine]()
    found = globals()[scenario](all_merge, rank, ranks, *arguments)
    (Path(folder) / f"{scenario}-{rank}.json").write_text(json.dumps(found))
    if engine == "torch":
        from torch import distributed

        distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
