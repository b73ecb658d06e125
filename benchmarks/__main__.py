"""``python -m benchmarks``: measure, beside the peers, and say which bars are reached.

Prints one table for each question and the bars with their verdicts. ``--quick`` asks the main
questions on little data in less than a minute. ``--write`` keeps the results: a file for this
machine in benchmarks/results, docs/benchmarks.md with its pictures, and the part of README.md
between its markers; with ``--only`` it renews those results and keeps the others.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from benchmarks import pages

QUESTIONS = [path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py")]
ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "benchmarks"
KEPT = ROOT / "benchmarks" / "results"


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="little data, fewer questions")
    parser.add_argument("--only", nargs="+", choices=QUESTIONS, help="ask these questions only")
    parser.add_argument("--write", action="store_true", help="keep the results in the repository")
    options = parser.parse_args()
    if options.quick:
        os.environ["STREAMNORM_BENCH_QUICK"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "results.json"
        failed = measure(output, options.only or QUESTIONS)
        content = json.loads(output.read_text()) if output.exists() else None
    if not content:
        return failed or 1
    report(content, options)
    return failed


def measure(output, questions):
    """Run the benchmarks of some questions; gives pytest's exit code."""
    import pytest

    arguments = [
        "-c", os.devnull, f"--rootdir={ROOT}", "-q", "-rs",
        "-o", "python_files=bench_*.py", "-p", "no:cacheprovider", "--import-mode=importlib",
        "--benchmark-disable-gc", "--benchmark-quiet", f"--benchmark-json={output}",
    ]  # fmt: skip
    files = [str(ROOT / "benchmarks" / f"bench_{question}.py") for question in questions]
    return int(pytest.main(arguments + files))


def report(content, options):
    """Print tables and verdicts, and keep them if wanted."""
    from benchmarks import plots
    from benchmarks.report import about, page, tables, verdicts
    from benchmarks.results import keep, load, load_all, slim

    content = slim(content)
    if options.write:
        keep(KEPT, content, everything=not options.only)
        results = load_all(KEPT)
    else:
        path = Path(tempfile.mkstemp(".json")[1])
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        results = load(path)
    print(tables(results), "## The bars", verdicts(results), about(results), sep="\n\n")
    if options.write:
        plots.draw(results, FOLDER)
        (FOLDER.parent / "benchmarks.md").write_text(page(results))
        render_readme(results)
    else:
        print(f"\nResults as JSON: {path}")


def render_readme(results):
    """Replace what stands between the markers in README.md."""
    from benchmarks.report import MARK, readme_part

    pages.put(ROOT / "README.md", MARK, readme_part(results))


if __name__ == "__main__":
    sys.exit(main())
