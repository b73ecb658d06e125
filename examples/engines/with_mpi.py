"""Every rank measures its share of the files, and all of them get the statistics of the whole.

    pip install 'streamnorm[mpi]' mpich     # or the MPI of your cluster
    mpiexec -n 4 python -m mpi4py examples/engines/with_mpi.py

On a cluster: `srun python -m mpi4py …` with its own MPI. `-m mpi4py` ends all ranks when one of
them raises. There may be fewer shards than ranks.
"""

import numpy as np
from mpi4py import MPI

import streamnorm as sn
from streamnorm.engines.mpi import all_merge

SHARDS = 7


def shard(number):
    """Read a shard; here it is made up."""
    return np.random.default_rng(number).normal(number, 1, (1000 + number, 3)).astype(np.float32)


def main():
    rank, ranks = MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size
    accumulator = sn.Accumulator(channels=3, exact=True)
    for number in range(rank, SHARDS, ranks):
        accumulator.update(shard(number))
    total = all_merge(accumulator.moments)
    alone = sn.merge([sn.measure(shard(number), exact=True) for number in range(SHARDS)])
    same = total.digest() == alone.digest()
    print(f"rank {rank}: {total.count[0]:,} rows in all, the digest of one process: {same}")


if __name__ == "__main__":
    main()
