"""The formats that files are read in: how each is recognised, what it needs, what opens it.

A new one is a generator of items (see `streamnorm.sources.files`) and an entry here.
"""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from streamnorm.layout import ChannelAxis
from streamnorm.sources import numpy_files, pictures
from streamnorm.sources.audio import audio_items
from streamnorm.sources.files import by_file, one_channel
from streamnorm.sources.hdf5 import hdf5_items
from streamnorm.sources.idx import idx_items, is_idx
from streamnorm.sources.images import from_images
from streamnorm.sources.items import Choice, Source
from streamnorm.sources.netcdf import netcdf_items
from streamnorm.sources.nifti import nifti_items
from streamnorm.sources.places import Files
from streamnorm.sources.rasters import raster_items
from streamnorm.sources.tables import arrow_items, column_axis, csv_items, parquet_items
from streamnorm.sources.tars import from_tars
from streamnorm.sources.zarrs import zarr_items

__all__ = ["FORMATS", "GEOTIFF", "IMAGES", "ZARR", "Format", "format_of"]


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of file.

    Attributes
    ----------
    name : str
    suffixes : tuple of str
        By which a file is recognised, in lower case.
    opens : callable
        Files and choice -> their source.
    needs : tuple of str
        Modules to be imported.
    extra : str
        Of streamnorm, that installs them; "" where nothing is needed.
    matches : callable, optional
        Whether a file name is one, where suffixes do not tell.
    """

    name: str
    suffixes: tuple[str, ...]
    opens: Callable[[Files, Choice], Source]
    needs: tuple[str, ...] = ()
    extra: str = ""
    matches: Callable[[str], bool] | None = None

    def is_format_of(self, name: str) -> bool:
        """Whether a file is of this format, by its name."""
        return self.matches(name) if self.matches else name.lower().endswith(self.suffixes)

    @property
    def missing(self) -> list[str]:
        """Modules that are not installed."""
        return [module for module in self.needs if importlib.util.find_spec(module) is None]

    @property
    def hint(self) -> str:
        """How to install what it needs."""
        return f"pip install 'streamnorm[{self.extra}]'"

    @property
    def versions(self) -> str:
        """Names and versions of what reads it."""
        # It loads much that nobody needs who reads nothing.
        from importlib import metadata

        names = ("pillow" if module == "PIL" else module for module in self.needs)
        return ", ".join(f"{name} {metadata.version(name)}" for name in names)

    def open(self, files: Files, choice: Choice) -> Source:
        """Open files of this format.

        Raises
        ------
        ImportError
            If what reads them is not installed.
        """
        if self.missing:
            msg = (
                f"reading {files.names[0]} needs {' and '.join(self.missing)}; install with: "
                f"{self.hint}"
            )
            raise ImportError(msg)
        source = self.opens(files, choice)
        return source if source.decoder else replace(source, decoder=self.versions)


def _bands_first(_: tuple[int, ...]) -> ChannelAxis:
    return 0


IMAGES = Format(
    "images",
    tuple(sorted(pictures.SUFFIXES)),
    from_images,
    ("PIL",),
    "images",
    pictures.is_image,
)
GEOTIFF = Format(
    "GeoTIFF",
    (".tif", ".tiff", ".geotiff", ".gtiff"),
    by_file(raster_items, "rasters", _bands_first, one_kind=True, single=True),
    ("rasterio",),
    "geo",
)
ZARR = Format(
    "zarr",
    (".zarr", ".zarr.zip"),
    by_file(zarr_items, "zarr stores", one_channel, named=True, slices_masks=True),
    ("zarr",),
    "zarr",
)
FORMATS: Sequence[Format] = (
    # Images come before maps: a TIFF is a map if it says so itself.
    IMAGES,
    GEOTIFF,
    Format("tar of images", (".tar", ".tar.gz", ".tgz"), from_tars, ("PIL",), "images"),
    Format("NumPy", (".npy",), numpy_files.from_npy_files),
    Format("NumPy archive", (".npz",), numpy_files.from_npz_files),
    Format(
        "idx",
        ("-idx3-ubyte", "-idx3-ubyte.gz", ".idx"),
        by_file(idx_items, "idx files", one_channel, single=True, slices_masks=True),
        matches=is_idx,
    ),
    Format(
        "Parquet",
        (".parquet", ".pq"),
        by_file(parquet_items, "Parquet files", column_axis, named=True),
        ("pyarrow",),
        "tables",
    ),
    Format(
        "CSV",
        (".csv", ".tsv", ".csv.gz", ".tsv.gz"),
        by_file(csv_items, "CSV files", column_axis, named=True),
        ("pyarrow",),
        "tables",
    ),
    Format(
        "Arrow",
        (".arrow", ".feather", ".ipc"),
        by_file(arrow_items, "Arrow files", column_axis, named=True),
        ("pyarrow",),
        "tables",
    ),
    ZARR,
    Format(
        "HDF5",
        (".h5", ".hdf5", ".hdf", ".he5"),
        by_file(hdf5_items, "HDF5 files", one_channel, named=True, slices_masks=True),
        ("h5py",),
        "hdf5",
    ),
    Format(
        "NetCDF",
        (".nc", ".nc4", ".cdf", ".netcdf"),
        by_file(netcdf_items, "NetCDF files", one_channel, named=True, slices_masks=True),
        ("netCDF4",),
        "netcdf",
    ),
    Format(
        "NIfTI",
        (".nii", ".nii.gz"),
        by_file(nifti_items, "NIfTI files", one_channel, single=True),
        ("nibabel",),
        "medical",
    ),
    Format(
        "sound",
        (".wav", ".flac", ".aiff", ".aif", ".ogg"),
        by_file(audio_items, "sound files", one_channel, single=True),
        ("soundfile",),
        "audio",
    ),
)


def format_of(name: str) -> Format | None:
    """Return the format of a file by its name, None if it is of none that is known."""
    return next((known for known in FORMATS if known.is_format_of(name)), None)
