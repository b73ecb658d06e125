"""Each command through a real process: output, messages, exit codes."""

import ast
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from fractions import Fraction

import numpy as np
import pytest

import streamnorm as sn
from streamnorm.cli import make_parser
from streamnorm.shortcuts import Comparison, Shortcut

yaml = pytest.importorskip("yaml")
Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def array(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (100, 3, 8, 8)).astype(np.uint8)
    np.save(tmp_path / "x.npy", x)
    return tmp_path / "x.npy"


@pytest.fixture
def state(array, tmp_path):
    path = tmp_path / "x.json"
    sn.save(sn.compute(array).affine(1 / 255), path)
    return path


def assert_one_line_error(process, *words):
    assert process.returncode == 1
    assert process.stdout == ""
    assert process.stderr.count("\n") == 1
    assert process.stderr.startswith("streamnorm: error: ")
    assert "Traceback" not in process.stderr
    for word in words:
        assert word in process.stderr


def test_compute_prints_a_table_and_saves_a_state_file(streamnorm_command, array, tmp_path):
    done = streamnorm_command("compute", array, "--scale", 255, "-o", tmp_path / "out.json")
    assert done.returncode == 0, done.stderr
    header, *rows = done.stdout.splitlines()
    assert header.split() == ["channel", "count", "mean", "std", "min", "max"]
    expected = sn.compute(array).affine(1 / 255)
    assert sn.load(tmp_path / "out.json") == expected
    printed = [float(row.split()[3]) for row in rows]
    np.testing.assert_allclose(printed, expected.std(), rtol=1e-9)
    assert "1 read in" in done.stderr


def test_compute_prints_json_on_demand(streamnorm_command, array):
    done = streamnorm_command("compute", array, "--json", "--ddof", 1, "--workers", 2)
    answer = json.loads(done.stdout)
    np.testing.assert_allclose(answer["std"], sn.compute(array).std(ddof=1))
    assert answer["report"]["read"] == 1


def test_compute_reads_several_files_and_other_axes(streamnorm_command, array):
    (array.parent / "y.npy").write_bytes(array.read_bytes())
    both = (array, array.parent / "y.npy")
    done = streamnorm_command("compute", *both, "--channel-axis", "1,2", "--json")
    assert json.loads(done.stdout)["channels"] == 24
    assert json.loads(done.stdout)["count"] == [1600] * 24
    done = streamnorm_command("compute", array, "--channel-axis", "none", "--json")
    assert json.loads(done.stdout)["count"] == [100 * 3 * 64]


