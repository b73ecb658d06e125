"""Statistics of a Ray data set, block by block, ready for the training that follows.

    pip install 'streamnorm[ray]'
    python examples/engines/with_ray.py

On a cluster: `ray.init("auto")`, and streamnorm on all nodes, for example by
`runtime_env={"pip": ["streamnorm"]}`; `ray.data.read_parquet("s3://…")` and the like as they are.
"""

import os

import numpy as np

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
import ray.data

import streamnorm as sn
from streamnorm.engines.ray import compute


def main():
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    states = np.random.default_rng(0).normal([0.0, 300.0, -5.0], [1.0, 0.1, 40.0], (30_000, 3))
    dataset = ray.data.from_numpy(np.array_split(states, 12))
    moments = compute(dataset, columns="data")
    print(moments)

    exact = compute(dataset.repartition(5), columns="data", exact=True)
    alone = sn.measure(states, exact=True)
    print(f"other blocks, one process, the same digest: {exact.digest() == alone.digest()}")

    # The numbers go where the data are.
    normalize = sn.Normalize.from_moments(moments)
    normalized = dataset.map_batches(lambda batch: {"data": normalize(batch["data"])})
    print(f"normalized: std {compute(normalized, columns='data').std().round(6).tolist()}")
    ray.shutdown()


if __name__ == "__main__":
    main()
