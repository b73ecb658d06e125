"""Labels: what is named twice is refused, what is missing is named, and labels travel."""

import json
import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import streamnorm as sn
from streamnorm import Label, packing
from streamnorm.labels import cut, missing, united


def part(label, value=1.0, exact=False):
    return sn.measure([[value, 2.0]], exact=exact).with_meta(labels=label)


@pytest.mark.parametrize(
    "text",
    ["train", "train#7", "data/train.tar#part 7", "train[0:10]", "s3://b/k#7[10:20]", "t[5:]"],
)
def test_a_label_reads_as_it_is_written(text):
    assert str(Label.parse(text)) == text


def test_a_range_may_be_open():
    assert Label.parse("train[:100]") == Label("train", stop=100)
    assert Label.parse(str(Label("train", "7", 5))) == Label("train", "7", 5)


@pytest.mark.parametrize(
    "text",
    ["", "  ", "train[5:5]", "train[7:3]", "train#", "#7", "a#b#c", "train[5]", "train[a:b]"],
)
def test_text_that_is_no_label_is_refused(text):
    with pytest.raises(ValueError, match=r"label"):
        Label.parse(text)


@pytest.mark.parametrize(
    "fields", [("",), (3,), ("a", 3), ("a#",), ("a", "b", -1), ("a", "b", 0, 1 << 64)]
)
def test_fields_that_are_no_label_are_refused(fields):
    with pytest.raises(ValueError, match="label"):
        Label(*fields)


def test_labels_of_another_type_are_refused():
    with pytest.raises(TypeError, match="a label must be a Label or text such as 'train#7', got 7"):
        sn.Moments.empty(2).with_meta(labels=[7])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("train", "train"),
        ("train#1", "train#1"),
        ("train#1[0:10]", "train#1[9:20]"),
        ("train#1[0:10]", "train#1"),
        ("train", "train#1"),
        ("train[0:10]", "train#1"),
    ],
)
@pytest.mark.parametrize("join", [lambda a, b: a + b, lambda a, b: sn.merge([b, a])])
def test_data_named_twice_are_refused(one, other, join):
    with pytest.raises(ValueError, match="data would be counted twice"):
        join(part(one), part(other))


def test_a_label_given_to_two_sets_of_files_is_told_so():
    one, other = (part(Label("train", "1", digest=digest)) for digest in "ab")
    with pytest.raises(ValueError, match="different files: is one named wrongly"):
        one + other


def test_labels_of_other_data_are_all_kept_and_ranges_that_adjoin_become_one():
    total = sn.merge([part(label) for label in ("b#2[5:9]", "a", "b#2[0:5]", "b#1[3:4]")])
    assert list(map(str, total.meta.labels)) == ["a", "b#1[3:4]", "b#2[0:9]"]
    assert (total.count == 4).all()


def test_numbers_of_numpy_are_saved_like_others(tmp_path):
    sn.save(part(Label("t", start=np.int64(3), stop=np.int64(5))), tmp_path / "v.json")
    assert str(sn.load(tmp_path / "v.json").meta.labels[0]) == "t[3:5]"


def test_empty_parts_change_nothing_and_unlabelled_ones_are_remembered(tmp_path):
    assert not (sn.Moments.empty(2) + part("a")).meta.unlabelled
    total = part("a") + sn.measure([[1.0, 2.0]])
    assert list(map(str, total.meta.labels)) == ["a"]
    sn.save(total, tmp_path / "t.json")
    for value in (total, sn.load(tmp_path / "t.json"), packing.from_bytes(packing.to_bytes(total))):
        with pytest.raises(ValueError, match=r"1 part\(s\) with data without a label"):
            sn.merge([value, part("b")], expect=["a", "b"])
    assert sn.merge([total.with_meta(labels=["a"]), part("b")], expect=["a", "b"]).count[0] == 3


def spans(draw_from):
    return st.lists(draw_from, min_size=2, max_size=12, unique=True).map(sorted)


@given(spans(st.integers(0, 40)), st.randoms())
def test_any_cut_of_a_range_in_any_order_is_the_range_again(edges, rng):
    pieces = [Label("s", "x", a, b) for a, b in pairwise(edges)]
    rng.shuffle(pieces)
    assert united(pieces) == (Label("s", "x", edges[0], edges[-1]),)