def test_compute_of_pictures_reports_what_was_changed(streamnorm_command, tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    Image.new("L", (4, 4)).save(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"broken")
    (tmp_path / "d.txt").write_bytes(b"")
    assert_one_line_error(streamnorm_command("compute", tmp_path), "c.png", "--on-error skip")
    done = streamnorm_command("compute", tmp_path, "--on-error", "skip")
    assert done.returncode == 0
    assert "streamnorm: warning: 1 item(s) could not be read, for example c.png" in done.stderr
    assert "2 read in" in done.stderr
    assert "1 skipped, 1 ignored, 1 × grey repeated" in done.stderr


def test_nan_shows_as_null_in_json_and_omitted_as_a_column(streamnorm_command, tmp_path):
    np.save(tmp_path / "n.npy", np.array([[np.nan, 1.0], [2.0, 3.0]]))
    done = streamnorm_command("compute", tmp_path / "n.npy", "--json")
    assert json.loads(done.stdout)["mean"] == [None, 2.0]
    done = streamnorm_command("compute", tmp_path / "n.npy", "--nan-policy", "omit")
    assert done.stdout.splitlines()[0].endswith("omitted")
    assert "1 values omitted" in done.stderr


def test_merge_of_parts_is_that_of_the_whole(streamnorm_command, tmp_path):
    x = np.random.default_rng(0).normal(size=(90, 4))
    for k, part in enumerate(np.array_split(x, 3)):
        sn.save(sn.measure(part), tmp_path / f"part{k}.json")
    parts = sorted(tmp_path.glob("part*.json"))
    done = streamnorm_command("merge", *parts, "-o", tmp_path / "all.json")
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(sn.load(tmp_path / "all.json").std(), x.std(0), rtol=1e-13)
    assert "merged 3 into" in done.stderr


def test_merge_refuses_a_part_given_twice_and_other_channels(streamnorm_command, tmp_path, state):
    out = tmp_path / "all.json"
    assert_one_line_error(streamnorm_command("merge", state, state, "-o", out), "given twice")
    sn.save(sn.Moments.empty(2), tmp_path / "other.json")
    mixed = streamnorm_command("merge", state, tmp_path / "other.json", "-o", out)
    assert_one_line_error(mixed, "part 1 has 2 channels but part 0 has 3")
    assert not out.exists()


def test_show_prints_table_json_and_torchvision(streamnorm_command, state):
    table = streamnorm_command("show", state).stdout
    assert "from " in table
    assert "NumPy file, 1 read" in table
    assert json.loads(streamnorm_command("show", state, "--format", "json").stdout)["channels"] == 3
    assert streamnorm_command("show", state, "--format", "torchvision").stdout.startswith(
        "transforms."
    )


def test_exported_torchvision_text_runs(streamnorm_command, state):
    text = streamnorm_command("export", state, "--format", "torchvision").stdout
    call = ast.parse(text.strip(), mode="eval").body
    assert ast.unparse(call.func) == "transforms.Normalize"
    given = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    moments = sn.load(state)
    np.testing.assert_allclose(given["mean"], moments.mean, rtol=1e-9)
    np.testing.assert_allclose(given["std"], moments.std(), rtol=1e-9)


@pytest.mark.parametrize(("form", "parse"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_exported_json_and_yaml_parse(streamnorm_command, state, form, parse):
    answer = parse(streamnorm_command("export", state, "--format", form, "--ddof", 1).stdout)
    moments = sn.load(state)
    assert answer["std"] == moments.std(ddof=1).tolist()
    assert answer["count"] == moments.count.tolist()


def test_exported_yaml_holds_odd_numbers_and_names(streamnorm_command, tmp_path):
    moments = sn.measure([[np.nan, np.inf, 1e-5, 5e300, -np.inf]] * 2).with_meta(
        names=tuple("abcd:")
    )
    sn.save(moments, tmp_path / "odd.json")
    answer = yaml.safe_load(
        streamnorm_command("export", tmp_path / "odd.json", "--format", "yaml").stdout
    )
    np.testing.assert_array_equal(answer["mean"], moments.mean)
    assert answer["names"] == list("abcd:")


def test_exported_npz_loads(streamnorm_command, state, tmp_path):
    assert (
        streamnorm_command("export", state, "--format", "npz", "-o", tmp_path / "m.npz").returncode
        == 0
    )
    with np.load(tmp_path / "m.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["std"], sn.load(state).std())
    assert_one_line_error(streamnorm_command("export", state, "--format", "npz"), "-o")


def test_export_writes_text_to_a_file(streamnorm_command, state, tmp_path):
    streamnorm_command("export", state, "--format", "json", "-o", tmp_path / "m.json")
    assert json.loads((tmp_path / "m.json").read_text())["channels"] == 3


def test_compare_shows_every_shortcut_beside_the_truth(streamnorm_command, array):
    x = np.load(array).astype(np.float64) / 255
    done = streamnorm_command("compare", array, "--scale", 255, "--batch-sizes", "7,64", "--json")
    answer = json.loads(done.stdout)
    assert answer["samples"] == 100
    np.testing.assert_allclose(answer["std"], x.std((0, 2, 3)), rtol=1e-12)
    shortcuts = answer["shortcuts"]
    per_image = x.std((2, 3), ddof=1)
    np.testing.assert_allclose(shortcuts["mean of per-image std"], per_image.mean(0), rtol=1e-12)
    root = np.sqrt((per_image**2).mean(0))
    np.testing.assert_allclose(shortcuts["sqrt of mean per-image variance"], root, rtol=1e-12)
    for size in (7, 64):
        batches = [x[a : a + size].std((0, 2, 3), ddof=1) for a in range(0, 100, size)]
        name = f"mean of per-batch std, B = {size}"
        np.testing.assert_allclose(shortcuts[name], np.mean(batches, 0), rtol=1e-12)


def test_compare_says_what_a_published_value_is(streamnorm_command, array):
    x = np.load(array).astype(np.float64) / 255
    right = ",".join(f"{v:.4f}" for v in x.std((0, 2, 3)))
    wrong = ",".join(f"{v:.4f}" for v in x.std((2, 3), ddof=1).mean(0))
    rough = ",".join(f"{v:.1f}" for v in x.std((0, 2, 3)))
    for published, verdict in (
        (right, "published value matches the pooled std: it is right"),
        (wrong, "published value matches the shortcut: mean of per-image std"),
        ("0.1234,0.1234,0.1234", "published value matches none of these"),
    ):
        done = streamnorm_command("compare", array, "--scale", 255, "--published", published)
        assert done.stdout.splitlines()[-1] == verdict
    cut_off = ",".join(str(np.floor(v * 1e4) / 1e4) for v in x.std((2, 3), ddof=1).mean(0))
    done = streamnorm_command("compare", array, "--scale", 255, "--published", cut_off)
    assert "matches the shortcut: mean of per-image std" in done.stdout
    done = streamnorm_command("compare", array, "--scale", 255, "--published", rough)
    assert "pooled std, but in so few digits also: mean of per-image std" in done.stdout
    assert_one_line_error(streamnorm_command("compare", array, "--published", "0.5"), "3 channels")


@pytest.mark.data
def test_compare_reproduces_the_copied_numbers_of_cifar10(streamnorm_command, data):
    path = data / "cifar10" / "train_images.npy"
    options = ("--channel-axis", -1, "--scale", 255, "--batch-sizes", "64,1000")
    done = streamnorm_command("compare", path, *options, "--published", "0.2023,0.1994,0.2010")
    assert "matches the shortcut: mean of per-image std" in done.stdout
    answer = json.loads(streamnorm_command("compare", path, *options, "--json").stdout)["shortcuts"]
    published = {
        "mean of per-image std": ([0.2023009, 0.1994128, 0.2009616], 1e-7),
        "sqrt of mean per-image variance": ([0.2111703825, 0.2085794424, 0.2120516550], 1e-10),
        "mean of per-batch std, B = 64": ([0.24350, 0.23783, 0.24782], 1e-5),
        "mean of per-batch std, B = 1000": ([0.24544, 0.23977, 0.25033], 1e-5),
    }
    for name, (expected, tolerance) in published.items():
        np.testing.assert_allclose(answer[name], expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("compute", "no-such-folder"), ["no-such-folder does not exist"]),
        (("compute", "."), ["no images in ."]),
        (("show", "no.json"), ["no.json: No such file"]),
        (("compare", "no.npy"), ["no.npy does not exist"]),
    ],
)
def test_errors_are_one_line_and_exit_1(streamnorm_command, tmp_path, arguments, words):
    assert_one_line_error(streamnorm_command(*arguments, cwd=tmp_path), *words)


def test_a_tampered_file_is_an_error(streamnorm_command, state):
    state.write_text(state.read_text().replace('"count": [6400', '"count": [6401'))
    assert_one_line_error(streamnorm_command("show", state), "wrong checksum")


def test_an_error_in_an_item_names_it(streamnorm_command, tmp_path):
    np.save(tmp_path / "n.npy", np.full((2, 2), np.nan))
    done = streamnorm_command("compute", tmp_path / "n.npy", "--nan-policy", "raise")
    assert_one_line_error(done, "NaN in channel(s) 0, 1", "n.npy, rows 0 to 2")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("unknown",),
        ("compute",),
        ("compute", "x", "--channel-axis", "first"),
        ("compute", "x", "--scale", "0"),
        ("compute", "x", "--scale", "wide"),
        ("compare", "x", "--batch-sizes", "0"),
        ("compare", "x", "--published", "a,b"),
        ("merge",),
        ("export", "x"),
    ],
)
def test_wrong_usage_exits_2(streamnorm_command, arguments):
    done = streamnorm_command(*arguments)
    assert done.returncode == 2
    assert "usage: streamnorm" in done.stderr


