"""The import graph is what docs/design.md says: each module imports from earlier rooms only."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "streamnorm"

# Each line may import from the lines above it, and from its own.
ROOMS = (
    ("errors", "version"),
    ("dtypes", "labels", "rationals"),
    ("meta", "tensors", "partial"),
    ("arrays",),
    ("arrow", "fields", "boxes", "layout", "pending"),
    ("value", "origin"),
    ("limbs",),
    ("readers",),
    ("rounded",),
    ("moments", "sums", "running"),
    ("exact",),
    ("weights",),
    ("weighted",),
    ("channels",),
    ("columns", "normalize", "documents", "packing"),
    ("state",),
    ("kernels.machine", "kernels.reference", "kernels.schemes", "kernels.tiles", "interrupts"),
    ("threads",),
    ("kernels.operators",),
    ("kernels.traced", "kernels.vectors", "kernels.tuned"),
    ("kernels.loops", "kernels.numbers", "kernels.panels", "kernels.ladders", "kernels.memory"),
    ("kernels.compiled", "kernels.windows"),
    ("kernels.desk",),
    ("kernels.helping",),
    (
        "kernels.float_rows",
        "kernels.integer_rows",
        "kernels.walk",
        "kernels.exact_panels",
        "kernels.ranges",
    ),
    ("kernels.exact_plain", "kernels.records"),
    ("kernels.exact_rows",),
    ("kernels.stages",),
    ("kernels.floats", "kernels.integers", "kernels.exact_boxes", "kernels.crew"),
    ("kernels.exact_integers",),
    ("kernels.cpu", "kernels.exact_cpu"),
    ("kernels.raw",),
    ("kernels.torch_rounded", "kernels.torch_exact", "kernels.triton_tiles"),
    ("kernels.triton_floats", "kernels.triton_integers", "kernels.triton_limbs"),
    ("kernels.triton_exact",),
    ("kernels.triton_launch",),
    ("kernels.triton_running",),
    ("kernels.device",),
    ("measure", "stacks"),
    ("accumulator", "weighing"),
    ("sources.classic", "sources.needs", "sources.page_cache", "sources.pixels"),
    ("sources.places",),
    ("sources.inputs", "sources.tiff"),
    ("sources.items",),
    ("masks",),
    ("sources.arrays", "sources.conventions", "sources.files", "sources.jpeg"),
    ("sources.iterables", "sources.pictures", "sources.tables"),
    ("sources.images", "sources.variables"),
    (
        "sources.audio",
        "sources.frames",
        "sources.hdf5",
        "sources.idx",
        "sources.netcdf",
        "sources.nifti",
        "sources.numpy_files",
        "sources.rasters",
        "sources.tars",
        "sources.xarrays",
        "sources.zarrs",
    ),
    ("sources.formats",),
    ("sources.registry",),
    ("reading",),
    ("progress", "sampling"),
    ("streams",),
    ("folding",),
    ("checkpoint", "samples"),
    ("compute", "shortcuts", "findings"),
    ("judging",),
    ("doctor", "convergence"),
    ("plotting",),
    ("sklearn", "exchange"),
    ("nn.buffers", "nn.folding", "nn.mapping", "nn.observing", "nn.repeats"),
    ("engines.partitions", "engines.ranks"),
    ("engines.torch",),
    ("engines.answers",),
    ("engines.dask_sources", "engines.mpi", "engines.ray", "engines.spark"),
    ("engines.dask",),
    ("nn.sharing",),
    ("nn.normalize", "nn.running"),
    ("nn",),
    ("cli.formats", "cli.resizing"),
    ("cli.options",),
    (
        "cli.compute",
        "cli.merge",
        "cli.show",
        "cli.compare",
        "cli.export",
        "cli.check",
        "cli.completion",
        "cli.plot",
        "cli.import_",
        "cli.sources",
    ),
    ("cli",),
    ("", "__main__"),
)
LEVEL = {module: level for level, room in enumerate(ROOMS) for module in room}
PACKAGES_WITHOUT_CODE = {"engines", "kernels", "sources"}
MAY_IMPORT = {
    "numba": "kernels.",
    "llvmlite": "kernels.",
    "torch": ("nn", "engines.torch", "kernels.torch_", "kernels.triton_", "kernels.device"),
    "triton": "kernels.triton_",
    "PIL": "sources.pictures",
    "sklearn": ("sklearn", "exchange"),
    "matplotlib": "plotting",
    "simplejpeg": "sources.jpeg",
    "tqdm": "progress",
    "dask": "engines.dask",
    "mpi4py": "engines.mpi",
    "ray": "engines.ray",
    "pyspark": "engines.spark",
}


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield ".".join(p for p in parts if p != "__init__"), path


def imports(path):
    """Yield (module, at module level?) of every import in the file."""
    tree = ast.parse(path.read_text())
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in top
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}".removeprefix("streamnorm.")
                is_module = node.module.startswith("streamnorm") and inner in LEVEL
                yield f"streamnorm.{inner}" if is_module else node.module, id(node) in top


def test_every_module_has_its_room():
    assert {name for name, _ in modules()} - PACKAGES_WITHOUT_CODE == set(LEVEL)


@pytest.mark.parametrize(
    ("name", "path"), list(modules()), ids=lambda v: v if isinstance(v, str) else ""
)
def test_imports_follow_the_way_of_the_data(name, path):
    for imported, _ in imports(path):
        package, _, inner = imported.partition(".")
        if package == "streamnorm" and name not in PACKAGES_WITHOUT_CODE:
            # Numba is imported late: measure and accumulator reach kernels inside functions.
            assert LEVEL[inner] <= LEVEL[name], f"{name} must not import {imported}"


@pytest.mark.parametrize(
    "leaf", ["nn", "engines", "cli", "shortcuts", "sklearn", "doctor", "plotting"]
)
def test_leaves_are_imported_by_nobody_but_leaves(leaf):
    for name, path in modules():
        if not name.startswith(
            ("nn", "engines", "cli", "sklearn", "doctor", "plotting", "__main__")
        ):
            assert not any(i.startswith(f"streamnorm.{leaf}") for i, _ in imports(path)), name


@pytest.mark.parametrize(("library", "room"), MAY_IMPORT.items())
def test_heavy_libraries_are_imported_in_their_room_only(library, room):
    for name, path in modules():
        if any(i.partition(".")[0] == library for i, _ in imports(path)):
            assert name.startswith(room), f"{name} imports {library}"


def test_only_leaves_and_kernels_import_heavy_libraries_at_module_level():
    for name, path in modules():
        heavy = {i.partition(".")[0] for i, top in imports(path) if top} & set(MAY_IMPORT)
        assert not heavy or name.startswith(("kernels.", "nn", "engines.", "sklearn"))


def test_kernels_are_only_imported_inside_functions():
    for name, path in modules():
        if not name.startswith("kernels"):
            assert not any(top and i.startswith("streamnorm.kernels") for i, top in imports(path))


def test_the_merge_formula_stands_once():
    holders = [name for name, path in modules() if "w_a * w_b" in path.read_text()]
    assert holders == ["partial"]
