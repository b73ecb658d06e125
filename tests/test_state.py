"""The state file: bits, checks, atomicity, old files."""

import json
import math
import os
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import tables

import streamnorm as sn
from streamnorm import Moments, StateFileError, state

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "m.json"
    sn.save(sn.compute([np.arange(12.0).reshape(4, 3)]).with_meta(names=("r", "g", "b")), path)
    return path


def edited(path, **changes):
    document = json.loads(path.read_text())
    document.update(changes)
    path.write_text(json.dumps(document))
    return path


def resealed(path, **changes):
    """Change fields and give the file a right checksum again: only validation is left to object."""
    document = json.loads(path.read_text()) | changes
    document["checksum"] = state._checksum(document)
    path.write_text(json.dumps(document))
    return path


@given(data=st.data())
def test_save_then_load_gives_the_same_bits(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("state") / "m.json"
    m = sn.measure(data.draw(tables("float64", special=True)))
    sn.save(m, path)
    assert sn.load(path) == m


@pytest.mark.parametrize("count", [2**53 + 1, 2**63 - 1])
def test_large_counts_and_odd_floats_survive(tmp_path, count):
    m = Moments([count, 2], [0.1 + 0.2, 5e-324], [1.7976931348623157e308, math.inf])
    sn.save(m, tmp_path / "m.json")
    assert sn.load(tmp_path / "m.json") == m


def test_meta_survives(saved):
    m = sn.load(saved)
    assert m.meta.names == ("r", "g", "b")
    entry = m.meta.provenance.passes[0]
    assert (entry.source, entry.kind, entry.report.read) == ("list", "iterable", 1)
    assert entry.software.startswith("streamnorm ")


def test_channel_shape_survives(tmp_path):
    sn.save(sn.measure(np.zeros((5, 2, 3)), channel_axis=(1, 2)), tmp_path / "m.json")
    assert sn.load(tmp_path / "m.json").channel_shape == (2, 3)


def test_the_file_is_strict_json(tmp_path):
    sn.save(sn.measure([[np.nan, np.inf, 1.0], [1.0, 1.0, 1.0]]), tmp_path / "m.json")

    def refuse(word):
        raise AssertionError(word)

    document = json.loads((tmp_path / "m.json").read_text(), parse_constant=refuse)
    assert document["mean"] == ["NaN", "Infinity", 1.0]


def test_the_time_comes_from_source_date_epoch_and_is_not_covered(saved, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    twice = []
    for name in ("a.json", "b.json"):
        sn.save(sn.compute([np.ones((2, 1))]), tmp_path / name)
        twice.append((tmp_path / name).read_bytes())
    assert twice[0] == twice[1]
    assert b"1970-01-02T00:00:00+00:00" in twice[0]
    document = json.loads(saved.read_text())
    document["provenance"]["passes"][0]["time"] = "yesterday"
    saved.write_text(json.dumps(document))
    assert sn.load(saved).channels == 3


@pytest.mark.parametrize(
    "change",
    [
        {"mean": [1.0, 2.0, 3.5]},
        {"names": ["r", "g", "x"]},
        {"count": [4, 4, 5]},
        {"channel_shape": [3]},
        {"checksum": "sha256:0"},
        {"checksum": None},
    ],
)
def test_a_changed_file_is_refused_unless_trusted(saved, change):
    edited(saved, **change)
    with pytest.raises(StateFileError, match="wrong checksum"):
        sn.load(saved)
    if "checksum" not in change and "count" not in change:
        assert sn.load(saved, verify=False).channels == 3


def test_a_file_without_checksum_is_refused_unless_trusted(saved):
    document = json.loads(saved.read_text())
    del document["checksum"]
    saved.write_text(json.dumps(document))
    with pytest.raises(StateFileError, match="has no checksum"):
        sn.load(saved)
    assert sn.load(saved, verify=False).count.tolist() == [4, 4, 4]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"m2": [-1.0, 1.0, 1.0]}, "m2 is negative"),
        ({"mean": ["NaN", 1.0, 1.0]}, "mean is not finite"),
        ({"mean": ["Infinity", 1.0, 1.0]}, "mean is not finite"),
        ({"count": [-4, 4, 4]}, "between 0 and"),
        ({"count": [1, 4, 4]}, "count is 1"),
        ({"count": [0, 4, 4]}, "count 0"),
        ({"count": [4, 4]}, "list 3 numbers"),
        ({"count": [4.0, 4, 4]}, "whole numbers"),
        ({"count": [True, 4, 4]}, "whole numbers"),
        ({"count": [2**70, 4, 4]}, "not a valid state file"),
        ({"minimum": [99.0, 1.0, 2.0]}, "minimum is above"),
        ({"maximum": [-9.0, 10.0, 11.0]}, "maximum is below"),
        ({"mean": ["nan", 1.0, 1.0]}, "one of NaN, Infinity"),
        ({"mean": [[1.0], 1.0, 1.0]}, "not a valid state file"),
        ({"mean": None}, "list 3 numbers"),
        ({"names": ["r"]}, "3 channel names"),
        ({"names": [1, 2, 3]}, "sequence of strings"),
        ({"channel_shape": [2, 2]}, "channel_shape"),
        ({"provenance": None}, "not a valid state file"),
        ({"provenance": {"passes": [{}], "further": 0, "digest": ""}}, "not a valid state file"),
        ({"version": 3}, "pip install -U streamnorm"),
        ({"version": "1"}, "no valid version"),
        ({"version": 0}, "no valid version"),
        ({"kind": "histogram"}, "'histogram', expected 'moments'"),
        ({"format": "other"}, "not a streamnorm state file"),
    ],
)
def test_fields_that_no_data_could_have_are_refused_whatever_the_checksum(saved, change, message):
    with pytest.raises(StateFileError, match=message):
        sn.load(resealed(saved, **change))