def test_help_and_version(streamnorm_command):
    assert streamnorm_command("--version").stdout == f"streamnorm {sn.__version__}\n"
    text = streamnorm_command("--help").stdout
    assert all(command in text for command in ("compute", "merge", "show", "compare", "export"))
    assert "Exit codes" in text


def test_the_installed_command_is_the_module(tmp_path):
    command = os.path.join(os.path.dirname(sys.executable), "streamnorm")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"streamnorm {sn.__version__}\n"


def test_ctrl_c_exits_130_and_leaves_no_file(tmp_path, untraced):
    np.save(tmp_path / "0.npy", np.zeros((400_000, 4)))
    for k in range(1, 3000):
        (tmp_path / f"{k}.npy").hardlink_to(tmp_path / "0.npy")
    command = [
        sys.executable,
        "-m",
        "streamnorm",
        "compute",
        "*.npy",
        "-o",
        "out.json",
        "--workers",
        "4",
    ]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env=untraced | {"OPENBLAS_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 30
    while len(os.listdir(f"/proc/{process.pid}/task")) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, messages = process.communicate(timeout=20)
    assert process.returncode == 130
    assert messages == "streamnorm: interrupted, nothing was written\n"
    assert not [path for path in tmp_path.iterdir() if "out.json" in path.name]


def test_a_reader_that_leaves_early_is_no_error(state):
    command = f"{sys.executable} -m streamnorm show {state} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode == 0


def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    streamnorm_command, array, tmp_path
):
    for output, word in (
        (tmp_path / "no" / "x.json", "no/x.json: its folder does not exist"),
        (tmp_path, "Is a directory"),
        (array, "it would be overwritten"),
    ):
        assert_one_line_error(streamnorm_command("compute", array, "-o", output), word)
    assert np.load(array).shape == (100, 3, 8, 8)


