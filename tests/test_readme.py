"""The README runs: every Python block and every command, in order, in a folder of its own."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = (README, ROOT / "docs" / "recipes.md", ROOT / "docs" / "sklearn.md")
BLOCK = re.compile(
    r"(?:<!-- (torch|needs: \w+) -->\n)?```(python|sh)\n(.*?)```|<!-- prepare:\n(.*?)-->", re.DOTALL
)
# What only the tests of engines install.
OF_ENGINES = ("datasets",)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return, for each page, a folder with what its blocks take from each other."""
    made = {}

    def folder(page):
        if page not in made:
            made[page] = tmp_path_factory.mktemp(page.stem)
            for match in BLOCK.finditer(page.read_text()):
                _, _, body, prepared = match.groups()
                if prepared or (page == README and "sn.save(" in body):
                    run([sys.executable, "-c", prepared or body], made[page])
        return made[page]

    return folder


def blocks():
    for page in PAGES:
        for number, match in enumerate(BLOCK.finditer(page.read_text())):
            needs, language, body, _ = match.groups()
            needs = (needs or "").removeprefix("needs: ")
            if body:
                missing = needs and importlib.util.find_spec(needs) is None
                marks = [pytest.mark.skipif(bool(missing), reason=f"needs {needs}")]
                marks += [pytest.mark.engine] if needs in OF_ENGINES else []
                name = f"{page.stem}-{number}-{language}"
                yield pytest.param(page, language, body, marks=marks, id=name)


@pytest.mark.parametrize(("page", "language", "body"), list(blocks()))
def test_block_runs(folders, page, language, body):
    folder = folders(page)
    if language == "python":
        run([sys.executable, "-c", body], folder)
        return
    for line in body.splitlines():
        words = shlex.split(line, comments=True)
        if words and words[0] == "streamnorm":
            run([sys.executable, "-m", *words], folder)
        else:
            # ./run test is this very process, ./run demo has a test of its own.
            assert words[:2] in (["./run", "demo"], ["./run", "test"], ["pip", "install"])


def run(command, folder):
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_command_and_option_that_it_names_exists():
    text = README.read_text()
    for command in set(re.findall(r"^streamnorm (\w+)", text, re.MULTILINE)):
        run([sys.executable, "-m", "streamnorm", command, "--help"], None)
    for link in re.findall(r"\]\(([\w/.]+)\)", text):
        assert (README.parent / link).exists(), link


def test_the_demo_shows_pooled_and_shortcut_and_the_line_for_ones_own_folder():
    pytest.importorskip("PIL")
    demo = README.parent / "examples" / "demo.py"
    done = subprocess.run(
        [sys.executable, demo],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"PYTHONPATH": str(README.parent)},
    )
    assert done.returncode == 0, done.stderr
    assert "2,500 PNG and JPEG files" in done.stdout
    assert "pooled (the std of the data set)" in done.stdout
    assert "mean of per-image std" in done.stdout
    assert "streamnorm compute path/to/folder" in done.stdout


def test_run_without_a_known_command_says_what_there_is():
    done = subprocess.run(
        ["sh", README.parent / "run", "fly"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "./run demo" in done.stdout
    assert "unknown command 'fly'" in done.stderr


def test_run_waits_for_another_and_gives_up_with_a_word(tmp_path):
    root = README.parent
    for name in ("run", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((root / name).read_bytes())
    (tmp_path / ".venv.lock").mkdir()
    (tmp_path / ".venv.lock" / "pid").write_text(str(os.getpid()))
    done = subprocess.run(
        ["sh", tmp_path / "run", "demo"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | {"STREAMNORM_LOCK_TIMEOUT": "1"},
    )
    assert done.returncode == 1
    assert f"another ./run (pid {os.getpid()}) holds .venv.lock" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_any_sharding_has_one_exact_digest_and_several_rounded_answers():
    example = README.parent / "examples" / "any_sharding.py"
    done = subprocess.run(
        [sys.executable, example], capture_output=True, text=True, timeout=120, check=True
    )
    rows = [line.split() for line in done.stdout.splitlines()[1:4]]
    assert [row[0] for row in rows] == ["1", "7", "64"]
    assert len({row[3] for row in rows}) == 1
    assert len({tuple(row[1:3]) for row in rows}) > 1
    assert done.stdout.endswith("afresh is the same: True\n")
