"""The public API as a type checker sees it; checked by mypy, never run."""

from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import streamnorm as sn
from streamnorm.engines.torch import all_merge
from streamnorm.nn import RunningNormalize

moments = sn.measure(np.zeros((2, 3)), channel_axis=(0, 1), nan_policy="omit", threads=2)
assert_type(moments, sn.Moments)
assert_type(moments + moments, sn.Moments)
assert_type(sn.merge([moments]), sn.Moments)
assert_type(moments.mean, NDArray[np.float64])
assert_type(moments.count, NDArray[np.int64])
assert_type(moments.std(ddof=1), NDArray[np.float64])
assert_type(sn.Accumulator(channel_axis=None).update([[1.0]]), sn.Accumulator)
assert_type(sn.compute("folder", workers=2, on_error="skip", progress=print), sn.Moments | Any)
assert_type(sn.load("file.json", verify=False), sn.Moments | sn.ExactMoments | Any)
exact = sn.measure([[1.0]], exact=True)
assert_type(exact, sn.ExactMoments)
assert_type(exact - exact, sn.ExactMoments)
assert_type(exact.moments, sn.Moments)
assert_type(sn.Accumulator(exact=True).moments, sn.ExactMoments)
assert_type(sn.compute("folder", exact=True), sn.ExactMoments | Any)
assert_type(sn.Accumulator().moments, sn.Moments)
assert_type(sn.Normalize.from_moments(moments, zero_variance=1e-6), sn.Normalize)
sn.save(moments, "file.json")
for _, label in sn.Accumulator().watch([(np.zeros((2, 3)), "label")], select=0):
    assert_type(label, str)
assert_type(all_merge(exact), sn.ExactMoments)
assert_type(all_merge(moments), sn.Moments)
assert_type(RunningNormalize(3).sync().moments, sn.Moments)

sn.measure([1.0], nan_policy="skip")  # type: ignore[call-overload]
sn.compute([], on_error="ignore")  # type: ignore[call-overload]
sn.Normalize.from_moments(moments, zero_variance="keep")  # type: ignore[arg-type]
