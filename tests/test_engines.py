"""What all engines have in common, without any of them: what is missing is named."""

import os
import subprocess
import sys

import numpy as np
import pytest

import streamnorm as sn
from streamnorm import StreamnormWarning
from streamnorm.engines.answers import chosen_columns, finished, plain_errors
from streamnorm.engines.partitions import How, Partition, beside, merged

HIDE = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {name!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hidden())
import streamnorm.engines.{extra}
"""


@pytest.mark.parametrize(
    ("extra", "library"),
    [("dask", "dask"), ("ray", "ray"), ("spark", "pyspark"), ("mpi", "mpi4py")],
)
def test_an_engine_that_is_not_installed_is_named_with_its_extra(extra, library):
    code = HIDE.format(name=library, extra=extra)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: streamnorm.engines.{extra} needs {library} (")
    assert last.endswith(f"pip install 'streamnorm[{extra}]'")


def part(*batches, name="partition 0", **how):
    return Partition(How(**how), name).add((batch, None) for batch in batches).value


def test_a_partition_has_the_bits_of_an_accumulator():
    batches = [np.random.default_rng(k).normal(k, 1, (5, 3)) for k in range(7)]
    assert part(*batches) == sn.merge(map(sn.measure, batches))


def test_no_batches_are_nobody_knows_what():
    assert part() is None
    assert merged([None, None]) is None
    with pytest.raises(ValueError, match="the source is empty, there is nothing to measure"):
        finished({"": None}, {"": "the source"}, "engine", None)


def test_nothing_among_partitions_changes_nothing():
    some = [part(np.ones((2, 3)), name=f"partition {k}") for k in range(3)]
    assert merged([None, *some, None]) == sn.merge(some)
    assert merged([None, *some]).meta.report.read == 3


def test_partitions_of_other_channels_are_named():
    parts = [part(np.ones((2, c)), name=f"partition {k}") for k, c in enumerate((3, 3, 4))]
    with pytest.raises(ValueError, match="partition 2 has 4 channels but partition 0 has 3"):
        merged(parts)


def test_pieces_of_the_channels_without_rows_are_nothing():
    assert beside([part(np.ones((2, 3))), None], (2,)) is None


def test_the_dtype_of_what_is_all_missing_says_nothing(recwarn):
    whole, nothing = np.ones((2, 1), np.int64), np.full((2, 1), np.nan)
    parts = [part(batch, nan_policy="omit") for batch in (whole, nothing)]
    value = finished({"": merged(parts)}, {"": "x"}, "engine", None)
    assert value.meta.provenance.passes[0].dtype == "int64"
    assert not recwarn.list


def test_columns_that_hold_no_numbers_are_left_out_with_a_warning():
    with pytest.warns(StreamnormWarning, match="left out, as they hold no numbers: 'b'") as warned:
        assert chosen_columns(None, ["a", "b"], ["a"], "frame") == ["a"]
    assert warned[0].filename == __file__


class EngineError(Exception):
    """What an engine makes of the errors of its workers: text."""


@pytest.mark.parametrize(
    ("said", "error", "message"),
    [
        ("task 3 failed\nValueError: too wide (in partition 3)\n", ValueError, "^too wide .in par"),
        ("x\nTypeError: no numbers", TypeError, "^no numbers$"),
        ("ModuleNotFoundError: No module named 'streamnorm'", ModuleNotFoundError, "or so"),
        ("ValueError: inner\nOSError: the disk is gone", EngineError, "the disk is gone"),
        ("the scheduler is gone", EngineError, "the scheduler is gone"),
    ],
)
def test_errors_of_workers_become_what_they_were(said, error, message):
    with pytest.raises(error, match=message), plain_errors("or so"):
        raise EngineError(said)


def test_an_error_that_takes_more_than_a_text_keeps_its_text():
    def broken():
        yield b"\xff".decode("utf-8")

    with pytest.raises(ValueError, match=r"can't decode byte 0xff .* \(in partition 3\)"):
        Partition(How(), "partition 3").add((batch, None) for batch in broken())


def test_an_error_of_our_own_stays_as_it_is():
    own = ValueError("plain")
    with pytest.raises(ValueError, match="plain") as raised, plain_errors("or so"):
        raise own
    assert raised.value is own
