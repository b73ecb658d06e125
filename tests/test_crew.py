"""Threads that help with an array: whoever helps, whatever befalls them, the bits are the same."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

import streamnorm as sn
from streamnorm.kernels import crew, floats
from streamnorm.kernels.desk import ACTIVE, STATE

BIG = 2**20 + 7
KINDS = ("float32", "float64", "float16", "uint8", "int16", "int32")


def new_crew(monkeypatch):
    own = crew._Crew()
    monkeypatch.setattr(crew, "_crew", lambda: own)
    monkeypatch.setattr(crew, "WORTH_HELPERS", 0)
    return own


def arrays(count, seed):
    """Yield arrays of many dtypes and sizes, some with NaN, each with a number of threads."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        values = rng.normal(20, 9, (int(rng.integers(1, 9)) * 2**18 + int(rng.integers(1000)), 3))
        values = values.astype(rng.choice(KINDS))
        if values.dtype.kind == "f" and rng.random() < 0.5:
            values[rng.integers(len(values), size=3), 1] = rng.choice([np.nan, np.inf])
        yield values, int(rng.choice([2, 3, 7, 16]))


def test_hundreds_of_jobs_in_a_row_have_the_bits_of_one_thread():
    for values, threads in arrays(12, seed=1):
        alone = sn.measure(values, threads=1)
        assert all(sn.measure(values, threads=threads) == alone for _ in range(40))


@pytest.mark.parametrize("policy", ["propagate", "omit"])
def test_masked_jobs_have_the_bits_of_one_thread(policy):
    for values, threads in arrays(8, seed=3):
        mask = np.random.default_rng(0).random(values.shape) < 0.8
        given = {"mask": mask, "nan_policy": policy}
        alone = sn.measure(values, threads=1, **given)
        assert (alone.omitted >= (~mask).sum(0)).all()
        assert all(sn.measure(values, threads=threads, **given) == alone for _ in range(10))


def test_callers_at_the_same_time_get_their_own_results():
    work = list(arrays(4, seed=2))
    truth = [sn.measure(values, threads=1) for values, _ in work]
    wrong = []

    def call(k):
        for _ in range(60):
            values, threads = work[k]
            if sn.measure(values, threads=threads) != truth[k]:
                wrong.append(k)

    callers = [threading.Thread(target=call, args=(k,)) for k in range(len(work))]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert wrong == []


def test_what_befalls_a_helper_is_raised_where_the_job_was_given(monkeypatch):
    values = np.ones((BIG, 2))
    arrived = threading.Event()

    def fail(*arguments):
        desk, number = arguments[8], arguments[10]
        while desk[STATE] % 2 == 0 and not own.closed:
            time.sleep(0)
        desk[ACTIVE + number] = 1
        arrived.set()
        raise MemoryError("of the helper")

    def measure_until_helped():
        while True:
            sn.measure(values, threads=2)
            arrived.wait(1)

    own = new_crew(monkeypatch)
    monkeypatch.setattr(floats, "serve", fail)
    with pytest.raises(MemoryError, match="of the helper"):
        measure_until_helped()
    own.close()


@pytest.mark.parametrize("odd", [1.0, np.nan], ids=["finite", "with NaN"])
def test_a_helper_takes_part(monkeypatch, odd):
    own = new_crew(monkeypatch)
    serve, joined = floats.serve, []

    def note(*arguments):
        seen = serve(*arguments)
        counting = arguments[6] is not None
        joined.append(seen if counting == np.isnan(odd) else 0)
        return seen

    monkeypatch.setattr(floats, "serve", note)
    values = np.ones((BIG, 2))
    values[:: 2**12] = odd
    deadline = time.monotonic() + 60
    while not any(joined) and time.monotonic() < deadline:
        sn.measure(values, threads=2)
    own.close()
    assert any(joined)