def test_a_scale_is_recorded_and_mixed_scales_are_warned_of(streamnorm_command, array, tmp_path):
    parts = (tmp_path / "a.json", tmp_path / "b.json")
    streamnorm_command("compute", array, "-o", parts[0])
    streamnorm_command("compute", array, "--scale", 255, "-o", parts[1])
    assert "transform x / 255" in streamnorm_command("show", parts[1]).stdout
    done = streamnorm_command("merge", *parts, "-o", tmp_path / "c.json")
    assert "the parts were transformed differently" in done.stderr


def test_merge_refuses_one_file_under_two_names(streamnorm_command, state, tmp_path):
    (tmp_path / "link.json").symlink_to(state)
    done = streamnorm_command("merge", state, tmp_path / "link.json", "-o", tmp_path / "out.json")
    assert_one_line_error(done, "given twice")


def test_compare_refuses_what_compute_refuses_and_says_what_it_read(streamnorm_command, tmp_path):
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "deep.png")
    Image.new("L", (4, 4)).save(tmp_path / "flat.png")
    assert_one_line_error(streamnorm_command("compare", tmp_path), "deep.png", "flat.png")
    done = streamnorm_command("compare", tmp_path, "--include", "flat*")
    assert "1 read in" in done.stderr
    assert "1 ignored" in done.stderr
    assert "B = 64" not in done.stdout


@pytest.mark.parametrize("published", ["2.27e-1,3e-1,3e-1", "0.3,0.4,0.5"])
def test_a_rough_published_value_is_no_proof(streamnorm_command, array, published):
    done = streamnorm_command("compare", array, "--scale", 255, "--published", published)
    assert "it is right" not in done.stdout.splitlines()[-1]


def test_options_are_spelled_as_options_in_warnings(streamnorm_command, tmp_path):
    (tmp_path / "a.csv").write_text("a\n1\n")
    (tmp_path / "b.csv").write_text("b\n1\n")
    done = streamnorm_command("compute", tmp_path, "--on-error", "skip")
    assert "other than the first file; pass --select" in done.stderr


