"""The figures in README.md and docs/benchmarks.md are those of the run that is kept, misses too."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the benchmarks need torch")

from benchmarks import bars, engines, formats, gpu_report, pages, report
from benchmarks.peers import STREAM
from benchmarks.results import Record, Results, keep, load_all
from benchmarks.table_peers import TABLE

ROOT = Path(__file__).parent.parent
KEPT = load_all(ROOT / "benchmarks" / "results")


def test_the_readme_shows_the_run_that_is_kept():
    shown = pages.shown(ROOT / "README.md", report.MARK)
    assert shown.strip() == report.readme_part(KEPT)


def test_the_page_shows_the_run_that_is_kept():
    assert (ROOT / "docs" / "benchmarks.md").read_text() == report.page(KEPT)


def test_the_readme_says_what_was_measured_on_gpus():
    shown = pages.shown(ROOT / "README.md", gpu_report.MARK)
    kept = gpu_report.load(ROOT / "benchmarks" / "gpu_results")
    assert shown.strip() == gpu_report.table(kept)


@pytest.mark.parametrize("measured", [engines, formats], ids=lambda module: module.MARK)
def test_pages_show_the_run_that_is_kept(measured):
    kept = json.loads((measured.FOLDER / f"{measured.MARK}.json").read_text())
    assert pages.shown(measured.PAGE, measured.MARK).strip() == measured.table(kept)


def test_one_question_measured_again_leaves_the_others_as_they_are(tmp_path):
    pages.keep(tmp_path / "kept.json", {"records": [{"of": "a", "n": 1}, {"of": "b", "n": 2}]})
    new = [{"of": "b", "n": 3}, {"of": "b", "n": 4}]
    assert pages.with_kept(new, tmp_path / "kept.json", "of", ["b", "a"]) == [
        *new,
        {"of": "a", "n": 1},
    ]


def test_only_what_is_between_the_marks_is_replaced(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- a -->\nold\n<!-- /a -->\n<!-- b -->\nb\n<!-- /b -->\n")
    pages.put(page, "a", "new")
    assert (pages.shown(page, "a"), pages.shown(page, "b")) == ("\nnew\n", "\nb\n")
    assert page.read_text().startswith("before\n<!-- a -->")


def test_merging_a_million_parts_can_be_rehearsed_with_ten_thousand():
    pytest.importorskip("matplotlib", reason="of the bench extra")
    command = [sys.executable, "-m", "benchmarks.scale", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "A coordinator that takes 10,000 parts" in done.stdout
    assert "NO" not in done.stdout


def test_the_benchmark_for_gpus_can_be_rehearsed_without_one():
    command = [sys.executable, "-m", "benchmarks.gpu", "--rehearse"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "streamnorm, exact" in done.stdout and "A rehearsal, kept nowhere" in done.stdout


def test_without_a_gpu_the_benchmark_for_them_says_so():
    command = [sys.executable, "-m", "benchmarks.gpu"]
    hidden = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env=hidden
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "no CUDA device here" in done.stderr


@pytest.mark.parametrize("name", report.PICTURES)
def test_every_picture_is_there(name):
    assert (ROOT / "docs" / "benchmarks" / f"{name}.png").stat().st_size > 10_000


@pytest.mark.parametrize("bar", bars.BARS, ids=lambda bar: bar.what)
def test_every_bar_has_a_verdict(bar):
    assert bar.verdict(KEPT) is not None


@pytest.mark.parametrize(("question", "runners"), [("stream", STREAM), ("tables", TABLE)])
def test_every_peer_is_there(question, runners):
    assert {runner.name for runner in runners} <= {record.row for record in KEPT.of(question)}


def record(row, seconds):
    return Record("layouts", row, "float32", seconds, bytes=10, reading=10.0)


def test_a_bar_is_missed_if_one_case_misses_it():
    bar = bars.Bar("all", 0.5, bars.shares("layouts", ["quick", "slow"], "float32"), bars.READING)
    assert bar.verdict(Results({}, [record("quick", 1.0)])) == (1.0, "quick float32", True)
    both = Results({}, [record("quick", 1.0), record("slow", 4.0)])
    assert bar.verdict(both) == (0.25, "slow float32", False)


def test_less_is_better_where_time_is_counted():
    bar = bars.Bar("time", 2.0, bars.seconds("layouts", "quick", "float32"), "s")
    assert bar.verdict(Results({}, [record("quick", 1.0)]))[2]
    assert not bar.verdict(Results({}, [record("quick", 3.0)]))[2]


def test_a_peer_that_is_missing_is_reported():
    part = {"part": 1.0, "errors": {}}
    ours = Record("stream", "streamnorm, 1 thread", "", 1.0, bytes=10, reading=10.0, info=part)
    shown = report.answer(Results({}, [ours]), "stream")
    assert "river, learn_one: not installed" in shown


def test_what_is_asked_anew_gives_way_on_every_machine(tmp_path):
    def run(processor, *questions, version=1):
        stats = {"median": 1.0}
        info = {"row": "r", "column": ""}
        return {
            "machine_info": {"processor": processor, "python": "3.11", "versions": version},
            "benchmarks": [
                {"extra_info": info | {"question": question}, "stats": stats}
                for question in questions
            ],
        }

    keep(tmp_path, run("Intel(R) Xeon(R) Processor", "stream", "layouts"), everything=True)
    keep(tmp_path, run("AMD EPYC", "exact", "layouts"), everything=False)
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["amd-epyc", "intel-xeon"]
    kept = load_all(tmp_path)
    assert {q: len(kept.of(q)) for q in ("stream", "layouts", "exact")} == {
        "stream": 1, "layouts": 1, "exact": 1,
    }  # fmt: skip
    assert kept.machine["processor"] == "AMD EPYC"
    with pytest.raises(ValueError, match="other versions"):
        keep(tmp_path, run("AMD EPYC", "exact", version=2), everything=False)
    keep(tmp_path, run("AMD EPYC", "stream"), everything=True)
    assert [path.stem for path in tmp_path.iterdir()] == ["amd-epyc"]
