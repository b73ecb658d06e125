"""What all engines have in common, without any of them: what is missing is named."""

import os
import subprocess
import sys

import numpy as np
import pytest
from engine_data import hiding

import streamnorm as sn
from streamnorm import StreamnormWarning
from streamnorm.engines.answers import ONE, chosen_columns, finished, plain_errors
from streamnorm.engines.partitions import NOTHING, Found, How, Partition, beside, merged


@pytest.mark.parametrize(
    ("extra", "library"),
    [("dask", "dask"), ("ray", "ray"), ("spark", "pyspark"), ("mpi", "mpi4py")],
)
def test_an_engine_that_is_not_installed_is_named_with_its_extra(extra, library):
    code = f"{hiding(library)}\nimport streamnorm.engines.{extra}"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: streamnorm.engines.{extra} needs {library} (")
    assert last.endswith(f"pip install 'streamnorm[{extra}]'")


def part(*batches, name="partition 0", **how):
    return Partition(How(**how), name).add((batch, None) for batch in batches).found


def column(*columns, **how):
    """What is found in the columns of one partition."""
    partition = Partition(How(**how), "partition 0")
    for values in columns:
        partition.add_column(values)
    return partition.found


def test_a_partition_has_the_bits_of_an_accumulator():
    batches = [np.random.default_rng(k).normal(k, 1, (5, 3)) for k in range(7)]
    assert part(*batches).value == sn.merge(map(sn.measure, batches))


def test_no_batches_are_nobody_knows_what():
    assert part() == NOTHING
    assert merged([NOTHING, NOTHING]) == NOTHING
    with pytest.raises(ValueError, match="the source is empty, there is nothing to measure"):
        finished({ONE: NOTHING}, {ONE: "the source"}, "engine", None)


def test_nothing_among_partitions_changes_nothing():
    some = [part(np.ones((2, 3)), name=f"partition {k}") for k in range(3)]
    assert merged([NOTHING, *some, NOTHING]).value == sn.merge(found.value for found in some)
    assert merged([NOTHING, *some]).value.meta.report.read == 3


def test_partitions_of_other_channels_are_named():
    parts = [part(np.ones((2, c)), name=f"partition {k}") for k, c in enumerate((3, 3, 4))]
    with pytest.raises(ValueError, match="partition 2 has 4 channels but partition 0 has 3"):
        merged(parts)


def test_pieces_of_the_channels_without_rows_are_nothing():
    assert beside([part(np.ones((2, 3))), NOTHING], (2,)) == NOTHING


def test_the_dtype_of_what_is_all_missing_says_nothing(recwarn):
    whole, nothing = np.ones((2, 1), np.int64), np.full((2, 1), np.nan)
    parts = [part(batch, nan_policy="omit") for batch in (whole, nothing)]
    value = finished({ONE: merged(parts)}, {ONE: "x"}, "engine", None)
    assert value.meta.provenance.passes[0].dtype == "int64"
    assert not recwarn.list


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("kind", ["null", "list"])
def test_rows_of_which_nothing_is_known_are_omitted_wherever_they_are(kind, exact):
    pa = pytest.importorskip("pyarrow")
    lists = pa.list_(pa.float64())
    nulls = pa.array([None, None], pa.null() if kind == "null" else lists)
    some = pa.array([[1.0, 2.0], None, [3.0, None]], lists)
    within, behind, alone = (
        column(*columns, exact=exact) for columns in ((nulls, some), (some, nulls), (some,))
    )
    apart = merged([column(nulls, exact=exact), alone, column(exact=exact)])
    for found in (within, behind, apart):
        value = finished({ONE: found}, {ONE: "x"}, "engine", None)
        assert (value.count.tolist(), value.omitted.tolist()) == ([2, 1], [3, 4])
        assert value.meta.report.omitted == 7
        assert value.mean.tolist() == [2.0, 2.0]


def test_rows_of_which_nothing_is_known_among_rows_of_many_values_count_as_such():
    pa = pytest.importorskip("pyarrow")
    nulls, some = pa.array([None, None]), pa.array([[[1.0], [2.0]], [[3.0], [4.0]]])
    found = merged([column(nulls), column(some, channel_axis=-1)])
    value = finished({ONE: found}, {ONE: "x"}, "engine", None)
    assert (value.count.tolist(), value.omitted.tolist()) == ([4], [4])


def test_nothing_but_nulls_of_no_known_size_is_an_error_that_counts_them():
    pa = pytest.importorskip("pyarrow")
    found = merged([column(pa.array([None, None])), NOTHING])
    with pytest.raises(ValueError, match="x holds nothing but 2 nulls: nobody knows what"):
        finished({ONE: found}, {ONE: "x"}, "engine", None)
    sizes = [column(pa.array([[1.0] * k]), channel_axis=None) for k in (2, 3)]
    with pytest.raises(ValueError, match=r"2 rows are null .* 2 or 3 values of a channel"):
        finished({ONE: merged([*sizes, found])}, {ONE: "x"}, "engine", None)


def test_nulls_beyond_what_can_be_counted_are_an_error():
    one_left_out = part(np.array([[1.0], [np.nan]]), nan_policy="omit")
    found = one_left_out._replace(nulls=2**63 - 1, each=(1,))
    with pytest.raises(OverflowError):
        finished({ONE: found}, {ONE: "x"}, "engine", None)


def test_rows_that_were_skipped_are_counted_and_warned_of():
    found = merged([Found(skipped=2), part(np.ones((2, 3)))._replace(skipped=1)])
    with pytest.warns(StreamnormWarning, match="x: 3 rows were skipped, as they are null"):
        value = finished({ONE: found}, {ONE: "x"}, "engine", None)
    assert value.meta.report.skipped == 3


@pytest.mark.parametrize("axis", [0, -2, (1, 0)])
def test_rows_of_a_column_are_no_channels(axis):
    pa = pytest.importorskip("pyarrow")
    with pytest.raises(ValueError, match=r"is that of the rows, which are not channels"):
        column(pa.array([[1.0, 2.0], [3.0, 4.0]]), channel_axis=axis)


def test_a_column_of_no_name_is_one_of_several():
    found = {"": part(np.ones((2, 1))), "b": part(np.ones((2, 1)))}
    assert list(finished(found, {"": "x", "b": "y"}, "engine", None)) == ["", "b"]


def test_nan_of_pandas_is_a_number_and_none_is_not():
    pd = pytest.importorskip("pandas")
    assert np.isnan(column(pd.Series([1.0, np.nan])).value.mean[0])
    assert column(pd.Series([1, None], dtype="Int64")).value.omitted[0] == 1
    assert column(pd.Series([1.0, 2.0], index=["type", "b"])).value.mean[0] == 1.5


@pytest.mark.parametrize(
    ("asked", "there", "error", "message"),
    [
        ([], ["a"], ValueError, "frame was asked for no columns, it has"),
        (["a", "a"], ["a"], ValueError, "column 'a' of frame is there twice, or named twice"),
        ("a", ["a", "a"], ValueError, "column 'a' of frame is there twice"),
        (["z"], ["a"], ValueError, "frame has no column 'z'; it has"),
        (0, ["a"], TypeError, "takes a name or a list of names, got int 0"),
    ],
)
def test_columns_that_cannot_be_are_refused(asked, there, error, message):
    with pytest.raises(error, match=message):
        chosen_columns(asked, there, there, "frame")


def test_columns_that_hold_no_numbers_are_left_out_with_a_warning():
    with pytest.warns(StreamnormWarning, match="as their type is not numeric: 'b'") as warned:
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