def test_options_are_spelled_as_options_in_errors(streamnorm_command, tmp_path):
    np.save(tmp_path / "v.npy", np.zeros(5))
    done = streamnorm_command("compute", tmp_path / "v.npy")
    assert_one_line_error(done, "pass --channel-axis, or --channel-axis None for one channel")
    assert (
        streamnorm_command("compute", tmp_path / "v.npy", "--channel-axis", "None").returncode == 0
    )


def test_undefined_moments_are_not_exported_to_torchvision(streamnorm_command, tmp_path):
    sn.save(sn.measure([[np.nan]]), tmp_path / "n.json")
    done = streamnorm_command("export", tmp_path / "n.json", "--format", "torchvision")
    assert_one_line_error(done, "nothing to normalize with")


def test_a_terminal_without_letters_is_no_traceback(streamnorm_command, tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "grün.png")
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"}
    done = streamnorm_command("compute", tmp_path / "grün.png", env=ascii_only)
    assert done.returncode == 0, done.stderr
    assert streamnorm_command("compare", "--help", env=ascii_only).returncode == 0


@pytest.fixture
def shards(tmp_path):
    rng = np.random.default_rng(0)
    data = rng.normal(5, 2, (600, 2)).astype(np.float32)
    np.save(tmp_path / "whole.npy", data)
    for number, part in enumerate(np.array_split(rng.permutation(data), 3)):
        np.save(tmp_path / f"part-{number}.npy", part)
    return tmp_path


def digest_in(text):
    return re.search(r"digest ([0-9a-f]{64})", text)[1]


def test_exact_parts_merge_to_the_digest_of_the_whole(streamnorm_command, shards):
    whole = streamnorm_command("compute", "whole.npy", "--exact", "-o", "whole.json", cwd=shards)
    assert whole.returncode == 0
    for number in range(3):
        source, output = f"part-{number}.npy", f"part-{number}.json"
        done = streamnorm_command("compute", source, "--exact", "-o", output, cwd=shards)
        assert done.returncode == 0
    parts = [f"part-{number}.json" for number in (2, 0, 1)]
    merged = streamnorm_command("merge", *parts, "-o", "merged.json", cwd=shards)
    assert merged.stdout == whole.stdout
    shown = streamnorm_command("show", "merged.json", cwd=shards)
    assert digest_in(shown.stdout) == digest_in(merged.stderr) == digest_in(whole.stderr)
    as_json = streamnorm_command("show", "merged.json", "--format", "json", cwd=shards)
    assert json.loads(as_json.stdout)["digest"] == digest_in(whole.stderr)
    exported = streamnorm_command("export", "merged.json", "--format", "json", cwd=shards)
    assert json.loads(exported.stdout)["std"] == sn.load(shards / "whole.json").std().tolist()


def test_exact_and_rounded_files_do_not_merge(streamnorm_command, shards):
    streamnorm_command("compute", "part-0.npy", "--exact", "-o", "exact.json", cwd=shards)
    streamnorm_command("compute", "part-1.npy", "-o", "rounded.json", cwd=shards)
    done = streamnorm_command("merge", "rounded.json", "exact.json", "-o", "x.json", cwd=shards)
    assert done.returncode == 1
    assert "exact.json is exact but rounded.json is not" in done.stderr
    assert not (shards / "x.json").exists()


def test_an_exact_scale_is_rounded_once_and_not_saved_as_exact(streamnorm_command, shards):
    given = ("compute", "whole.npy", "--exact", "--scale", "0.3")
    shown = streamnorm_command(*given, "--json", cwd=shards)
    scale = Fraction(3, 10)
    expected = sn.measure(np.load(shards / "whole.npy"), exact=True).affine(1 / scale)
    assert json.loads(shown.stdout)["mean"] == expected.mean.tolist()
    refused = streamnorm_command(*given, "-o", "x.json", cwd=shards)
    assert refused.returncode == 1 and "--scale rounds" in refused.stderr
    whole = streamnorm_command("compute", "whole.npy", "--exact", "-o", "whole.json", cwd=shards)
    assert digest_in(shown.stderr.replace("of the stored values ", "")) == digest_in(whole.stderr)
    for command in ("show", "export"):
        given = (command, "whole.json", "--scale", "0.3", "--format", "json")
        later = streamnorm_command(*given, cwd=shards)
        assert json.loads(later.stdout)["mean"] == expected.mean.tolist()