@given(spans(st.integers(0, 40)), st.sets(st.integers(0, 10)))
def test_what_is_missing_is_exactly_what_was_left_out(edges, lost):
    pieces = [Label("s", "x", a, b) for a, b in pairwise(edges)]
    left_out = [piece for at, piece in enumerate(pieces) if at in lost]
    there = united(piece for at, piece in enumerate(pieces) if at not in lost)
    assert united(missing(there, united(pieces))) == united(left_out)
    assert cut(united(pieces), united(left_out)) == there


def test_a_whole_source_names_its_shards_and_ranges():
    assert missing([Label("train")], [Label("train", "1"), Label("train", start=0, stop=5)]) == []


def test_a_merge_of_all_parts_expected_is_that_without_expecting():
    parts = [part(f"train#{k}", float(k)) for k in range(3)]
    assert sn.merge(parts, expect=[f"train#{k}" for k in range(3)]) == sn.merge(parts)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["train#0"], "2 missing: train#1, train#2$"),
        (["train#0", "train#1", "train#2", "train#9"], "1 not expected: train#9$"),
        ([(), "train#0", "train#1", "train#2"], r"1 part\(s\) with data without a label$"),
    ],
)
def test_parts_other_than_expected_are_named(labels, message):
    with pytest.raises(ValueError, match=message):
        sn.merge(map(part, labels), expect=[f"train#{k}" for k in range(3)])


def test_of_many_missing_ten_are_named_and_the_rest_counted():
    with pytest.raises(ValueError, match=r"99 missing: t#1, .* and 89 more$"):
        sn.merge([part("t#0")], expect=[f"t#{k}" for k in range(100)])


def test_a_part_that_is_subtracted_takes_its_label_along():
    total = part("t#1", exact=True) + part("t#2", 5.0, exact=True)
    rest = total - part("t#1", exact=True)
    assert rest == part("t#2", 5.0, exact=True)
    assert list(map(str, rest.meta.labels)) == ["t#2"]


def test_data_without_a_name_are_remembered_in_what_is_left():
    nameless = sn.measure([[7.0, 7.0]], exact=True)
    total = sn.merge([part("t#1", exact=True), part("t#2", exact=True), nameless])
    rest = total - part("t#1", exact=True)
    with pytest.raises(ValueError, match=r"1 part\(s\) with data without a label"):
        sn.merge([rest], expect=["t#2"])
    assert (total - rest).meta.labels == ()
    masked = sn.measure(np.ma.masked_all((1, 2)), exact=True)
    assert (part("t#1", exact=True) + masked - masked).meta.labels == ()


@pytest.mark.parametrize("name", ["a\nb", " a", "a ", "a\tb"])
def test_a_label_that_no_list_of_labels_could_hold_is_refused(name):
    with pytest.raises(ValueError, match="must not contain"):
        Label("t", name)


def test_a_range_of_a_source_is_no_range_of_its_shards():
    assert missing([Label("t", stop=10)], [Label("t", "1", stop=10)]) == [Label("t", "1", stop=10)]
    assert missing([Label("t")], [Label("t", "1", stop=10)]) == []


def test_one_thing_measured_under_two_names_is_warned_of(tmp_path):
    np.save(tmp_path / "0.npy", np.arange(6.0).reshape(3, 2))
    np.save(tmp_path / "1.npy", np.arange(6.0).reshape(3, 2) + 1)
    named = [sn.compute(tmp_path / "0.npy", label=f"t#{k}") for k in range(2)]
    with pytest.warns(sn.StreamnormWarning, match="t#0 and t#1 are of inputs of the") as warned:
        sn.merge(named)
    with pytest.warns(sn.StreamnormWarning, match="was one measured under two names") as again:
        named[0] + named[1]
    assert warned[0].filename == again[0].filename == __file__
    sn.merge([named[0], sn.compute(tmp_path / "1.npy", label="t#1")])


@pytest.mark.parametrize(
    ("expect", "error", "message"),
    [
        (5, TypeError, "a label must be a Label or text"),
        (["t", "t"], ValueError, "t is there twic"),
    ],
)
def test_what_is_no_list_of_labels_is_expected_by_nobody(expect, error, message):
    with pytest.raises(error, match=message):
        sn.merge([part("t")], expect=expect)


