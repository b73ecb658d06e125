"""From nothing to the first answer: a new process, until it has it.

To take itself apart, Python needs 0.2 s more once Numba is loaded; nobody waits for that.
"""

import os
import subprocess
import sys

import pytest

from benchmarks.data import QUICK

MEASURE = """
import numpy as np
import streamnorm as sn
sn.measure(np.ones((16, 3, 224, 224), np.float32))
"""
STARTS = {
    "python": "pass",
    "import numpy": "import numpy",
    "import streamnorm": "import streamnorm",
    "first measure, kernel cached": MEASURE,
    "first measure, nothing cached": MEASURE,
}


@pytest.mark.skipif(QUICK, reason="not in quick mode")
@pytest.mark.parametrize("name", STARTS)
def test_start(race, tmp_path, name):
    caches = iter(range(1000))

    def work():
        cache = tmp_path / (str(next(caches)) if name.endswith("nothing cached") else "one")
        subprocess.run(
            [sys.executable, "-c", f"{STARTS[name]}\nimport os; os._exit(0)"], check=True,
            env=os.environ | {"NUMBA_CACHE_DIR": str(cache)},
        )  # fmt: skip

    race(work, name, column="seconds", rounds=5)
