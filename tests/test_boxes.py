"""Boxes name every value of an array exactly once, with its channel, whatever its strides."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import agree

import streamnorm as sn
from streamnorm.boxes import boxes_of
from streamnorm.kernels import reference
from streamnorm.layout import Layout
from streamnorm.moments import Moments

LANES = (8, 16, 64)


def read(cut):
    """Walk through boxes as the kernels do; count (place in memory, channel, row of results)."""
    seen = Counter()
    for box in cut.boxes:
        b = {name: int(box[name]) for name in box.dtype.names}
        for repeat in range(b["repeats"]):
            for group in range(b["groups"]):
                start = b["start"] + repeat * b["repeat_step"] + group * b["group_step"]
                for row in range(b["rows"] + (b["tail"] > 0)):
                    width = b["width"] if row < b["rows"] else b["tail"]
                    for j in range(width):
                        c = (group * b["width"] + j) % b["period"] // b["per"]
                        if c < b["channels"]:
                            seen[start + row * b["row_step"] + j, b["first"] + c] += 1
    return seen


def cut_of(view, axis, lanes):
    layout = Layout.of(view, axis)
    arranged = layout.arrange(view)
    steps = tuple(s // view.itemsize for s in arranged.strides)
    return boxes_of(arranged.shape, steps, layout.outer, layout.kept, lanes)


def places(view, axis):
    """Every value's place in memory after the first, with its channel; `view` holds them."""
    columns = np.moveaxis(view, axis, 0).reshape(view.shape[axis], -1)
    return Counter((int(v), c) for c, column in enumerate(columns) for v in column - view.min())


def numbered(*shape):
    return np.arange(np.prod(shape)).reshape(shape)


VIEWS = {
    "NCHW": (lambda: numbered(3, 2, 9, 11), 1),
    "short runs": (lambda: numbered(5, 3, 7), 1),
    "table": (lambda: numbered(37, 7), 1),
    "wide table": (lambda: numbered(4, 1300), 1),
    "wide units": (lambda: numbered(3, 300, 5), 1),
    "every other row": (lambda: numbered(41, 3)[::2], 1),
    "every tenth row": (lambda: numbered(41, 3)[::10], 1),
    "colour of RGBA": (lambda: numbered(4, 5, 6, 4)[..., :3], -1),
    "last colours of RGBA": (lambda: numbered(4, 5, 6, 4)[..., 1:], -1),
    "channels-last crop": (lambda: numbered(3, 20, 20, 3)[:, 2:-3, 4:-1], -1),
    "long channels-last lines": (lambda: numbered(3, 700, 3)[:, 5:], -1),
    "crop": (lambda: numbered(2, 3, 80, 90)[:, :, 4:-4, 4:-5], 1),
    "transposed": (lambda: numbered(5, 70).T, 1),
    "columns": (lambda: numbered(70, 300).T, 0),
    "one channel": (lambda: numbered(900, 1), 1),
    "several images of one channel, cropped": (lambda: numbered(3, 1, 70, 80)[:, :, 3:, 6:], 1),
    "video crop": (lambda: numbered(2, 3, 2, 90, 80)[:, :, :, 4:, 4:], 2),
    "every other channel": (lambda: numbered(6, 8)[:, ::2], 1),
    "steps in a run": (lambda: numbered(3, 2, 200)[:, :, ::2], 1),
    "backward channels": (lambda: numbered(3, 2, 50)[:, ::-1], 1),
    "loose axes": (lambda: numbered(4, 6, 8, 10, 3)[::2, ::2, ::2, ::2], -1),
}
COPIED = {"every other channel", "steps in a run", "backward channels", "loose axes"}


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("name", VIEWS)
def test_every_value_is_read_once_as_of_its_channel(name, lanes):
    build, axis = VIEWS[name]
    cut = cut_of(build(), axis, lanes)
    if cut is None:
        assert name in COPIED
        return
    assert name not in COPIED
    assert read(cut) == places(build(), axis)