def test_an_extreme_that_is_not_known_is_said_to_be_unknown(streamnorm_command, tmp_path):
    whole, part = (sn.measure(x, exact=True) for x in ([[1.0], [2.0], [3.0]], [[1.0]]))
    sn.save(whole - part, tmp_path / "rest.json")
    shown = streamnorm_command("show", "rest.json", cwd=tmp_path)
    assert re.search(r"0 +2 +2\.5 +0\.5 +unknown +3", shown.stdout)


def test_a_std_beyond_float64_is_said_to_be(streamnorm_command, tmp_path):
    np.save(tmp_path / "huge.npy", np.array([[1.7e308], [-1.7e308], [-1.7e308]]))
    given = ("compute", "huge.npy", "--exact", "--ddof", "2")
    done = streamnorm_command(*given, cwd=tmp_path)
    assert "the std of channel(s) 0 is beyond float64" in done.stderr
    assert "beyond" not in streamnorm_command("compute", "huge.npy", "--exact", cwd=tmp_path).stderr


def test_a_copy_of_a_part_is_refused(streamnorm_command, state, tmp_path):
    copy = tmp_path / "copy.json"
    copy.write_bytes(state.read_bytes())
    done = streamnorm_command("merge", state, copy, "-o", tmp_path / "out.json")
    assert_one_line_error(done, f"copy.json is a copy of {state}: its data would be counted twice")


def test_a_merge_says_what_its_parts_have_skipped_and_that_scales_may_differ(
    streamnorm_command, tmp_path
):
    for name, dtype in (("a", np.uint8), ("b", np.float32), ("c", np.float32)):
        np.save(tmp_path / f"{name}.npy", np.ones((3, 2), dtype))
    (tmp_path / "c.npy").write_bytes(b"no array")
    done = streamnorm_command(
        "compute", "b.npy", "c.npy", "--on-error", "skip", "-o", "b.json", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    streamnorm_command("compute", "a.npy", "-o", "a.json", cwd=tmp_path)
    merged = streamnorm_command("merge", "a.json", "b.json", cwd=tmp_path)
    assert merged.returncode == 0
    assert "warning: the parts hold float32 and uint8: are their scales the same?" in merged.stderr
    assert "warning: 1 item(s) of the parts were skipped, for example c.npy" in merged.stderr


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"t#0\n\nt#[\n", "shards.txt, line 3: expected a label such as"),
        (b"\x93NUMPY[\n", "shards.txt, line 1: expected a label"),
        (b"t#0\nt#0\n", "t#0 is there twice"),
    ],
)
def test_a_file_that_is_no_list_of_labels_is_named(
    streamnorm_command, state, tmp_path, data, message
):
    (tmp_path / "shards.txt").write_bytes(data)
    done = streamnorm_command("merge", state, "--expect", tmp_path / "shards.txt")
    assert_one_line_error(done, message)


def test_a_label_that_is_none_is_a_wrong_command_line(streamnorm_command, shards):
    done = streamnorm_command("compute", shards, "--label", "t#[")
    assert done.returncode == 2
    assert "--label: expected a label such as" in done.stderr


def test_a_checkpoint_is_not_the_output(streamnorm_command, tmp_path):
    np.save(tmp_path / "a.npy", np.ones((3, 2)))
    files = "a.npy", "-o", "x.json", "--checkpoint", "x.json"
    done = streamnorm_command("compute", *files, cwd=tmp_path)
    assert_one_line_error(done, "x.json is the output: name another file as --checkpoint")


