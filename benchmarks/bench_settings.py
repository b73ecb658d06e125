"""Other numbers of lanes, tiles and boxes, and other instruction sets, each in its own process."""

import json
import os
import subprocess
import sys

import pytest

from benchmarks.data import QUICK

SETTINGS = {
    "as it is": [],
    "vectors of 32 bytes": ["LINE=32"],
    "vectors of 128 bytes": ["LINE=128"],
    "tiles of 64 lines": ["TILE_LINES=64"],
    "tiles of 128 lines": ["TILE_LINES=128"],
    "tiles of 512 lines": ["TILE_LINES=512"],
    "tiles of 1024 lines": ["TILE_LINES=1024"],
    "boxes of 2^16 values": ["BOX_VALUES=65536", "MOST_BOX_VALUES=65536"],
    "boxes of 2^18 values": ["MOST_BOX_VALUES=262144"],
    "boxes of 2^22 values": ["MOST_BOX_VALUES=4194304"],
    "2048 rows in a box": ["_MOST_FEWEST_ROWS=2048"],
    "8192 rows in a box": ["_FEWEST_ROWS=8192"],
    "wide rows not swept": ["SWEPT_PANELS=1000000"],
    "2 rows swept at a time": ["SWEPT_ROWS=2"],
    "8 rows swept at a time": ["SWEPT_ROWS=8"],
    "no prefetch": ["AHEAD_BYTES=0"],
    "prefetch 5 KB ahead": ["AHEAD_BYTES=5120"],
    "prefetch 8 KiB ahead": ["AHEAD_BYTES=8192"],
    "prefetch 20 KB ahead": ["AHEAD_BYTES=20480"],
}
PROCESSORS = {"AVX2 (haswell)": "haswell", "SSE4 (nehalem)": "nehalem"}


def shares(arguments, cache, **environment):
    """Return what a process with other settings reaches."""
    command = [sys.executable, "-m", "benchmarks.settings", *arguments]
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)} | environment
    run = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(run.stdout)


@pytest.mark.skipif(QUICK, reason="not in quick mode")
@pytest.mark.parametrize("name", [*SETTINGS, *PROCESSORS])
def test_setting(race, name, tmp_path):
    found = []
    model = {"NUMBA_CPU_NAME": PROCESSORS[name]} if name in PROCESSORS else {}

    def work():
        found.append(shares(SETTINGS.get(name, []), tmp_path, **model))

    info = race(work, name, column="shares", rounds=1, warm=0)
    info["shares"] = found[-1]
