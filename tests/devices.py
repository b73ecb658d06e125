"""The kernels for devices, run here: on a GPU if there is one, else on CPU tensors.

Plain torch runs anywhere. Triton's kernels run on a GPU, or by Triton's interpreter (`conftest.py`
sets TRITON_INTERPRET where there is none). On a machine without a GPU, CPU tensors are taken for
tensors on a device: the one thing that has to be pretended.
"""

import importlib.util
from contextlib import contextmanager
from unittest import mock

import numpy as np
import torch
from laws import Kit

import streamnorm as sn
from streamnorm import tensors
from streamnorm.kernels import device

HAS_TRITON = importlib.util.find_spec("triton") is not None
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
NAMES = ["plain torch", *(["triton"] if HAS_TRITON else [])]


def kernels_called(name):
    return device.plain if name == "plain torch" else device.triton_kernels()


@contextmanager
def measured_by(name):
    """Measure tensors on `DEVICE` by these kernels."""
    kernels = kernels_called(name)
    with (
        mock.patch.object(device, "_kernels_for", return_value=kernels),
        mock.patch.object(tensors, "_elsewhere", lambda where: where.type == DEVICE),
        # Triton's interpreter computes with NumPy, which warns of what a GPU does in silence.
        np.errstate(all="ignore"),
    ):
        yield


def tensor_of(array):
    """Copy an array to the device; one with steps that torch cannot have, as a contiguous one."""
    if not isinstance(array, torch.Tensor):
        array = np.asarray(array)
        array = array.astype(array.dtype.newbyteorder("="), copy=True, order="K")
        if any(step < 0 for step in array.strides):
            array = np.ascontiguousarray(array)
        array = torch.from_numpy(array)
    return array.to(DEVICE)


def kit(name):
    """Return the way to measure a copy of an array on the device."""

    def measure(array, *, mask=None, **options):
        with measured_by(name):
            valid = None if mask is None else tensor_of(mask)
            return sn.measure(tensor_of(array), mask=valid, **options)

    return Kit(name, measure)


KITS = {name: kit(name) for name in NAMES}
