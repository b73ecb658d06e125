"""The package as users meet it: public names, cost of import, kernels without a cache."""

import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import streamnorm as sn

ROOT = Path(__file__).parent.parent


def test_public_names():
    assert (
        sorted(sn.__all__)
        == sn.__all__
        == [
            "Accumulator",
            "ExactMoments",
            "Label",
            "Moments",
            "Normalize",
            "StateFileError",
            "StreamnormWarning",
            "WeightedMoments",
            "__version__",
            "compute",
            "concat",
            "load",
            "measure",
            "measure_weighted",
            "merge",
            "save",
        ]
    )
    assert all(hasattr(sn, name) for name in sn.__all__)


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (sn.measure, ["batch", "channel_axis", "exact", "nan_policy", "mask", "threads"]),
        (sn.Accumulator, ["channel_axis", "exact", "nan_policy", "threads", "channels"]),
        (sn.Accumulator.update, ["self", "batch", "mask"]),
        (sn.merge, ["parts", "expect"]),
        (sn.save, ["moments", "path"]),
        (sn.load, ["path", "verify"]),
        (sn.Moments.from_mean_std, ["count", "mean", "std", "ddof", "minimum", "maximum"]),
        (sn.Moments.affine, ["self", "scale", "shift"]),
        (sn.ExactMoments.affine, ["self", "scale", "shift"]),
        (sn.ExactMoments.digest, ["self"]),
        (sn.ExactMoments.empty, ["channels"]),
        (sn.Normalize.from_moments, ["moments", "ddof", "zero_variance", "channel_axis"]),
    ],
)
def test_signatures_that_others_rely_on(function, names):
    assert list(inspect.signature(function).parameters) == names


def test_compute_has_its_fixed_parameters():
    parameters = inspect.signature(sn.compute).parameters
    assert {"source", "channel_axis", "exact", "nan_policy", "workers", "on_error"} <= set(
        parameters
    )
    assert parameters["channel_axis"].default == "auto"


def test_every_public_object_is_documented():
    for name in set(sn.__all__) - {"__version__"}:
        thing = getattr(sn, name)
        assert inspect.getdoc(thing)
        if inspect.isclass(thing):
            own = [m for k, m in vars(thing).items() if callable(m) and not k.startswith("_")]
            assert all(inspect.getdoc(method) for method in own)


def fresh(code, cwd=ROOT, **environment):
    """Run code in a fresh interpreter and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
        cwd=cwd,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_brings_nothing_but_numpy():
    """How long it takes then is measured by benchmarks/bench_start.py."""
    code = (
        "import sys, numpy; before = set(sys.modules); import streamnorm;"
        "more = {name.partition('.')[0] for name in set(sys.modules) - before};"
        "print(sorted(more - {'numpy', '__mp_main__'} - sys.stdlib_module_names))"
    )
    assert fresh(code).strip() == "['streamnorm']"


def test_merging_loading_and_showing_need_no_numba(tmp_path):
    path = str(tmp_path / "m.json")
    code = (
        "import sys; sys.modules['numba'] = None; import streamnorm as sn;"
        f"a = sn.Moments.from_mean_std(5, [1.0], [2.0]); sn.save(a + a, {path!r});"
        f"print(sn.load({path!r}).count.tolist(), sn.Normalize.from_moments(a).std)"
    )
    assert fresh(code) == "[10] [2.]\n"


MEASURE = "import streamnorm as sn; print(sn.measure([[1.0], [3.0]]).mean.tolist())"


def installed(folder, writable):
    """Copy the package; a file where the folder for compiled code would be cannot be written to,
    even by root."""
    package = folder / "streamnorm"
    shutil.copytree(ROOT / "streamnorm", package, ignore=shutil.ignore_patterns("__pycache__"))
    if not writable:
        (package / "kernels" / "__pycache__").touch()
    return str(folder)


def kernels_in(folder):
    return sorted(path.name for path in folder.rglob("*.nbc"))


def test_kernels_are_cached_beside_the_package_and_loaded_from_there(tmp_path):
    where = installed(tmp_path / "site", writable=True)
    assert fresh(MEASURE, tmp_path, PYTHONPATH=where, HOME="/dev/null") == "[2.0]\n"
    cached = kernels_in(tmp_path)
    assert cached
    refuse = f"import numba.core.compiler as c; c.compile_extra = None; {MEASURE}"
    assert fresh(refuse, tmp_path, PYTHONPATH=where, HOME="/dev/null") == "[2.0]\n"
    assert kernels_in(tmp_path) == cached


def test_kernels_are_cached_at_home_where_the_package_is_read_only(tmp_path):
    where = installed(tmp_path / "site", writable=False)
    home = tmp_path / "home"
    home.mkdir()
    places = {"PYTHONPATH": where, "HOME": str(home), "XDG_CACHE_HOME": str(home)}
    assert fresh(MEASURE, tmp_path, **places) == "[2.0]\n"
    assert kernels_in(home)
    assert not kernels_in(tmp_path / "site")


def test_kernels_run_where_neither_package_nor_home_can_be_written(tmp_path):
    where = installed(tmp_path / "site", writable=False)
    nowhere = {"PYTHONPATH": where, "HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null"}
    assert fresh(MEASURE, tmp_path, **nowhere) == "[2.0]\n"
    assert not kernels_in(tmp_path)


def test_without_torch_the_network_layer_names_its_extra():
    code = "import sys; sys.modules['torch'] = None; import streamnorm.nn"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert "pip install 'streamnorm[torch]'" in done.stderr


def test_the_changelog_knows_this_version():
    assert f"[{sn.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_all_tests_can_be_collected_where_there_is_no_torch():
    code = """
import sys
class Without:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, *rest):
        if name.split(".")[0] not in ("torch", "triton"):
            return self.finder.find_spec(name, *rest)
sys.meta_path[:] = map(Without, sys.meta_path)
import pytest
sys.exit(pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | {"STREAMNORM_REQUIRE_TRITON": "0"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    assert "could not import 'torch'" in done.stdout
