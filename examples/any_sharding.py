"""The same data with 1, 7 and 64 workers, in shuffled batches: rounded and exact answers.

    python examples/any_sharding.py

float64 results differ in their last digits from one sharding to the next. Exact ones are the same,
so a digest names them; and a shard can be taken out again without reading the rest.
"""

import numpy as np

import streamnorm as sn


def sensor_readings():
    """200,000 samples of three channels, float32: far from 0, tiny, and of many magnitudes."""
    rng = np.random.default_rng(0)
    readings = rng.normal(size=(200_000, 3)) * [1.0, 1e-6, 1.0] + [1e4, 0.0, 0.0]
    readings[:, 2] = np.exp(3 * readings[:, 2])
    return readings.astype(np.float32)


def shards(data, workers, seed):
    """Split shuffled data among workers, each with its batches."""
    shuffled = np.random.default_rng(seed).permutation(data)
    return [np.array_split(part, 5) for part in np.array_split(shuffled, workers)]


def measured(batches, *, exact):
    accumulator = sn.Accumulator(exact=exact)
    for batch in batches:
        accumulator.update(batch)
    return accumulator.moments


def main():
    data = sensor_readings()
    print("workers  mean of channel 0, rounded  std of channel 2, rounded  digest, exact")
    for workers in (1, 7, 64):
        parts = shards(data, workers, seed=workers)
        rounded = sn.merge(measured(part, exact=False) for part in parts)
        exact = sn.merge(measured(part, exact=True) for part in parts)
        print(
            f"{workers:7}  {rounded.mean[0]:25.17g}  {rounded.std()[2]:25.17g}  "
            f"{exact.digest()[:16]}"
        )
    print(f"  exact  {exact.mean[0]:25.17g}  {exact.std()[2]:25.17g}  (correctly rounded)")

    first, *others = (measured(part, exact=True) for part in parts)
    rest = exact - first
    afresh = sn.merge(others)
    print(f"\nwithout the first of {workers} shards: {rest}")
    print(
        f"the digest of the others measured afresh is the same: {rest.digest() == afresh.digest()}"
    )


if __name__ == "__main__":
    main()