@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    axis=st.integers(0, 3),
    data=st.data(),
)
def test_any_slice_is_read_once_or_copied(shape, axis, data):
    axis %= len(shape)
    whole = numbered(*[2 * n for n in shape])
    cuts = []
    for n in whole.shape:
        start = data.draw(st.integers(0, n - 1))
        cuts.append(
            slice(start, data.draw(st.integers(start + 1, n)), data.draw(st.integers(1, 3)))
        )
    view = whole[tuple(cuts)]
    cut = cut_of(view, axis, 8)
    assert cut is None or read(cut) == places(view, axis)


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("name", sorted(VIEWS.keys() - COPIED))
def test_every_channel_has_lanes_of_its_own(name, lanes):
    build, axis = VIEWS[name]
    cut = cut_of(build(), axis, lanes)
    for box in () if cut is None else cut.boxes:
        table = cut.owners[box["owners"] :][: box["panels"] * lanes]
        owned, times = np.unique(table[table >= 0], return_counts=True)
        assert owned.tolist() == list(range(box["channels"]))
        assert len(set(times)) == 1


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float16", "float32", "float64"])
@given(
    rows=st.integers(1, 40),
    width=st.integers(1, 1100),
    gap=st.sampled_from([0, 1, 2, 16, 30]),
    per=st.sampled_from([1, 1, 3]),
    masked=st.booleans(),
)
@settings(max_examples=60)
def test_a_table_without_its_last_columns_is_measured_as_its_copy_is(
    dtype, rows, width, gap, per, masked
):
    """The last unit of such a view is read apart, since the gap behind it may be nobody's."""
    rng = np.random.default_rng(rows * width + gap)
    view = rng.integers(0, 100, (rows, width + gap, per)).astype(dtype)[:, :width]
    mask = rng.random(view.shape) < 0.8 if masked else None
    measured = sn.measure(view, mask=mask)
    specified = reference.measure_block(view, mask, omit=False)
    agree(measured, Moments.of_rows(specified), largest=100)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
@given(data=st.data())
@settings(max_examples=60)
def test_any_slice_is_measured_as_its_copy_is(dtype, data):
    shape = data.draw(st.lists(st.integers(1, 40), min_size=2, max_size=3))
    whole = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    cuts = []
    for n in shape:
        start = data.draw(st.integers(0, n - 1))
        cuts.append(
            slice(start, data.draw(st.integers(start + 1, n)), data.draw(st.integers(1, 2)))
        )
    view = whole[tuple(cuts)]
    agree(sn.measure(view), sn.measure(view.copy()), largest=100)


def test_large_arrays_are_cut_into_about_equal_boxes_that_fill_every_row():
    cut = boxes_of((128, 3, 3600), (10800, 3600, 1), 1, 1, 16)
    assert len(cut.boxes) == cut.rows == 6
    assert cut.boxes["each"].sum() == 128 * 3600
    assert np.ptp(cut.boxes["repeats"][:-1]) == 0
    wide = boxes_of((9000, 5000), (5000, 1), 1, 1, 16)
    filled = np.zeros((wide.rows, 5000), int)
    for box in wide.boxes:
        filled[box["row"], box["first"] : box["first"] + box["channels"]] += 1
    assert (filled == 1).all()


@pytest.mark.parametrize(("rows", "most"), [(20_000, 2048), (100_000, 6250), (200_000, 8192)])
def test_boxes_of_wide_tables_are_longer_in_longer_tables(rows, most):
    assert boxes_of((rows, 768), (768, 1), 1, 1, 16).boxes["rows"].max() <= most
    assert boxes_of((rows, 768), (768, 1), 1, 1, 16).boxes["rows"].max() > most // 2


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float16", "float32", "float64"])
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(3, 12)),
    width=st.one_of(st.integers(1, 70), st.integers(250, 300)),
    before=st.integers(0, 3),
    masked=st.booleans(),
    odd=st.sampled_from([0.0, np.nan, np.inf]),
)
@settings(max_examples=60)
def test_crops_that_end_with_the_memory_are_measured_as_their_copies_are(
    dtype, shape, width, before, masked, odd
):
    """Rows narrower than a vector are read with what is behind them, if there is anything."""
    rng = np.random.default_rng(width)
    whole = rng.integers(0, 100, (*shape, before + width)).astype(dtype)
    if whole.dtype.kind == "f":
        whole[0, 0, -1, -1] = odd
    view = whole[:, :, 2:, before:]
    mask = rng.random(view.shape) < 0.8 if masked else None
    measured = sn.measure(view, mask=mask)
    specified = reference.measure_block(
        view.reshape(*shape[:2], -1), None if mask is None else mask.reshape(*shape[:2], -1), False
    )
    agree(measured, Moments.of_rows(specified), largest=100)


def test_a_crop_of_very_wide_rows_is_copied_in_pieces():
    assert boxes_of((2, 10**8), (10**8 + 1, 1), 2, 0, 16) is None


def test_an_empty_array_has_no_boxes():
    assert boxes_of((0, 3), (3, 1), 1, 1, 16).rows == 0