def test_where_no_thread_can_be_started_the_caller_works_alone(monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    new_crew(monkeypatch)
    monkeypatch.setattr(crew._Helper, "start", refuse)
    values = np.arange(2.0 * BIG).reshape(-1, 2)
    assert sn.measure(values, threads=3) == sn.measure(values, threads=1)


def test_one_small_array_calls_no_helpers(monkeypatch):
    own = crew._Crew()
    monkeypatch.setattr(crew, "_crew", lambda: own)
    values = np.ones((BIG, 2))
    sn.measure(values, threads=2)
    assert own._helpers == []
    for _ in range(crew.WORTH_HELPERS):
        sn.measure(values, threads=2)
    assert len(own._helpers) == 1
    own.close()


def test_helpers_go_to_sleep_and_can_be_woken(monkeypatch):
    own = new_crew(monkeypatch)
    values = np.arange(2.0 * BIG).reshape(-1, 2)
    sn.measure(values, threads=2)
    (helper,) = own._helpers
    for _ in range(3):
        deadline = threading.Event()
        while not helper.asleep:
            deadline.wait(0.001)
        sn.measure(values, threads=2)
    own.close()
    assert not helper.is_alive()


def test_a_helper_that_fails_by_itself_goes_and_changes_nothing(monkeypatch):
    reported = []
    own = new_crew(monkeypatch)
    monkeypatch.setattr(threading, "excepthook", lambda about: reported.append(about.exc_value))
    monkeypatch.setattr(floats, "serve", lambda *_: 1 // 0)
    values = np.ones((BIG, 2))
    alone = sn.measure(values, threads=1)
    assert sn.measure(values, threads=2) == alone
    (helper,) = own._helpers
    helper.join()
    assert sn.measure(values, threads=2) == alone
    assert [type(error) for error in reported] == [ZeroDivisionError]


def test_a_process_can_fork_while_a_helper_is_compiled(tmp_path):
    fork = """
import multiprocessing
with multiprocessing.get_context("fork").Pool(2) as pool:
    jobs = [pool.apply_async(sn.measure, (np.ones((2**21, 2), "uint8"),)) for _ in range(4)]
    assert all(job.get(60).count[0] == 2**21 for job in jobs)
"""
    done = run(calls=8, after=fork, NUMBA_CACHE_DIR=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_child_has_helpers_of_its_own():
    values = np.arange(2.0 * BIG).reshape(-1, 2)
    expected = sn.measure(values, threads=2)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        children = [pool.apply_async(sn.measure, (values,), {"threads": 2}) for _ in range(4)]
        assert [child.get(60) for child in children] == [expected] * 4
    assert sn.measure(values, threads=2) == expected


SCRIPT = """
import os, signal
import numpy as np, streamnorm as sn
{before}
for _ in range({calls}):
    sn.measure(np.ones((2**20, 2)), threads=4)
{after}
"""


def run(before="", calls=3, after="", **environment):
    script = textwrap.dedent(SCRIPT).format(before=before, calls=calls, after=after)
    return subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True, text=True, timeout=100, check=False, env=os.environ | environment,
    )  # fmt: skip


@pytest.mark.parametrize("calls", [1, 300])
def test_a_process_ends_quietly_while_its_helpers_watch(calls):
    done = run(calls=calls)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_process_ends_quietly_while_a_helper_is_still_compiled(tmp_path):
    done = run(calls=8, NUMBA_CACHE_DIR=str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_process_can_measure_while_it_ends():
    again = (
        "import atexit; atexit.register(lambda: print(sn.measure(np.ones((2**20, 2)), threads=4)))"
    )
    done = run(before=again)
    assert (done.returncode, done.stderr) == (0, "")
    assert "n=1048576" in done.stdout.replace("_", "").replace(",", "")


def test_ctrl_c_ends_a_process_whose_helpers_work():
    interrupt = "os.kill, (os.getpid(), signal.SIGINT)"
    done = run(before=f"import threading; threading.Timer(0.5, {interrupt}).start()", calls=10**6)
    assert done.returncode in (1, -signal.SIGINT)
    assert done.stderr.rstrip().endswith("KeyboardInterrupt")
