"""ExactMoments: laws in every bit, readers that are rounded once, and what is refused."""

import copy
import json
import pickle
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import exact_sums, nearest, nearest_root
from strategies import DTYPES, bit_patterns, merged_in_random_tree, patterns, splits

import streamnorm as sn
from streamnorm import ExactMoments, limbs

per_dtype = pytest.mark.parametrize("dtype", DTYPES)
MOST = 2**63 - 1
LARGEST = Fraction(1.7976931348623157e308)


def measure(table, **options):
    return sn.measure(table, exact=True, **options)


def same(a, b):
    """Assert that two values are the same in every bit that is compared or shown."""
    assert a == b
    assert hash(a) == hash(b)
    assert a.digest() == b.digest()
    assert a.sum == b.sum
    for name in ("count", "omitted", "nan", "positive_infinity", "negative_infinity"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    for read in ("mean", "m2"):
        np.testing.assert_array_equal(getattr(a, read), getattr(b, read))
    np.testing.assert_array_equal(a.std(1), b.std(1))


def same_extremes(a, b):
    np.testing.assert_array_equal(a.minimum, b.minimum)
    np.testing.assert_array_equal(a.maximum, b.maximum)
    assert a.finite_minimum == b.finite_minimum


@per_dtype
@given(data=st.data())
def test_every_split_order_and_tree_gives_the_same_bits(dtype, data):
    table = data.draw(bit_patterns(dtype))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    shuffled = table[rng.permutation(len(table))]
    cuts = data.draw(splits(len(table)))
    parts = [measure(shuffled[a:b]) for a, b in pairwise(cuts)]
    whole = measure(table)
    for merged in (merged_in_random_tree(parts, rng), sn.merge(parts), sn.merge(parts[::-1])):
        same(merged, whole)
        same_extremes(merged, whole)
    accumulator = sn.Accumulator(exact=True)
    for a, b in pairwise(cuts):
        accumulator.update(shuffled[a:b])
    same(accumulator.moments, whole)
    same(sn.compute([shuffled[a:b] for a, b in pairwise(cuts)], exact=True), whole)


@per_dtype
@given(data=st.data())
def test_merging_commutes_associates_and_has_an_identity(dtype, data):
    table = data.draw(bit_patterns(dtype))
    at, to = sorted(data.draw(st.tuples(*[st.integers(0, len(table))] * 2)))
    a, b, c = (measure(part) for part in (table[:at], table[at:to], table[to:]))
    nothing = ExactMoments.empty(a.channels)
    same(a + b, b + a)
    same((a + b) + c, a + (b + c))
    same(nothing + a, a)
    same(a + nothing, a)
    same_extremes(a + nothing, a)


@per_dtype
@given(data=st.data())
def test_what_is_subtracted_was_never_there(dtype, data):
    table = data.draw(bit_patterns(dtype))
    at = data.draw(st.integers(0, len(table)))
    rest, part = measure(table[:at]), measure(table[at:])
    left = (rest + part) - part
    same(left, rest)
    known = ~np.isnan(left.minimum)
    np.testing.assert_array_equal(left.minimum[known], rest.minimum[known])
    known = ~np.isnan(left.maximum)
    np.testing.assert_array_equal(left.maximum[known], rest.maximum[known])


@pytest.mark.parametrize("ddof", [0, 1, 1.5, 2])
@per_dtype
@given(data=st.data())
def test_readers_are_the_nearest_float64(dtype, ddof, data):
    table = data.draw(bit_patterns(dtype, max_rows=24))
    measured = measure(table)
    for c, column in enumerate(table.T):
        n, total, squares = exact_sums(column)
        if n < column.size or n <= ddof:
            assert np.isnan(measured.variance(ddof)[c])
            continue
        deviations = squares - total**2 / n
        variance = deviations / (n - Fraction(ddof))
        assert measured.mean[c] == nearest(total / n)
        assert measured.m2[c] == nearest(deviations)
        assert measured.variance(ddof)[c] == nearest(variance)
        root = nearest_root(variance)
        assert measured.std(ddof)[c] == root


@given(data=st.data(), scale=st.fractions(), shift=st.fractions())
def test_affine_rounds_every_field_once(data, scale, shift):
    if not scale:
        return
    table = data.draw(bit_patterns("float32", max_rows=12))
    table[~np.isfinite(table)] = 0
    measured = measure(table)
    mapped = measured.affine(scale, shift)
    for c, column in enumerate(table.T):
        n, total, squares = exact_sums(column)
        if not n:
            assert np.isnan(mapped.mean[c])
            continue
        assert mapped.mean[c] == nearest(scale * total / n + shift)
        assert mapped.m2[c] == nearest(scale**2 * (squares - total**2 / n))
        ends = sorted(scale * Fraction(float(x)) + shift for x in (column.min(), column.max()))
        assert [mapped.minimum[c], mapped.maximum[c]] == list(map(nearest, ends))


def test_affine_takes_numbers_of_many_kinds_and_one_per_channel():
    measured = measure([[0, 1], [255, 3]])
    by_fraction = measured.affine(Fraction(1, 255))
    assert by_fraction.maximum.tolist() == [1.0, nearest(Fraction(3, 255))]
    assert measured.affine(1 / 255).maximum[1] == nearest(3 * Fraction(1 / 255))
    assert measured.affine([1, Decimal("0.1")], [Fraction(1, 3), 0]).maximum.tolist() == [
        nearest(255 + Fraction(1, 3)),
        0.3,
    ]
    assert measured.affine(np.float32(2), np.array([1, 2])).minimum.tolist() == [1.0, 4.0]
    assert measured.affine(-1).minimum.tolist() == [-255.0, -3.0]


@pytest.mark.parametrize("scale", [0, float("nan"), float("inf"), [1], [1, 2, 3]])
def test_affine_refuses_what_is_no_scale(scale):
    with pytest.raises(ValueError, match="scale"):
        measure([[0, 1], [255, 3]]).affine(scale)


@pytest.mark.parametrize("scale", ["2", [1, "2"], None])
def test_affine_refuses_what_is_no_number(scale):
    with pytest.raises(TypeError, match="scale must be numbers"):
        measure([[0, 1], [255, 3]]).affine(scale)


def test_affine_refuses_to_leave_float64():
    with pytest.raises(OverflowError, match="beyond float64"):
        measure([[1e300]]).affine(10**10)


@per_dtype
@given(data=st.data())
def test_the_nearest_moments_have_the_same_readers(dtype, data):
    exact = measure(data.draw(bit_patterns(dtype)))
    rounded = exact.moments
    for name in ("count", "omitted", "mean", "m2", "minimum", "maximum"):
        np.testing.assert_array_equal(getattr(rounded, name), getattr(exact, name))
    # They are moments of some data, as those that come from outside have to be.
    sn.Moments(rounded.count, rounded.mean, rounded.m2, rounded.minimum, rounded.maximum)


def test_non_finite_values_mean_the_same_wherever_they_stand():
    for special, mean in (
        ([np.nan], np.nan),
        ([np.inf], np.inf),
        ([-np.inf], -np.inf),
        ([np.inf, -np.inf], np.nan),
        ([np.nan, np.inf], np.nan),
    ):
        values = np.array([1.0, 2.0, *special])
        for order in range(5):
            shuffled = np.random.default_rng(order).permutation(values)
            total = sn.merge([measure(shuffled[:2, None]), measure(shuffled[2:, None])])
            np.testing.assert_array_equal(total.mean, [mean])
            np.testing.assert_array_equal(total.std(), [np.nan])
            np.testing.assert_array_equal(total.minimum, [values.min()])
            np.testing.assert_array_equal(total.maximum, [values.max()])
            rounded = sn.measure(shuffled[:, None])
            np.testing.assert_array_equal(total.moments.mean, rounded.mean)
            np.testing.assert_array_equal(total.moments.minimum, rounded.minimum)


def test_channels_of_infinities_only():
    total = measure(np.array([[np.inf, -np.inf], [np.inf, -np.inf]]))
    assert total.mean.tolist() == [np.inf, -np.inf]
    assert total.minimum.tolist() == total.maximum.tolist() == [np.inf, -np.inf]
    assert total.extremes_known.all()
    assert total.affine(-2).mean.tolist() == [-np.inf, np.inf]
    assert total.affine(-2).maximum.tolist() == [-np.inf, np.inf]


def test_nothing_and_one_value():
    nothing = measure(np.zeros((0, 2)))
    assert nothing == ExactMoments.empty(2)
    assert np.isnan(nothing.mean).all() and nothing.m2.tolist() == [0, 0]
    one = measure([[0.1, -7.0]])
    assert one.mean.tolist() == [0.1, -7.0]
    assert one.std().tolist() == [0, 0] and np.isnan(one.std(1)).all()
    assert one.constant.all() and not nothing.constant.any()


def test_a_constant_channel_is_constant_whatever_the_constant():
    for constant in (0.1, -1e300, 1.7e308, 5e-324, 3.0, -0.0):
        total = measure(np.full((700, 1), constant))
        assert total.mean.tolist() == [constant] and total.m2.tolist() == [0.0]
        assert total.constant.all()
        assert not np.signbit([total.mean, total.minimum]).any() or constant < 0


def test_denormals_and_huge_values_are_added_without_loss():
    x = np.array([[1e308], [5e-324], [-1e308], [5e-324]])
    assert measure(x).mean.tolist() == [nearest(Fraction(5e-324) / 2)]
    assert measure(x).std().tolist() == [nearest_root(Fraction(1e308) ** 2 / 2)]
    beyond = measure(np.array([[1.7e308], [-1.7e308]]))
    assert beyond.variance().tolist() == [np.inf]
    assert beyond.std().tolist() == [1.7e308]


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_64_bit_integers_are_exact_extremes_too(dtype):
    info = np.iinfo(dtype)
    x = np.array([[info.max], [info.max - 2], [info.max - 5]], dtype)
    total = measure(x)
    assert total.finite_minimum == (int(info.max) - 5,)
    assert total.affine(1, -int(info.max)).minimum.tolist() == [-5.0]
    assert total.affine(1, -int(info.max)).maximum.tolist() == [0.0]
    assert total.variance().tolist() == [nearest(Fraction(25 + 4, 3) - Fraction(7, 3) ** 2)]


def test_equal_numbers_have_equal_digests_whatever_their_dtype():
    numbers = np.random.default_rng(0).integers(0, 128, (300, 2))
    digests = {
        measure(numbers.astype(dtype)).digest()
        for dtype in (
            "int8",
            "uint8",
            "int16",
            "uint16",
            "int32",
            "int64",
            "uint64",
            "f2",
            "f4",
            "f8",
        )
    }
    assert len(digests) == 1
    same(
        measure(numbers.astype("f4")) + measure(numbers.astype("f8")),
        measure(np.tile(numbers, (2, 1))),
    )


GOLDEN = "93e6f39f98997c5bc330d9af6a39a06601d1c8014a22be4fc363dcb7ae835bf9"
GOLDEN_OF_NOTHING = "5fb9c8334341d96bd62a1617375d8a0ae23859f78952ce2921fa6ba5a479a8e0"


def test_digests_stay_the_same_for_ever():
    """Digest version 1: whoever kept one must find it again with every later release."""
    rng = np.random.Generator(np.random.MT19937(7))
    words = rng.integers(0, 2**32, 400, np.uint64)
    table = ((words % 2**20).astype(np.float64) / 1024 - 300).reshape(-1, 4)
    table[3, 1], table[5, 2], table[6, 2] = np.nan, np.inf, -np.inf
    assert measure(table).digest() == GOLDEN
    assert ExactMoments.empty(2).digest() == GOLDEN_OF_NOTHING


def test_digests_tell_what_differs_apart():
    base = measure([[1.0], [2.0]])
    others = [
        measure([[1.0], [3.0]]),
        measure([[1.0], [2.0], [0.0]]),
        measure([[0.5], [2.5]]),
        measure([[1.0], [2.0], [np.nan]]),
        measure([[1.0], [2.0], [np.nan]], nan_policy="omit"),
        measure([[1.0], [2.0], [np.inf]]),
        measure([[1.0, 1.0], [2.0, 2.0]]),
    ]
    assert len({value.digest() for value in (base, *others)}) == len(others) + 1
    assert all(value != base for value in others)
    named = base.with_meta(names=("a",))
    assert named == base and named.digest() == base.digest()


def test_subtraction_keeps_an_extreme_that_is_proved_and_no_other():
    whole = measure([[1.0, 5.0], [2.0, 1.0], [9.0, 9.0]])
    rest = whole - measure([[9.0, 5.0]])
    np.testing.assert_array_equal(rest.minimum, [1.0, 1.0])
    np.testing.assert_array_equal(rest.maximum, [np.nan, 9.0])
    assert rest.extremes_known.tolist() == [False, True]
    assert not (rest + whole).extremes_known[0]
    same_extremes(whole - ExactMoments.empty(2), whole)
    assert (whole - whole) == ExactMoments.empty(2)


def of_values(*values):
    return measure([[value] for value in values])


def never_added():
    whole = of_values(1.0, 2.0, 3.0)
    return {
        "more values": (whole, of_values(1.0, 1.0, 1.0, 1.0), "larger count"),
        "NaN": (whole, of_values(np.nan), "larger nan"),
        "omitted": (whole, measure([[1.0]], mask=[[False]]), "larger omitted"),
        "a larger maximum": (whole, of_values(1.0, 9.0), "maximum is beyond"),
        "a smaller minimum": (whole, of_values(0.0), "minimum is beyond"),
        "another value": (whole, of_values(1.5, 2.5), "not the square"),
        "all but not all": (whole, of_values(1.0, 2.0, 2.5), "no finite value"),
        "Cauchy and Schwarz": (of_values(0, 2, 2, 2, 2, 4), of_values(0, 4, 4), "too small"),
        "between the extremes": (whole, of_values(1.5), "so few values"),
        "beyond the extremes": (of_values(0, 0, 2, 2, 2), of_values(1, 1, 1), "too large"),
    }


@pytest.mark.parametrize("case", never_added())
def test_what_was_never_added_cannot_be_subtracted(case):
    whole, part, message = never_added()[case]
    before = whole.digest()
    with pytest.raises(ValueError, match=message):
        whole - part
    assert whole.digest() == before


def test_moments_and_exact_moments_do_not_mix():
    exact, rounded = measure([[1.0]]), sn.measure([[1.0]])
    for mix in (
        lambda: exact + rounded,
        lambda: rounded + exact,
        lambda: sn.merge([rounded, exact]),
        lambda: exact - rounded,
    ):
        with pytest.raises(TypeError, match=r"exact=True"):
            mix()
    with pytest.raises(TypeError):
        rounded - rounded
    with pytest.raises(TypeError):
        exact + 1
    with pytest.raises(TypeError):
        exact - 1
    with pytest.raises(ValueError, match="2 channels from 1"):
        exact - measure([[1.0, 2.0]])
    assert exact != rounded and exact != 1
    assert exact.moments + rounded == sn.measure([[1.0], [1.0]])


def of(count, total, squares, **more):
    return ExactMoments([count], [total], [squares], **more)


def test_more_values_than_a_count_holds_are_refused_and_never_wrap():
    full = of(MOST, 0, 0)
    for more in (of(1, 0, 0), full):
        with pytest.raises(OverflowError, match=r"2\*\*63 - 1"):
            full + more
    with pytest.raises(OverflowError):
        sn.merge([of(2**62, 0, 0)] * 5)
    assert (of(2**62, 0, 0) + of(2**62 - 1, 0, 0)).count.tolist() == [MOST]


@pytest.mark.parametrize(
    ("largest", "grid"),
    [(Fraction(2**128 - 2**104), limbs.NARROW), (LARGEST, limbs.WIDE)],
    ids=["float32", "float64"],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_limbs_hold_the_largest_sums_there_can_be(largest, grid, sign):
    """As many of the largest values as can be counted, put together from halves."""
    half = of(2**62, sign * largest * 2**62, largest**2 * 2**62)
    rest = of(2**62 - 1, sign * largest * (2**62 - 1), largest**2 * (2**62 - 1))
    assert limbs.grid_of(half._rows) is grid
    full = half + rest
    assert limbs.grid_of(full._rows) is grid
    assert full.sum == (sign * largest * MOST,)
    assert full.sum_of_squares == (largest**2 * MOST,)
    assert full.mean.tolist() == [sign * float(largest)] and full.std().tolist() == [0.0]
    assert full - rest == half
    # The bound: one more bit would be the sign's.
    assert MOST * 2**grid.bits < 2 ** (grid.exponent + 32 * grid.limbs - 1)
    assert MOST * 4**grid.bits < 2 ** (2 * grid.exponent + 32 * grid.square_limbs - 1)


def test_many_parts_of_both_grids_are_merged():
    rng = np.random.default_rng(0)
    tables = [rng.normal(size=(2, 3)).astype(("f4", "f8")[k % 7 == 0]) for k in range(3000)]
    whole = sn.merge(measure(table) for table in tables)
    n, total, squares = exact_sums(np.concatenate([table[:, 1].astype(float) for table in tables]))
    assert (whole.count[1], whole.sum[1], whole.sum_of_squares[1]) == (n, total, squares)
    assert whole.minimum[1] == min(table[:, 1].min() for table in tables)
    shuffled = [tables[k] for k in rng.permutation(len(tables))]
    same(sn.merge(measure(table) for table in shuffled), whole)


IMPOSSIBLE = {
    "no values": ((0, 1, 1), {}, "no finite value"),
    "one value": ((1, 2, 5), {}, "not the square"),
    "Cauchy and Schwarz": ((3, 3, 2), {}, "too small for the sum"),
    "mean below": ((2, 2, 2), {"minimum": [2]}, "below the minimum"),
    "mean above": ((2, 2, 2), {"maximum": [0.5]}, "above the maximum"),
    "too much spread": ((3, 0, 9), {"minimum": [-1], "maximum": [1]}, "too large for the extremes"),
    "extremes of nothing": ((0, 0, 0), {"minimum": [1]}, "no finite value"),
    "more NaN than values": ((2, 0, 0), {"nan": [3]}, "3 of 2 values are NaN"),
    "no multiple": ((3, Fraction(1, 3), 1), {}, r"whole multiple of 2\*\*-1074"),
    "beyond": ((3, 2**1100, 2**2200), {}, "beyond"),
    "one value, two extremes": ((1, 5, 25), {"minimum": [4], "maximum": [6]}, "so few values"),
    "two values, others": ((2, 0, 2), {"minimum": [-5], "maximum": [5]}, "so few values"),
    "counts that wrap": (
        (5, 10, 20),
        {"nan": [MOST], "positive_infinity": [MOST], "negative_infinity": [2]},
        "NaN or infinite",
    ),
    "an extreme of 71 bits": (
        (1, 2**70 + 1, (2**70 + 1) ** 2),
        {"minimum": [2**70 + 1]},
        "neither a float64",
    ),
    "an extreme that is nothing": ((2, 1, 1), {"minimum": [Fraction(1, 3)]}, "neither a float64"),
    "two numbers": ((2, [1, 2], 1), {}, "one number per channel"),
    "a negative count": ((-2, 1, 1), {}, "count must lie between"),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_sums_of_no_data_are_refused(case):
    (count, total, squares), more, message = IMPOSSIBLE[case]
    with pytest.raises(ValueError, match=message):
        ExactMoments([count], total if isinstance(total, list) else [total], [squares], **more)


def test_sums_from_elsewhere_become_a_value():
    data = measure([[1, 10], [2, 20], [4, 50]])
    given = ExactMoments([3, 3], [7, 80], [21, 3000], [1, 10], [4, 50])
    same(given, data)
    same_extremes(given, data)
    unknown = ExactMoments([3], [7], [21], [float("nan")])
    assert np.isnan(unknown.minimum).all() and not unknown.extremes_known.any()


def test_values_cannot_change_and_are_copied_by_reference():
    value = measure([[1.0, 2.0]])
    with pytest.raises(AttributeError, match="cannot change"):
        value.count = 5
    with pytest.raises(ValueError, match="read-only"):
        value.count[0] = 5
    assert copy.copy(value) is value is copy.deepcopy(value)


@per_dtype
def test_pickles_keep_every_bit(dtype):
    value = measure(patterns(dtype, np.random.default_rng(0), (9, 3)))
    again = pickle.loads(pickle.dumps(value.with_meta(names=("a", "b", "c"))))
    same(again, value)
    same_extremes(again, value)
    assert again.meta.names == ("a", "b", "c")


def test_names_must_agree_and_provenance_tells_what_was_taken_out():
    whole = sn.compute([np.ones((4, 1)), np.zeros((2, 1))], exact=True).with_meta(names=("x",))
    part = sn.compute([np.zeros((2, 1))], exact=True)
    rest = whole - part
    assert rest.meta.names == ("x",)
    kinds = [entry.kind for entry in rest.meta.provenance.passes]
    assert kinds == ["list", "subtracted: list"] or kinds[1].startswith("subtracted: ")
    assert rest.meta.report.read == whole.meta.report.read
    with pytest.raises(ValueError, match="names differ"):
        whole - part.with_meta(names=("y",))


@per_dtype
@given(data=st.data())
def test_save_then_load_gives_the_same_bits(dtype, data, tmp_path_factory):
    value = measure(data.draw(bit_patterns(dtype, max_rows=12)))
    path = tmp_path_factory.mktemp("state") / "exact.json"
    sn.save(value, path)
    again = sn.load(path)
    same(again, value)
    same_extremes(again, value)
    sn.save(again, path.with_name("again.json"))
    assert path.read_bytes() == path.with_name("again.json").read_bytes()
    assert limbs.grid_of(again._rows).name <= limbs.grid_of(value._rows).name


CHANGES = {
    "even": ("sum", ["6*2^0"], "odd integers"),
    "not canonical": ("sum", ["03*2^0"], "odd integers"),
    "a number": ("sum", [3], "odd integers"),
    "minus zero": ("sum", ["3*2^-0"], "one form"),
    "zeros before": ("sum", ["3*2^000"], "one form"),
    "an extreme that float64 rounds": ("maximum", [2**53 + 1], "finite numbers"),
    "a huge exponent": ("sum", ["3*2^99999999"], "odd integers"),
    "a huge number": ("sum", ["3" * 9999 + "*2^1"], "odd integers"),
    "one value, other square": ("sum_of_squares", ["3*2^0"], "too small|not the square"),
    "no values": ("count", [0], "no finite value"),
    "above its extremes": ("maximum", [1.0], "above the maximum"),
    "too spread": ("sum_of_squares", ["99*2^0"], "so few values"),
    "an infinite extreme": ("minimum", ["-Infinity"], "finite numbers"),
    "text for a float64": ("minimum", ["9007199254740992"], "finite numbers"),
    "too many": ("nan", [0, 0], "list 1 numbers"),
    "half a count": ("nan", [0.5], "whole numbers"),
    "an unknown field": ("median", [1], "unknown fields"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_state_files_of_no_data_are_refused_whatever_the_checksum(change, tmp_path):
    path = tmp_path / "exact.json"
    sn.save(measure([[1.0], [2.0]]), path)
    document = json.loads(path.read_text())
    field, value, message = CHANGES[change]
    document[field] = value
    path.write_text(json.dumps(document))
    with pytest.raises(sn.StateFileError, match="checksum"):
        sn.load(path)
    with pytest.raises(sn.StateFileError, match=message):
        sn.load(path, verify=False)


@pytest.mark.parametrize("kind", [[], {}, None, "means"])
def test_a_file_of_another_kind_is_refused(kind, tmp_path):
    sn.save(measure([[1.0]]), tmp_path / "x.json")
    document = json.loads((tmp_path / "x.json").read_text()) | {"kind": kind}
    (tmp_path / "x.json").write_text(json.dumps(document))
    with pytest.raises(sn.StateFileError, match=r"expected 'moments' or .*'exact moments'"):
        sn.load(tmp_path / "x.json")


def test_integers_beyond_float64_stand_in_the_file_as_text(tmp_path):
    path = tmp_path / "exact.json"
    sn.save(measure(np.array([[2**63 - 1], [-(2**63)]])), path)
    document = json.loads(path.read_text())
    assert document["maximum"] == [str(2**63 - 1)]
    assert document["minimum"] == [-(2.0**63)]
    assert document["sum"] == ["-1*2^0"]
    assert sn.load(path).finite_maximum == (2**63 - 1,)


def test_exact_moments_normalize_like_others():
    x = np.random.default_rng(0).normal(5, 3, (400, 2))
    exact = sn.Normalize.from_moments(measure(x))
    y = exact(x)
    np.testing.assert_allclose([y.mean(0), y.std(0)], [[0, 0], [1, 1]], atol=1e-12)
    tiny = measure(np.array([[1e-170], [2e-170]]))
    assert tiny.m2.tolist() == [0.0] and not tiny.constant.any()
    with pytest.raises(ValueError, match="constant"):
        sn.Normalize.from_moments(measure([[1.0], [1.0]]), zero_variance="error")


def test_repr_shows_what_there_is():
    assert repr(measure([[1.0], [3.0]])) == "ExactMoments(C=1, n=2, mean=[2], std=[1])"


@pytest.mark.parametrize("ddof", [np.int64(1), np.float32(1), np.array(1), 1.0, Fraction(1)])
def test_ddof_may_be_any_number(ddof):
    assert of_values(1, 2, 4).variance(ddof).tolist() == [nearest(Fraction(7, 3))]


@pytest.mark.parametrize("ddof", [np.nan, np.inf])
def test_a_ddof_that_is_no_number_has_no_variance(ddof):
    assert np.isnan(of_values(1, 2, 4).std(ddof)).all()


def test_a_part_is_taken_out_of_values_that_were_loaded(tmp_path):
    """Loaded, both may be held on the narrow grid, although their values need the wide one."""
    whole, part = of_values(2.0**130, *[0.0] * 99), of_values(*[0.0] * 99)
    for name, value in (("whole", whole), ("part", part)):
        sn.save(value, tmp_path / name)
    loaded = [sn.load(tmp_path / name) for name in ("whole", "part")]
    same(loaded[0] - loaded[1], whole - part)
    rest = loaded[0] - loaded[1]
    total = sn.merge([rest] * 1000)
    assert total.sum == (Fraction(2) ** 130 * 1000,)


def test_a_std_that_rounds_to_zero_divides_by_one():
    tiny = of_values(5e-324, *[0.0] * 9)
    assert tiny.std().tolist() == [0.0] and not tiny.constant.any()
    assert sn.Normalize.from_moments(tiny)(np.array([[1.0]])).tolist() == [[1.0]]


def test_a_mean_that_rounds_to_zero_has_no_sign():
    assert not np.signbit(of_values(-5e-324, 0, 0, 0).mean).any()


def test_only_the_channels_that_are_shown_are_read_for_repr():
    value = measure(np.ones((2, 9)))
    assert repr(value).endswith("mean=[1 1 1 1 1 1 …], std=[0 0 0 0 0 0 …])")


@pytest.mark.torch
@pytest.mark.parametrize("threads", [1, 2])
def test_denormal_numbers_count_where_a_thread_flushes_them(threads, monkeypatch):
    from streamnorm.kernels import crew

    torch = pytest.importorskip("torch")
    monkeypatch.setattr(crew, "WORTH_HELPERS", 0)
    tables = [
        np.full((2**18, 4), 3e-5, np.float16),
        np.full((300, 1), 2.0**126, np.float32),
        np.full((300, 1), 2.0**1022),
        np.full((300, 1), 1e-310),
    ]
    expected = [[measure(x).digest(), sn.measure(x).mean[0]] for x in tables]
    assert torch.set_flush_denormal(True)
    try:
        for x, (digest, mean) in zip(tables, expected, strict=True):
            assert measure(x, threads=threads).digest() == digest
            assert sn.measure(x, threads=threads).mean[0].tobytes() == mean.tobytes()
        # The thread is left as it was.
        assert (torch.tensor(1e-310, dtype=torch.float64) * 1).item() == 0.0
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize(
    ("axis", "columns"),
    [
        (None, lambda x: [x]),
        ((1, 3), lambda x: [x[:, i, :, j] for i in range(3) for j in range(4)]),
        ((3, 1), lambda x: [x[:, i, :, j] for j in range(4) for i in range(3)]),
        (-1, lambda x: [x[..., j] for j in range(4)]),
    ],
)
def test_any_channel_axes(axis, columns):
    x = patterns("float32", np.random.default_rng(3), (5, 3, 2, 4))
    measured = measure(x, channel_axis=axis)
    assert list(zip(measured.sum, measured.sum_of_squares, strict=True)) == [
        exact_sums(column)[1:] for column in columns(x)
    ]


def test_pictures_files_and_loaders_have_the_digest_of_their_pixels(tmp_path):
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 8, 3), np.uint8)
    (tmp_path / "pictures").mkdir()
    for number, picture in enumerate(pixels):
        image.fromarray(picture).save(tmp_path / "pictures" / f"{number}.png")
    np.save(tmp_path / "pixels.npy", pixels)
    expected = measure(pixels, channel_axis=-1).digest()
    for workers in (1, 3):
        folder = sn.compute(tmp_path / "pictures", exact=True, workers=workers)
        file = sn.compute(tmp_path / "pixels.npy", channel_axis=-1, exact=True, workers=workers)
        assert folder.digest() == file.digest() == expected
        assert folder.meta.report.read == 6
    batches = ((batch / 255, "label") for batch in np.array_split(pixels, 4))
    scaled = sn.compute(batches, channel_axis=-1, exact=True)
    assert scaled.digest() == measure(pixels / 255, channel_axis=-1).digest()


def test_an_accumulator_goes_on_where_its_pickle_stopped():
    batches = np.random.default_rng(0).normal(size=(80, 4, 2)).astype(np.float32)
    accumulator = sn.Accumulator(exact=True)
    for batch in batches[:50]:
        accumulator.update(batch)
    again = pickle.loads(pickle.dumps(accumulator))
    for batch in batches[50:]:
        again.update(batch)
    same(again.moments, measure(batches.reshape(-1, 2)))
    same(accumulator.moments, measure(batches[:50].reshape(-1, 2)))
    assert sn.Accumulator(exact=True, channels=2).moments == ExactMoments.empty(2)


def test_a_batch_that_is_refused_changes_no_sum():
    accumulator = sn.Accumulator(exact=True, nan_policy="raise").update([[1.0, 2.0]])
    for bad in ([[np.nan, 1.0]], [[1.0, 2.0, 3.0]]):
        with pytest.raises(ValueError, match=r"NaN|channels"):
            accumulator.update(bad)
    assert accumulator.moments == measure([[1.0, 2.0]])
