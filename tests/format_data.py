"""A small data set in every format, with the arrays that are in it."""

import gzip
import io
import struct
import tarfile

import numpy as np
import pytest

import streamnorm as sn


def rng(seed):
    return np.random.default_rng(seed)


def table_of(seed, rows=700):
    draw = rng(seed)
    return {
        "speed": draw.normal(300, 2, rows).astype(np.float32),
        "gear": draw.integers(0, 5, rows),
        "arm": draw.normal(size=(rows, 4)),
    }


def write_parquet(path, seed):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    values = table_of(seed)
    arm = pa.FixedSizeListArray.from_arrays(pa.array(values["arm"].ravel()), 4)
    table = pa.table({"speed": values["speed"], "gear": values["gear"], "arm": arm})
    pq.write_table(table, path, row_group_size=256)
    return values


def write_arrow(path, seed):
    pa = pytest.importorskip("pyarrow")
    values = table_of(seed)
    table = pa.table({name: pa.array(v.tolist()) for name, v in values.items()})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=100)
    return {name: np.asarray(v.tolist()) for name, v in values.items()}


def write_csv(path, seed):
    pytest.importorskip("pyarrow")
    draw = rng(seed)
    values = {"a": draw.integers(0, 9, 300), "b": draw.normal(size=300)}
    lines = [f"{a},{b!r}" for a, b in zip(*(v.tolist() for v in values.values()), strict=True)]
    path.write_text("a,b\n" + "\n".join(lines) + "\n")
    return values


def grid_of(seed):
    draw = rng(seed)
    return {
        "temperature": draw.normal(280, 5, (6, 40, 30)).astype(np.float32),
        "rain": draw.integers(0, 100, (6, 40)).astype(np.int16),
    }


def write_netcdf(path, seed):
    library = pytest.importorskip("netCDF4")
    values = grid_of(seed)
    with library.Dataset(path, "w") as file:
        for name, size in (("time", 6), ("y", 40), ("x", 30)):
            file.createDimension(name, size)
        file.createVariable("time", "f8", ("time",))[:] = np.arange(6)
        for name, array in values.items():
            variable = file.createVariable(name, array.dtype, ("time", "y", "x")[: array.ndim])
            variable[:] = array
    return values


def write_hdf5(path, seed):
    library = pytest.importorskip("h5py")
    values = grid_of(seed)
    with library.File(path, "w") as file:
        file.create_dataset("temperature", data=values["temperature"], chunks=(1, 16, 16))
        file.create_group("inner")["rain"] = values["rain"]
    return {"inner/rain": values["rain"], "temperature": values["temperature"]}


def write_zarr(path, seed):
    library = pytest.importorskip("zarr")
    values = grid_of(seed)
    group = library.open_group(path, mode="w")
    for name, array in values.items():
        made = group.create_array(
            name, shape=array.shape, dtype=array.dtype, chunks=(2,) * array.ndim
        )
        made[...] = array
    return values


def write_geotiff(path, seed):
    rasterio = pytest.importorskip("rasterio")
    values = rng(seed).integers(0, 9, (3, 50, 40)).astype(np.uint8)
    # A raster that is nowhere is warned of; this one is near Greenwich.
    where = rasterio.transform.from_origin(0, 51, 0.1, 0.1)
    with rasterio.open(
        path, "w", driver="GTiff", height=50, width=40, count=3, dtype="uint8", nodata=0,
        transform=where, crs="EPSG:4326",
    ) as file:  # fmt: skip
        file.write(values)
    return np.ma.masked_equal(values, 0)


def write_nifti(path, seed):
    library = pytest.importorskip("nibabel")
    values = rng(seed).integers(-500, 500, (7, 6, 5)).astype(np.int16)
    library.save(library.Nifti1Image(values, np.eye(4)), path)
    return values


def write_wav(path, seed):
    library = pytest.importorskip("soundfile")
    stored = rng(seed).integers(-(2**15), 2**15, (900, 2)).astype(np.int16)
    library.write(path, stored, 16_000, "PCM_16")
    return stored / 2**15


def write_idx(path, seed):
    values = rng(seed).integers(0, 256, (20, 6, 6)).astype(np.uint8)
    data = struct.pack(">HBB3I", 0, 8, 3, *values.shape) + values.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return values


def write_npy(path, seed):
    values = rng(seed).normal(size=(50, 3))
    np.save(path, values)
    return values


def write_npz(path, seed):
    values = rng(seed).normal(size=(50, 3))
    np.savez_compressed(path, only=values)
    return values


def picture(seed):
    return rng(seed).integers(0, 256, (12, 9, 3)).astype(np.uint8)


def encoded(array, kind="PNG"):
    image = pytest.importorskip("PIL.Image")
    buffer = io.BytesIO()
    image.fromarray(array).save(buffer, kind)
    return buffer.getvalue()


def write_png(path, seed):
    path.write_bytes(encoded(picture(seed)))
    return picture(seed)


def write_tar(path, seed):
    pictures = [picture(seed * 10 + k) for k in range(4)]
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as shard:
        for number, one in enumerate(pictures):
            add(shard, f"{number:04}.png", encoded(one))
            add(shard, f"{number:04}.cls", b"3")
    return np.concatenate(pictures)


def add(shard, name, data):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    shard.addfile(member, io.BytesIO(data))


# name of the format: suffix, what writes a file and returns its arrays, their channel axis
FORMATS = {
    "Parquet": (".parquet", write_parquet, None),
    "Arrow": (".arrow", write_arrow, None),
    "CSV": (".csv", write_csv, None),
    "NetCDF": (".nc", write_netcdf, None),
    "HDF5": (".h5", write_hdf5, None),
    "zarr": (".zarr", write_zarr, None),
    "GeoTIFF": (".tif", write_geotiff, 0),
    "NIfTI": (".nii.gz", write_nifti, None),
    "sound": (".wav", write_wav, None),
    "idx": ("-idx3-ubyte.gz", write_idx, None),
    "NumPy": (".npy", write_npy, 1),
    "NumPy archive": (".npz", write_npz, 1),
    "images": (".png", write_png, -1),
    "tar of images": (".tar", write_tar, -1),
}
SEVERAL = ("Parquet", "Arrow", "CSV", "NetCDF", "HDF5", "zarr")
"""Formats of several named arrays."""


def written(format_name, folder, seed=0, name="part"):
    """Write a file; return its path and what is to come out, exactly."""
    suffix, write, axis = FORMATS[format_name]
    path = folder / f"{name}-{seed}{suffix}"
    return path, expected(write(path, seed), axis)


def expected(arrays, axis):
    if isinstance(arrays, dict):
        return {name: expected(a, 1 if name == "arm" else None) for name, a in arrays.items()}
    return sn.measure(arrays, channel_axis=axis, exact=True)


def digests(value):
    if isinstance(value, dict):
        return {name: one.digest() for name, one in value.items()}
    return value.digest()
