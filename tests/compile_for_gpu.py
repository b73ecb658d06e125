"""Compile Triton's kernels for GPUs that are not here, as they would be started; print JSON.

Run by `test_triton_compiles.py` in a process of its own, since there Triton must not interpret.
Tensors without memory stand for gigabytes: only their shapes and dtypes are looked at.
"""

import json
import re
import sys
from itertools import cycle

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from streamnorm.dtypes import precision_of
from streamnorm.kernels import triton_launch, triton_running

SHAPES = {
    "runs": (256, 3, 50176),
    "torn runs": (128, 3, 3600),
    "few": (3_000_000, 3, 1),
    "lanes": (65_536, 4096, 1),
    "small": (32, 16, 1),
    # Integers that are 1 become constants.
    "one channel": (1, 1, 100_001),
    "a few values": (1, 1, 5),
}
CASES = [
    *(("float32", shape, {}) for shape in SHAPES),
    ("bfloat16", "few", {}),
    ("bfloat16", "runs", {}),
    ("float64", "runs", {}),
    ("int32", "few", {}),
    ("float32", "lanes", {"masked": True}),
    ("float32", "runs", {"masked": True, "omit": True}),
    *(("uint8", shape, {}) for shape in ("runs", "few", "lanes")),
    ("int16", "runs", {}),
    ("uint8", "one channel", {}),
    ("int8", "a few values", {}),
    ("float32", "one channel", {"exact": True}),
    ("float16", "a few values", {"exact": True}),
    ("uint8", "few", {"masked": True}),
    *(("float32", shape, {"exact": True}) for shape in ("runs", "few", "lanes")),
    ("bfloat16", "few", {"exact": True}),
    ("uint32", "runs", {"exact": True}),
    ("float16", "lanes", {"exact": True, "masked": True}),
]
POINTERS = {
    torch.float16: "*fp16", torch.float32: "*fp32", torch.float64: "*fp64", torch.int8: "*i8",
    torch.int16: "*i16", torch.int32: "*i32", torch.int64: "*i64", torch.uint8: "*u8",
    torch.uint16: "*u16", torch.uint32: "*u32", torch.bool: "*i1",
}  # fmt: skip
OPTIONS = ("num_warps", "maxnreg", "enable_fp_fusion")


class Recorder:
    """Takes the place of a kernel, and remembers how it was started."""

    def __init__(self, kernel, calls):
        self.kernel, self.calls = kernel, calls
        self.__name__, self.arg_names = kernel.__name__, kernel.arg_names

    def __getitem__(self, grid):
        return lambda *args, **kwargs: self.calls.append((self.kernel, args, kwargs))


def started(dtype, shape, *, masked=False, omit=False, exact=False):
    """Return the kernels that a tensor of this shape would have started."""
    calls = []
    names = ("measure_floats", "merge_partials", "sum_integers", "sum_floats")
    kernels = {name: getattr(triton_launch, name) for name in names}
    for name, kernel in kernels.items():
        setattr(triton_launch, name, Recorder(kernel, calls))
    x = torch.empty(shape, dtype=getattr(torch, dtype), device="meta")
    valid = torch.empty(shape, dtype=torch.bool, device="meta") if masked else None
    plan = triton_launch._plan_for(shape, precision_of(dtype), masked, exact, omit)
    plan(x, valid)
    for name, kernel in kernels.items():
        setattr(triton_launch, name, kernel)
    return calls


def running():
    """Return the kernel of a step of running moments as it would have been started."""
    start = triton_running._start(24, 17, 32)
    calls, sizes = [], ((23, 24), (5, 17), (6, 17), (3, 17))
    tensors = [torch.empty(size, dtype=torch.float64, device="meta") for size in sizes]
    tensors[-1] = tensors[-1].float()
    Recorder(start.kernel, calls)[(1,)](
        *tensors, **start.given, **start.options, enable_fp_fusion=False
    )
    return calls


def compiled(kernel, args, kwargs, capability):
    """Compile one start, specialised as Triton's launcher does it."""
    options = {name: kwargs.pop(name) for name in OPTIONS if name in kwargs}
    given = dict(zip(kernel.arg_names, args, strict=False)) | kwargs
    signature, constants, attributes = {}, {}, {}
    for at, name in enumerate(kernel.arg_names):
        value = given[name]
        if isinstance(value, torch.Tensor):
            signature[name] = POINTERS[value.dtype]
            attributes[at,] = [["tt.divisibility", 16]]
        elif kernel.params[at].is_constexpr or value == 1:
            signature[name], constants[name] = "constexpr", value
        else:
            signature[name] = "i32" if abs(value) < 2**31 else "i64"
            if value % 16 == 0:
                attributes[at,] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature, constants, attributes)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


def main(capabilities):
    """Compile every case for one of the architectures, in turn."""
    step = ("step", "running", {})
    for (dtype, shape, more), capability in zip(
        [step, step, *CASES], cycle(capabilities), strict=False
    ):
        calls = running() if dtype == "step" else started(dtype, SHAPES[shape], **more)
        for kernel, args, kwargs in calls:
            made = compiled(kernel, args, dict(kwargs), capability)
            atomics = re.findall(r"\b(?:atom|red)\.[\w.]+", made.asm["ptx"])
            row = {
                "kernel": kernel.fn.__name__,
                "case": f"{dtype}, {shape}, {more}",
                "capability": capability,
                "bytes": len(made.asm["cubin"]),
                "flushes": ".ftz" in made.asm["ptx"],
                "wide loads": bool(re.search(r"ld\.global\.v[24]\.", made.asm["ptx"])),
                "most registers": [int(n) for n in re.findall(r"\.maxnreg (\d+)", made.asm["ptx"])],
                "atomics": len(atomics),
                "float atomics": sum(".f" in name for name in atomics),
            }
            print(json.dumps(row))


if __name__ == "__main__":
    main([int(argument) for argument in sys.argv[1:]])