def test_an_interrupted_pass_says_where_it_is_kept_and_going_on_says_so(
    streamnorm_command, tmp_path
):
    for k in range(3):
        np.save(tmp_path / f"{k}.npy", np.full((3, 2), float(k)))
    stops = """
        import sys, streamnorm.cli as cli, streamnorm.folding as folding
        def interrupt(self, outcome):
            raise KeyboardInterrupt
        folding.Fold.add = interrupt
        sys.exit(cli.main(["compute", *sys.argv[1:]]))
    """
    files = *(f"{k}.npy" for k in range(3)), "--checkpoint", "c.ckpt"
    command = [sys.executable, "-c", textwrap.dedent(stops), *files]
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert first.returncode == 130
    kept = "streamnorm: interrupted, c.ckpt holds how far it was: the same command goes on from the"
    assert kept in first.stderr
    second = streamnorm_command("compute", *files, cwd=tmp_path)
    assert second.returncode == 0
    assert "streamnorm: going on from c.ckpt" in second.stderr
    assert not (tmp_path / "c.ckpt").exists()


def test_what_a_killed_process_left_beside_its_output_is_removed_by_the_next_one(
    streamnorm_command, tmp_path
):
    np.save(tmp_path / "a.npy", np.ones((3, 2)))
    with subprocess.Popen(["true"]) as gone:
        pass
    left = tmp_path / f".x.json.{gone.pid}-0123abcd"
    left.touch()
    files = "a.npy", "-o", "x.json", "--checkpoint", "c.ckpt"
    assert streamnorm_command("compute", *files, cwd=tmp_path).returncode == 0
    assert not left.exists()


def test_the_command_line_names_no_option_that_it_has_not(streamnorm_command, state):
    state.write_text(state.read_text().replace('"count": [', '"count": [1', 1))
    done = streamnorm_command("show", state)
    assert done.returncode == 1
    assert "save it again" in done.stderr
    assert "verify" not in done.stderr


def test_parts_may_come_through_pipes(state, streamnorm_command, tmp_path):
    np.save(tmp_path / "a.npy", np.ones((3, 3)))
    streamnorm_command("compute", tmp_path / "a.npy", "-o", tmp_path / "a.json")
    program = f"{sys.executable} -m streamnorm merge <(cat {state}) <(cat {tmp_path / 'a.json'})"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "merged 2" in done.stderr


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["com"], {"compute", "compare", "completion"}),
        (["compute", "--nod"], {"--nodata"}),
        (["export", "--format", "tor"], {"torchvision"}),
        (["show", "tra"], {"train.json"}),
    ],
)
def test_a_shell_completes_commands_options_and_files(typed, words, tmp_path, streamnorm_command):
    pytest.importorskip("shtab")
    script = streamnorm_command("completion", "bash").stdout
    (tmp_path / "train.json").write_text("")
    words_typed = " ".join(["streamnorm", *typed])
    ask = f"""
    COMP_WORDS=({words_typed}); COMP_CWORD={len(typed)}
    _shtab_streamnorm
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "-c", script + ask], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert set(map(str.strip, done.stdout.split())) == words


@pytest.mark.parametrize(
    "command",
    [
        "compute",
        "merge",
        "show",
        "plot",
        "compare",
        "check",
        "export",
        "import",
        "sources",
        "completion",
    ],
)
def test_every_command_has_help_with_examples_that_parse(command, streamnorm_command):
    from streamnorm.cli import make_parser

    shown = streamnorm_command(command, "--help").stdout
    examples = shown.partition("examples:\n")[2].strip().splitlines()
    assert examples
    for line in examples:
        words = shlex.split(line.partition(" > ")[0].partition(" >> ")[0])
        assert words[:2] == ["streamnorm", command]
        make_parser().parse_args(words[1:])


def test_the_nearest_rounding_is_what_was_published():
    pooled = sn.Moments.from_mean_std(9, [0.0, 0.0], [0.26, 0.25], 0)
    comparison = Comparison(pooled, 9, (Shortcut("wrong", np.array([0.2023, 0.1967])),))
    assert comparison.matching([0.2, 0.2], 0.1) == ["wrong"]
    assert comparison.matching([0.26, 0.25], 0.01) == ["pooled"]
    given = make_parser().parse_args(["compare", "x", "--published", "0.2,0.19"])
    assert given.published == ([0.2, 0.19], 0.01)