def test_what_is_left_without_data_that_have_no_name_has_none():
    total = part("t", exact=True) + sn.measure([[7.0, 7.0]], exact=True)
    assert (total - sn.measure([[7.0, 7.0]], exact=True)).meta.labels == ()
    assert (total - sn.ExactMoments.empty(2)).meta.labels == total.meta.labels


@pytest.mark.parametrize(
    ("there", "removed", "message"),
    [("t#1", "t#2", "cannot take away what is not there: t#2"), ("t", "t#2", "has no name")],
)
def test_a_part_of_another_label_is_not_subtracted(there, removed, message):
    total = part(there, exact=True) + sn.measure([[5.0, 5.0]], exact=True)
    with pytest.raises(ValueError, match=message):
        total - part(removed, exact=True)


@pytest.mark.parametrize("exact", [False, True])
def test_labels_travel_with_scaling_pickles_files_and_bytes(exact, tmp_path):
    value = part([Label("t", "1", digest="d"), Label("u", start=5)], exact=exact)
    labels = value.meta.labels
    sn.save(value, tmp_path / "v.json")
    for copy in (
        pickle.loads(pickle.dumps(value)),
        sn.load(tmp_path / "v.json"),
        packing.from_bytes(packing.to_bytes(value)),
    ):
        assert copy == value
        assert copy.meta.labels == labels
    assert value.affine(2).meta.labels == labels


def test_a_file_without_labels_says_nothing_of_them(tmp_path):
    sn.save(sn.measure([[1.0]]), tmp_path / "v.json")
    assert "labels" not in json.loads((tmp_path / "v.json").read_text())


BELOW = np.array([packing.VERSION, 1, -8, 0, 0], np.int64).tobytes()


@pytest.mark.parametrize("data", [b"", b"x" * 7, b"\0" * 32, b"\1" + b"\0" * 63, BELOW])
def test_bytes_that_are_no_value_are_refused(data):
    with pytest.raises(ValueError, match="are no moments that this release has written"):
        packing.from_bytes(data)


def test_compute_labels_what_it_reads_and_keeps_the_digest_of_names_and_sizes(tmp_path):
    paths = [tmp_path / f"{k}.npy" for k in range(2)]
    for path in paths:
        np.save(path, np.ones((3, 2)))
    first, second = (sn.compute(path, label="t#1").meta.labels[0] for path in paths)
    assert str(first) == "t#1"
    assert len(first.digest) == 64
    assert first.digest != second.digest


def test_the_command_line_labels_merges_and_reports_gaps(tmp_path, streamnorm_command):
    for k in range(3):
        np.save(tmp_path / f"{k}.npy", np.full((3, 2), float(k)))
        done = streamnorm_command(
            "compute", tmp_path / f"{k}.npy", "--label", f"t#{k}", "-o", tmp_path / f"{k}.json"
        )
        assert done.returncode == 0, done.stderr
    shards = tmp_path / "shards.txt"
    shards.write_text("# all of them\nt#0\nt#1\n\nt#2\n")
    parts = [tmp_path / f"{k}.json" for k in range(3)]
    whole = streamnorm_command("merge", "--expect", shards, *parts)
    assert whole.returncode == 0, whole.stderr
    assert "merged 3" in whole.stderr
    some = streamnorm_command("merge", "--expect", shards, *parts[:2], "-o", tmp_path / "all.json")
    assert some.returncode == 1
    assert "1 missing: t#2" in some.stderr
    assert not (tmp_path / "all.json").exists()
    assert "labelled t#0" in streamnorm_command("show", parts[0]).stdout


@pytest.mark.parametrize(
    ("label", "error", "message"),
    [
        (7, TypeError, "a label must be a Label or text such as 'train#7', got 7"),
        ("train#", ValueError, "expected a label such as"),
        (["a", "b"], ValueError, "label= names one part of the data, got 2: a, b"),
    ],
)
def test_a_wrong_label_is_refused_before_anything_is_read(label, error, message):
    with pytest.raises(error, match=message):
        sn.compute([np.ones((2, 2))], label=label, transform=lambda b: pytest.fail("read"))


def test_the_file_of_a_label_that_is_gone_is_no_error_where_it_is_skipped(tmp_path):
    images = pytest.importorskip("PIL.Image")
    images.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
    with pytest.warns(sn.StreamnormWarning, match="1 item"):
        value = sn.compute(
            tmp_path, on_error="skip", mode="L", label="t", checkpoint=tmp_path / "c"
        )
    assert value.meta.report.skipped == 1