def test_a_missing_field_is_named(saved):
    document = json.loads(saved.read_text())
    del document["m2"]
    saved.write_text(json.dumps(document))
    with pytest.raises(StateFileError, match="'m2' is missing"):
        sn.load(saved, verify=False)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1, 2]", b"\xff\xfe", b'{"a": NaN}', b'"streamnorm"']
)
def test_foreign_files_are_refused(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(StateFileError, match=r"x\.json is not a"):
        sn.load(path)


def test_every_truncation_is_refused(saved):
    whole = saved.read_bytes()
    for length in range(0, len(whole) - 2, 37):
        saved.write_bytes(whole[:length])
        with pytest.raises(StateFileError):
            sn.load(saved)


def test_a_missing_file_is_a_file_not_found_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        sn.load(tmp_path / "no.json")


def test_a_failed_save_leaves_the_old_file_and_nothing_else(saved, monkeypatch):
    before = saved.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        sn.save(Moments.empty(1), saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_the_file_and_its_name_in_the_folder_are_synced(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(
        os, "fsync", lambda file: synced.append(os.readlink(f"/proc/self/fd/{file}"))
    )
    sn.save(Moments.empty(1), tmp_path / "m.json")
    assert [os.path.basename(path).startswith(".m.json.") for path in synced] == [True, False]
    assert synced[1] == os.path.realpath(tmp_path)


def test_only_moments_are_saved(tmp_path):
    with pytest.raises(TypeError, match="expected Moments"):
        sn.save({"mean": 1}, tmp_path / "m.json")


GOLDEN_VALUES = {
    "plain-0.1.json": lambda: sn.measure(np.arange(12.0).reshape(4, 3)),
    "special-0.1.json": lambda: sn.measure([[np.nan, np.inf, 1.0, 0.1]] * 2),
    "published-0.1.json": lambda: Moments.from_mean_std(2**60, [0.5, -1e300], [0.25, 0.0]),
    "shaped-0.1.json": lambda: sn.measure(np.arange(12.0).reshape(2, 2, 3), channel_axis=(1, 2)),
}


@pytest.mark.parametrize("name", GOLDEN_VALUES)
def test_golden_files_of_every_release_load_for_ever(name):
    assert sn.load(GOLDEN / name) == GOLDEN_VALUES[name]()


def test_every_golden_file_is_tested():
    assert {path.name for path in GOLDEN.glob("*.json")} == set(GOLDEN_VALUES)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("further", -3),
        ("further", "7"),
        ("digest", 5),
        ("passes", [{"source": 5}]),
    ],
)
def test_provenance_of_another_type_is_refused(saved, field, value):
    provenance = json.loads(saved.read_text())["provenance"] | {field: value}
    with pytest.raises(StateFileError, match="not a valid state file"):
        sn.load(resealed(saved, provenance=provenance))


@pytest.mark.parametrize(
    "change",
    [
        {"read": "many"},
        {"read": -5},
        {"converted": {"x": [1]}},
        {"skipped_items": [["only a name"]]},
        {"unknown": 1},
    ],
)
def test_a_report_of_another_type_is_refused(saved, change):
    provenance = json.loads(saved.read_text())["provenance"]
    provenance["passes"][0]["report"] |= change
    with pytest.raises(StateFileError, match="not a valid state file"):
        sn.load(resealed(saved, provenance=provenance))


@pytest.mark.parametrize(
    "change",
    [
        {"extra": 1},
        {"names": "rgb"},
        {"channel_shape": [2.9]},
        {"channel_shape": [-1, -3]},
        {"channels": 3.0},
    ],
)
def test_unknown_and_ill_typed_fields_are_refused(saved, change):
    with pytest.raises(StateFileError, match="not a valid state file"):
        sn.load(resealed(saved, **change))


def test_a_field_that_stands_twice_is_refused(saved):
    text = saved.read_text()
    saved.write_text(text.replace('"count"', '"count": [999, 999, 999], "count"', 1))
    with pytest.raises(StateFileError, match="stands in it twice"):
        sn.load(saved)


def test_deep_nesting_is_refused_and_no_recursion_error(tmp_path):
    (tmp_path / "x.json").write_text("[" * 200_000)
    with pytest.raises(StateFileError):
        sn.load(tmp_path / "x.json")


def test_file_names_that_are_no_text_survive(tmp_path):
    part = sn.compute([np.ones((2, 1))])
    entry = part.meta.provenance.passes[0]
    odd = part.with_meta(
        provenance=type(part.meta.provenance)((replace(entry, source="caf\udce9"),))
    )
    sn.save(odd, tmp_path / "m.json")
    assert sn.load(tmp_path / "m.json").meta.provenance.passes[0].source == "caf\udce9"


def test_a_link_is_followed_and_a_device_is_left_a_device(tmp_path):
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    sn.save(Moments.empty(1), tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert sn.load(tmp_path / "real.json").channels == 1
    os.mkfifo(tmp_path / "pipe")
    reader = threading.Thread(target=(tmp_path / "pipe").read_bytes)
    reader.start()
    sn.save(Moments.empty(1), tmp_path / "pipe")
    reader.join(10)
    assert not reader.is_alive()
    assert (tmp_path / "pipe").is_fifo()


def test_an_error_names_the_file_that_was_asked_for(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        sn.save(Moments.empty(1), tmp_path / "no" / "m.json")
    assert caught.value.filename == str(tmp_path / "no" / "m.json")


def test_a_source_date_epoch_that_is_no_number_is_refused(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "today")
    with pytest.raises(ValueError, match="number of seconds"):
        sn.compute([np.ones((2, 1))])


def test_what_is_no_state_file_at_all_is_called_what_it_is(tmp_path):
    np.save(tmp_path / "x.npy", np.array([200.0]))
    with pytest.raises(sn.StateFileError, match=r"x\.npy is not a state file but a binary one"):
        sn.load(tmp_path / "x.npy")
    with pytest.raises(sn.StateFileError, match="is a folder, no state file"):
        sn.load(tmp_path)
