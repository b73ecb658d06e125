"""Columns of Arrow tables: nulls are masked, lists become places, other things are refused."""

import decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamnorm.arrow import batches_of, is_numeric, is_scalar, is_unknown

pa = pytest.importorskip("pyarrow")


def only(column):
    """The one batch of a column, nulls as NaN."""
    ((array, mask),) = batches_of(column)
    return np.where(True if mask is None else mask, array.astype(float), np.nan).tolist()


NAN = pytest.approx(np.nan, nan_ok=True)


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([1, 2], pa.int8(), [1, 2]),
        ([1, None, 3], pa.uint64(), [1, NAN, 3]),
        ([1.5, None], pa.float16(), [1.5, NAN]),
        ([True, None, False], pa.bool_(), [1, NAN, 0]),
        ([decimal.Decimal("1.5"), None], pa.decimal128(5, 2), [1.5, NAN]),
        ([[1, 2], [3, 4]], pa.list_(pa.int32()), [[1, 2], [3, 4]]),
        ([[1, 2], None, [3, None]], pa.large_list(pa.int32()), [[1, 2], [NAN, NAN], [3, NAN]]),
        ([[1, 2], None], pa.list_(pa.float32(), 2), [[1, 2], [NAN, NAN]]),
        ([[[1], [2]], [[3], [4]]], pa.list_(pa.list_(pa.int8())), [[[1], [2]], [[3], [4]]]),
        ([[], []], pa.list_(pa.int8()), [[], []]),
        ([None, None], pa.list_(pa.int8(), 1), [[NAN], [NAN]]),
    ],
)
def test_numbers_lists_and_nulls(values, kind, expected):
    column = pa.array(values, kind)
    assert is_numeric(column.type)
    assert only(column) == expected


def test_a_slice_of_a_list_column_starts_where_it_says():
    column = pa.array([[9.0, 9.0], None, [1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float64(), 2))
    assert only(column[2:]) == [[1, 2], [3, 4]]


@given(st.lists(st.none() | st.lists(st.none() | st.integers(-9, 9), min_size=3, max_size=3)))
def test_nothing_is_lost_and_nothing_is_made_up(rows):
    column = pa.array(rows, pa.list_(pa.int16()))
    if rows and not any(rows):
        return
    flat = [value for row in rows for value in ([None] * 3 if row is None else row)]
    got = [(a, m) for a, m in batches_of(column)]
    masks = [np.ones(a.shape, bool) if m is None else m for a, m in got]
    kept = [v for (a, _), m in zip(got, masks, strict=True) for v in a[m].tolist()]
    assert kept == [value for value in flat if value is not None]
    assert sum(mask.size for mask in masks) == len(flat)


def test_chunks_come_one_by_one_and_empty_ones_not_at_all():
    column = pa.chunked_array([[1, 2], [], [3]], pa.int64())
    assert [array.tolist() for array, _ in batches_of(column)] == [[1, 2], [3]]


def test_tensors_of_one_shape():
    tensors = np.arange(24.0).reshape(2, 3, 4)
    column = pa.FixedShapeTensorArray.from_numpy_ndarray(tensors)
    assert only(column) == tensors.tolist()
    assert not is_scalar(column.type)


@pytest.mark.parametrize("values", [["a"], [b"a"], [{"a": 1}], [["a"]]])
def test_what_holds_no_numbers_is_refused(values):
    column = pa.array(values)
    assert not is_numeric(column.type)
    with pytest.raises(TypeError, match="holds no numbers"):
        list(batches_of(column))


def test_lists_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="lists are of 1 to 2 numbers; a channel is a place"):
        list(batches_of(pa.array([[1], [1, 2]])))


def test_lists_of_a_chunk_that_are_all_null_are_as_long_as_the_others():
    column = pa.chunked_array([[None], [[1, 2]]], pa.list_(pa.int8()))
    masks = [mask for _, mask in batches_of(column)]
    assert masks[0].tolist() == [[False, False]]


def test_nothing_of_no_type_is_nothing():
    assert list(batches_of(pa.array([], pa.null()))) == []


@pytest.mark.parametrize("kind", [pa.null(), pa.list_(pa.int8()), pa.large_list(pa.float64())])
def test_of_rows_that_are_all_null_nobody_may_know_how_many_values_they_have(kind):
    assert is_unknown(pa.array([None, None], kind))
    assert not is_unknown(pa.array([], kind))
    assert not is_unknown(pa.array([None], pa.list_(pa.int8(), 2)))
    assert not is_unknown(pa.array([None], pa.int8()))


def test_inner_lists_that_are_all_null_are_refused():
    with pytest.raises(ValueError, match="all its 2 lists are null"):
        list(batches_of(pa.array([[None], [None]], pa.list_(pa.list_(pa.int8())))))


@pytest.mark.parametrize("permutation", [None, [1, 0]])
def test_nulls_within_tensors_are_masked_as_those_of_lists(permutation):
    kind = pa.fixed_shape_tensor(pa.float64(), [2, 3], permutation=permutation)
    flat = [[1.0, None, 3.0, 4.0, 5.0, 1e9], None, [None, 8.0, 9.0, 10.0, 11.0, 12.0]]
    storage = pa.array(flat, pa.list_(pa.float64(), 6))
    rows = np.array([[NAN.expected] * 6 if row is None else row for row in flat], float)
    expected = rows.reshape(3, 2, 3)
    expected = expected if permutation is None else expected.swapaxes(1, 2)
    found = np.array(only(pa.ExtensionArray.from_storage(kind, storage)))
    assert np.array_equal(found, expected, equal_nan=True)
