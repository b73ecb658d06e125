"""What formats say of their data: missing values, scales, names, pixels; and what is refused."""

import gzip
import io
import os
import tarfile
import warnings

import numpy as np
import pytest
from format_data import add, encoded

import streamnorm as sn
from streamnorm import StreamnormWarning
from streamnorm.sources import jpeg

RNG = np.random.default_rng(0)


# Tables


@pytest.fixture
def arrow():
    return pytest.importorskip("pyarrow")


def parquet(tmp_path, columns, name="t.parquet", **options):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / name
    pq.write_table(pa.table(columns), path, **options)
    return path


def test_nulls_are_omitted_and_counted_never_data(arrow, tmp_path):
    path = parquet(tmp_path, {"x": [1.0, None, 3.0], "v": [[1.0, 2.0], None, [3.0, None]]})
    for nodata in ("auto", None):
        got = sn.compute(path, nodata=nodata)
        assert (got["x"].count.tolist(), got["x"].omitted.tolist()) == ([2], [1])
        assert (got["v"].count.tolist(), got["v"].omitted.tolist()) == ([2, 1], [1, 2])


def test_nan_in_a_table_is_a_number_for_the_nan_policy(arrow, tmp_path):
    path = parquet(tmp_path, {"x": [1.0, float("nan"), 3.0]})
    assert np.isnan(sn.compute(path)["x"].mean[0])
    assert sn.compute(path, nan_policy="omit")["x"].omitted.tolist() == [1]


def test_null_lists_of_a_whole_row_group_count_as_many_values_as_the_others_have(arrow, tmp_path):
    rows = [[1.0, 2.0]] * 4 + [None] * 4 + [[3.0, 5.0]] * 4
    path = parquet(tmp_path, {"v": rows}, row_group_size=4)
    for exact in (False, True):
        got = sn.compute(path, exact=exact)["v"]
        assert (got.count.tolist(), got.omitted.tolist()) == ([8, 8], [4, 4])


def test_a_column_of_nothing_but_null_lists_is_left_out_with_a_warning(arrow, tmp_path):
    nothing = arrow.array([None, None], arrow.list_(arrow.float64()))
    path = parquet(tmp_path, {"x": [1.0, 2.0], "v": nothing})
    with pytest.warns(StreamnormWarning, match=r"v of .* left out: nothing but nulls"):
        assert list(sn.compute(path)) == ["x"]
    with pytest.raises(ValueError, match="nothing but 2 nulls"):
        sn.compute(path, select="v")


def test_columns_without_numbers_are_listed_in_one_warning(arrow, tmp_path):
    path = parquet(tmp_path, {"x": [1.0], "name": ["a"], "day": [b"b"]})
    other = parquet(tmp_path, {"x": [1.0], "name": ["a"]}, "u.parquet")
    with pytest.warns(StreamnormWarning) as caught:
        assert list(sn.compute([path, other])) == ["x"]
    assert [str(w.message).partition(":")[2] for w in caught] == [
        " columns left out, as their type is not numeric: 'name', 'day'"
    ]
    with pytest.raises(
        ValueError, match=r"t\.parquet: column 'name' of type string holds no numbers"
    ):
        sn.compute(path, select="name")


def test_ragged_lists_are_named_with_file_rows_and_column(arrow, tmp_path):
    path = parquet(tmp_path, {"v": [[1.0], [1.0, 2.0]]})
    with pytest.raises(
        ValueError, match=r"t\.parquet, rows 0 to 2: column 'v': its lists are of 1 to 2"
    ):
        sn.compute(path)


def test_a_batch_with_a_ragged_column_counts_in_no_column(arrow, tmp_path):
    good, bad = [[1.0, 2.0]] * 3, [[1.0], [1.0, 2.0], [0.0]]
    path = parquet(tmp_path, {"x": range(6), "v": good + bad}, row_group_size=3)
    with pytest.warns(StreamnormWarning, match="rows 3 to 6"):
        got = sn.compute(path, on_error="skip")
    assert got["x"].count.tolist() == [3]
    assert got["v"].count.tolist() == [3, 3]


def test_a_shard_of_other_columns_is_refused_and_can_be_skipped(arrow, tmp_path):
    one = parquet(tmp_path, {"x": [1.0], "y": [1.0]}, "one.parquet")
    two = parquet(tmp_path, {"x": [2.0], "z": [2.0]}, "two.parquet")
    with pytest.raises(ValueError, match=r"two\.parquet: it holds also z and no y"):
        sn.compute([one, two])
    with pytest.warns(StreamnormWarning, match=r"two\.parquet"):
        got = sn.compute([one, two], on_error="skip")
    assert got["x"].count.tolist() == [1]
    assert sn.compute([one, two], select="x").count.tolist() == [2]


def test_a_shard_of_another_number_of_channels_is_refused_and_can_be_skipped(arrow, tmp_path):
    one = parquet(tmp_path, {"v": [[1.0, 2.0]]}, "one.parquet")
    two = parquet(tmp_path, {"v": [[1.0, 2.0, 3.0]]}, "two.parquet")
    with pytest.raises(ValueError, match=r"two\.parquet.* has 3 channels .* has 2"):
        sn.compute([one, two])
    with pytest.warns(StreamnormWarning, match=r"two\.parquet"):
        assert sn.compute([one, two], on_error="skip")["v"].count.tolist() == [1, 1]


def test_large_row_groups_come_in_batches_with_the_same_answer(arrow, tmp_path, monkeypatch):
    values = RNG.normal(size=300_000)
    path = parquet(tmp_path, {"x": values}, row_group_size=300_000)
    whole = sn.compute(path, exact=True)["x"]
    monkeypatch.setattr("streamnorm.sources.tables._GROUP_BYTES", 0)
    pieces = sn.compute(path, exact=True)["x"]
    assert whole == pieces == sn.measure(values, channel_axis=None, exact=True)
    assert (whole.meta.report.read, pieces.meta.report.read) == (1, 5)


def test_csv_numbers_may_become_fractions_and_missing_further_on(arrow, tmp_path):
    path = tmp_path / "t.csv"
    lines = ["1"] * 400_000 + ["2.5", "", "NA"]
    path.write_text("x,label\n" + "".join(f"{line},a\n" for line in lines))
    with pytest.warns(StreamnormWarning, match="'label'"):
        got = sn.compute(path)["x"]
    assert (got.count.tolist(), got.omitted.tolist()) == ([400_001], [2])
    assert got.maximum.tolist() == [2.5]


def test_csv_errors_name_the_row(arrow, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("x\n" + "1\n" * 1_000_000 + "hello\n")
    with pytest.raises(ValueError, match=r"t\.csv.*Row #1000002.*hello"):
        sn.compute(path)


def test_tsv_and_gzip(arrow, tmp_path):
    import gzip

    (tmp_path / "t.tsv").write_text("a\tb\n1\t2\n3\t4\n")
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n3,4\n"))
    for name in ("t.tsv", "t.csv.gz"):
        got = sn.compute(tmp_path / name)
        assert [value.mean[0] for value in got.values()] == [2.0, 3.0]


def test_tables_in_memory(arrow):
    pandas = pytest.importorskip("pandas")
    x, y = RNG.normal(size=50), np.arange(50)
    frame = pandas.DataFrame({"x": x, "y": y, "name": "a"})
    right = {"x": sn.measure(x, channel_axis=None), "y": sn.measure(y, channel_axis=None)}
    for table in (frame, arrow.table({"x": x, "y": y, "name": ["a"] * 50})):
        with pytest.warns(StreamnormWarning, match="'name'"):
            got = sn.compute(table)
        assert got == right
        assert got["x"].meta.names == ("x",)
        assert sn.compute(table, select="y") == right["y"]


def test_what_pandas_says_is_missing_is_omitted_and_nan_is_not(arrow):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"x": pandas.array([1, None, 3], "Int64"), "y": [1.0, np.nan, 3.0]})
    got = sn.compute(frame)
    assert (got["x"].count.tolist(), got["x"].omitted.tolist()) == ([2], [1])
    assert np.isnan(got["y"].mean[0])


# Variables


def test_every_way_to_say_missing_and_packed(tmp_path):
    library = pytest.importorskip("netCDF4")
    stored = np.array([-99, -1, 5, 20, 30, 40], np.int16)
    ways = {
        "_FillValue": ({}, {"fill_value": -99}, 1),
        "missing_value": ({"missing_value": np.int16([-99, -1])}, {}, 2),
        "valid_range": ({"valid_range": np.int16([0, 30])}, {}, 3),
        "valid_min": ({"valid_min": np.int16(0)}, {}, 2),
        "valid_max": ({"valid_max": np.int16(20)}, {}, 2),
    }
    for name, (attributes, options, omitted) in ways.items():
        path = tmp_path / f"{name}.nc"
        with library.Dataset(path, "w") as file:
            file.createDimension("n", 6)
            variable = file.createVariable("v", "i2", ("n",), **options)
            variable.set_auto_maskandscale(False)
            variable.setncatts(attributes | {"scale_factor": 0.5, "add_offset": 100.0})
            variable[:] = stored
        keep = {1: stored[1:], 2: stored[2:], 3: stored[2:5]}[omitted]
        keep = stored[:4] if name == "valid_max" else keep
        got = sn.compute(path)["v"]
        assert got.omitted.tolist() == [6 - len(keep)], name
        np.testing.assert_allclose(got.mean, (keep * 0.5 + 100).mean())
        np.testing.assert_allclose(got.std(), (keep * 0.5 + 100).std())
        right = sn.measure(
            stored * 0.5 + 100, channel_axis=None, exact=True, mask=np.isin(stored, keep)
        )
        assert sn.compute(path, exact=True)["v"] == right
        assert sn.compute(path, nodata=None)["v"].count.tolist() == [6]


def test_what_was_never_written_is_missing(tmp_path):
    library = pytest.importorskip("netCDF4")
    with library.Dataset(tmp_path / "x.nc", "w") as file:
        file.createDimension("n", 6)
        file.createVariable("v", "f4", ("n",))[:2] = [1, 3]
        file.createVariable("bytes", "u1", ("n",))[:] = range(250, 256)
    got = sn.compute(tmp_path / "x.nc")
    assert (got["v"].count.tolist(), got["v"].omitted.tolist()) == ([2], [4])
    assert got["bytes"].count.tolist() == [6]


def test_signed_bytes_may_stand_for_unsigned_ones(tmp_path):
    library = pytest.importorskip("netCDF4")
    with library.Dataset(tmp_path / "x.nc", "w") as file:
        file.createDimension("n", 2)
        variable = file.createVariable("v", "i1", ("n",))
        variable.set_auto_maskandscale(False)
        variable.setncattr("_Unsigned", "true")
        variable[:] = np.int8([-1, 1])
    assert sn.compute(tmp_path / "x.nc")["v"].maximum.tolist() == [255.0]


def test_files_of_one_series_may_be_packed_differently(tmp_path):
    library = pytest.importorskip("netCDF4")
    values = RNG.normal(280, 5, (2, 4, 50))
    paths, unpacked = [], []
    for number, (scale, part) in enumerate(zip((0.01, 0.02), values, strict=True)):
        paths.append(tmp_path / f"{number}.nc")
        with library.Dataset(paths[-1], "w") as file:
            file.createDimension("t", 4)
            file.createDimension("n", 50)
            variable = file.createVariable("v", "i2", ("t", "n"))
            variable.set_auto_maskandscale(False)
            variable.setncatts({"scale_factor": scale, "add_offset": 280.0})
            variable[:] = np.round((part - 280) / scale)
        unpacked.append(np.round((part - 280) / scale) * scale + 280)
    got = sn.compute(paths)["v"]
    np.testing.assert_allclose(got.mean, np.mean(unpacked), rtol=1e-13)
    np.testing.assert_allclose(got.std(), np.std(unpacked), rtol=1e-12)
    assert got.count.tolist() == [400]


def test_coordinates_bounds_and_what_has_no_axis_are_counted_as_ignored(tmp_path):
    library = pytest.importorskip("netCDF4")
    with library.Dataset(tmp_path / "x.nc", "w") as file:
        for name in ("lat", "two"):
            file.createDimension(name, 2)
        latitude = file.createVariable("lat", "f8", ("lat",))
        latitude.bounds = "lat_edges"
        file.createVariable("lat_edges", "f8", ("lat", "two"))
        file.createVariable("crs", "i4", ())
        file.createVariable("area", "f8", ("lat",))
        data = file.createVariable("data", "f8", ("lat",))
        data.coordinates = "area"
        data[:] = [1, 2]
    got = sn.compute(tmp_path / "x.nc")
    assert list(got) == ["data"]
    assert got["data"].meta.report.ignored == 4
    assert sn.compute(tmp_path / "x.nc", select=["crs", "data"])["crs"].omitted.tolist() == [1]


def test_a_kept_axis_of_a_variable_is_never_cut(tmp_path, monkeypatch):
    zarr = pytest.importorskip("zarr")
    values = RNG.normal(size=(30, 7, 40))
    group = zarr.open_group(tmp_path / "z.zarr", mode="w")
    group.create_array("v", shape=values.shape, chunks=(4, 3, 11), dtype="f8")[...] = values
    monkeypatch.setattr("streamnorm.sources.variables.ITEM_VALUES", 500)
    for axis in (None, 0, 1, -1, (1, 2)):
        got = sn.compute(tmp_path / "z.zarr", exact=True, channel_axis={"v": axis})["v"]
        assert got == sn.measure(values, exact=True, channel_axis=axis)


@pytest.mark.parametrize("version", [2, 3])
def test_zarr_as_xarray_writes_it(tmp_path, version):
    xarray, _ = pytest.importorskip("xarray"), pytest.importorskip("zarr")
    values = RNG.normal(280, 5, (4, 6)).astype(np.float32)
    values[1, 2] = np.nan
    dataset = xarray.Dataset({"t": (("y", "x"), values)}, coords={"y": np.arange(4)})
    encoding = {"t": {"dtype": "i2", "scale_factor": 0.01, "add_offset": 280.0, "_FillValue": -9}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.to_zarr(tmp_path / "z.zarr", encoding=encoding, zarr_format=version)
        opened = xarray.open_zarr(tmp_path / "z.zarr").load()
    got = sn.compute(tmp_path / "z.zarr")
    assert list(got) == ["t"]
    assert got["t"].omitted.tolist() == [1]
    np.testing.assert_allclose(got["t"].mean, np.nanmean(opened["t"].astype(float)), rtol=1e-6)


def test_floats_that_xarray_fills_with_nan_in_zarr_are_missing(tmp_path):
    xarray, _ = pytest.importorskip("xarray"), pytest.importorskip("zarr")
    dataset = xarray.Dataset({"t": (("x",), np.array([1.0, np.nan, 3.0]))})
    for version in (2, 3):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset.to_zarr(tmp_path / f"{version}.zarr", zarr_format=version)
        got = sn.compute(tmp_path / f"{version}.zarr")["t"]
        assert (got.count.tolist(), got.omitted.tolist()) == ([2], [1])


def test_a_fill_value_of_zarr_itself_is_no_missing_value(tmp_path):
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array(tmp_path / "a.zarr", shape=(4,), dtype="f4", fill_value=0)
    array[:2] = [1, 3]
    (got,) = sn.compute(tmp_path / "a.zarr").values()
    assert got.count.tolist() == [4]


def test_xarray_objects(tmp_path):
    xarray = pytest.importorskip("xarray")
    values = RNG.normal(size=(5, 3, 4))
    array = xarray.DataArray(values, dims=("t", "band", "x"))
    dataset = xarray.Dataset({"a": array, "b": ("t", np.arange(5)), "crs": 0})
    got = sn.compute(dataset)
    assert got == {
        "a": sn.measure(values, channel_axis=None),
        "b": sn.measure(np.arange(5), channel_axis=None),
    }
    assert sn.compute(array, channel_axis=1) == sn.measure(values)
    with pytest.raises(ValueError, match="which axis"):
        sn.compute(array)


def test_what_xarray_has_decoded_as_missing_is_omitted(tmp_path):
    xarray, _ = pytest.importorskip("xarray"), pytest.importorskip("netCDF4")
    dataset = xarray.Dataset({"a": ("t", np.array([1.0, np.nan, 3.0]))})
    assert np.isnan(sn.compute(dataset)["a"].mean[0])
    dataset.to_netcdf(tmp_path / "x.nc", encoding={"a": {"_FillValue": -1.0}})
    with xarray.open_dataset(tmp_path / "x.nc") as opened:
        got = sn.compute(opened)["a"]
    assert (got.count.tolist(), got.omitted.tolist()) == ([2], [1])


# Pictures


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("size", [(33, 17), (64, 48), (1, 1), (7, 150)])
def test_simplejpeg_gives_the_pixels_that_pillow_gives(subsampling, progressive, size):
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("simplejpeg")
    width, height = size
    slope = np.linspace(0, 170, width)[None, :, None]
    pixels = (RNG.integers(0, 80, (height, width, 3)) + slope).astype(np.uint8)
    for array in (pixels, pixels[..., 0]):
        buffer = io.BytesIO()
        image.fromarray(array).save(
            buffer, "JPEG", quality=85, subsampling=subsampling, progressive=progressive
        )
        for wanted in ("RGB", "L"):
            with image.open(buffer) as opened:
                pillow = np.atleast_3d(np.asarray(opened.convert(wanted)))
            found = jpeg.decoded(buffer.getvalue(), wanted, None)
            if wanted == "L" and array.ndim == 3:
                # Grey of colour is not the luminance that is stored: Pillow makes it.
                assert found is None
            else:
                np.testing.assert_array_equal(found[0], pillow)


@pytest.mark.parametrize("kind", ["CMYK", "cut", "PNG", "bomb", "two frames"])
def test_what_simplejpeg_might_read_differently_is_left_to_pillow(kind):
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("simplejpeg")
    array = RNG.integers(0, 255, (40, 50, 4 if kind == "CMYK" else 3)).astype(np.uint8)
    buffer = io.BytesIO()
    picture = image.fromarray(array, "CMYK") if kind == "CMYK" else image.fromarray(array)
    form = {"PNG": "PNG", "two frames": "MPO"}.get(kind, "JPEG")
    picture.save(
        buffer, form, **({"save_all": True, "append_images": [picture]} if form == "MPO" else {})
    )
    data = buffer.getvalue()
    data = data[: len(data) // 2] if kind == "cut" else data
    assert jpeg.decoded(data, "RGB", 1999 if kind == "bomb" else None) is None


def test_the_statistics_are_the_same_with_either_decoder(tmp_path, monkeypatch):
    for number in range(4):
        array = RNG.integers(0, 255, (30, 40, 3) if number % 2 else (30, 40)).astype(np.uint8)
        (tmp_path / f"{number}.jpg").write_bytes(encoded(array, "JPEG"))
    fast = sn.compute(tmp_path, exact=True)
    monkeypatch.setattr(jpeg, "_simplejpeg", lambda: None)
    slow = sn.compute(tmp_path, exact=True)
    assert fast.digest() == slow.digest()
    assert fast.meta.report.converted == slow.meta.report.converted == {"grey repeated": 2}
    decoders = [value.meta.provenance.passes[0].decoder for value in (fast, slow)]
    assert decoders[0].endswith(decoders[1])
    assert decoders[0].startswith("simplejpeg ")


def test_tiffs_of_many_bands_are_not_read_as_pictures(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    values = RNG.integers(0, 9, (2, 20, 20)).astype(np.uint16)
    where = rasterio.transform.from_origin(0, 51, 0.1, 0.1)
    options = {"driver": "GTiff", "height": 20, "width": 20, "dtype": "uint16", "transform": where}
    with rasterio.open(tmp_path / "a.tif", "w", count=2, **options) as file:
        file.write(values)
    assert sn.compute(tmp_path / "a.tif", exact=True) == sn.measure(
        values, channel_axis=0, exact=True
    )


@pytest.mark.parametrize("tags", ["nodata", "geo"])
def test_a_geotiff_without_rasterio_is_an_error_never_read_by_pillow(tmp_path, monkeypatch, tags):
    import importlib.util

    from format_data import write_geotiff

    write_geotiff(tmp_path / "a.tif", 0)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda m, *a: None if m == "rasterio" else find(m, *a)
    )
    with pytest.raises(ImportError, match=r"streamnorm\[geo\]"):
        sn.compute(tmp_path / "a.tif")


def test_a_geotiff_among_pictures_is_an_error(tmp_path):
    from format_data import write_geotiff, write_png

    write_png(tmp_path / "a.png", 0)
    write_geotiff(tmp_path / "b.geotiff", 0)
    (tmp_path / "b.geotiff").rename(tmp_path / "b.tif")
    from streamnorm.sources.pictures import read_file
    from streamnorm.sources.places import HERE, File

    with pytest.raises(ValueError, match="GeoTIFF, whose nodata"):
        read_file(File(HERE, str(tmp_path / "b.tif")), None)


def test_alpha_of_a_raster_is_a_mask_not_a_channel(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    values = RNG.integers(1, 255, (4, 20, 20)).astype(np.uint8)
    values[3] = np.where(np.arange(20) < 5, 0, 255)
    where = rasterio.transform.from_origin(0, 51, 0.1, 0.1)
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", height=20, width=20, count=4, dtype="uint8",
        transform=where, photometric="RGB", alpha="YES",
    ) as file:  # fmt: skip
        file.write(values)
    got = sn.compute(tmp_path / "a.tif")
    assert got == sn.measure(values[:3], channel_axis=0, mask=values[3] > 0)


def test_scales_of_bands_are_warned_of(tmp_path):
    from format_data import write_geotiff

    rasterio = pytest.importorskip("rasterio")
    write_geotiff(tmp_path / "a.tif", 0)
    with rasterio.open(tmp_path / "a.tif", "r+") as file:
        file.scales = (0.1,) * 3
    with pytest.warns(StreamnormWarning, match="stored values"):
        sn.compute(tmp_path / "a.tif")


def test_large_rasters_come_in_windows_along_their_blocks(tmp_path, monkeypatch):
    rasterio = pytest.importorskip("rasterio")
    values = RNG.integers(0, 200, (2, 300, 500)).astype(np.uint8)
    where = rasterio.transform.from_origin(0, 51, 0.1, 0.1)
    options = {"driver": "GTiff", "height": 300, "width": 500, "count": 2, "dtype": "uint8"}
    for name, tiles in {
        "strips": {},
        "tiles": {"tiled": True, "blockxsize": 64, "blockysize": 64},
    }.items():
        path = tmp_path / f"{name}.tif"
        with rasterio.open(path, "w", transform=where, **options, **tiles) as file:
            file.write(values)
        for most in (1, 9000, 40_000, 1 << 21):
            monkeypatch.setattr("streamnorm.sources.rasters.ITEM_VALUES", most)
            got = sn.compute(path, exact=True)
            assert got == sn.measure(values, channel_axis=0, exact=True)


# Tar shards


def tar(path, members):
    with tarfile.open(path, "w") as shard:
        for name, data in members.items():
            add(shard, name, data)
    return path


PIXELS = RNG.integers(0, 255, (9, 9, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    "name", ["../evil.png", "/etc/evil.png", "a/../../evil.png", "..\\evil.png"]
)
def test_members_that_lead_out_of_a_shard_are_refused(name, tmp_path):
    path = tar(tmp_path / "a.tar", {"good.png": encoded(PIXELS), name: encoded(PIXELS)})
    with pytest.raises(ValueError, match=r"a\.tar: its member .* leads out of the archive"):
        sn.compute(path)


def test_a_corrupt_member_is_named_and_can_be_skipped(tmp_path):
    bad = encoded(PIXELS)[:60]
    path = tar(
        tmp_path / "a.tar", {"1.png": encoded(PIXELS), "2.png": bad, "3.png": encoded(PIXELS)}
    )
    with pytest.raises(ValueError, match=r"a\.tar:2\.png"):
        sn.compute(path)
    with pytest.warns(StreamnormWarning, match=r"a\.tar:2\.png"):
        got = sn.compute(path, on_error="skip")
    assert got.count.tolist() == [162] * 3


def test_other_members_and_folders_of_a_shard_are_ignored_and_counted(tmp_path):
    path = tar(tmp_path / "a.tar", {"1.png": encoded(PIXELS), "1.json": b"{}", "._1.png": b"x"})
    assert sn.compute(path).meta.report.ignored == 2
    assert sn.compute(path, include="1.*").meta.report.ignored == 2
    with pytest.raises(ValueError, match="is empty, there is nothing to measure"):
        sn.compute(path, include="2.*")


def test_one_picture_in_colour_makes_all_of_a_shard_rgb(tmp_path):
    grey = encoded(PIXELS[..., 0])
    path = tar(tmp_path / "a.tar", {"1.png": grey, "2.png": encoded(PIXELS)})
    got = sn.compute(path)
    assert got.channels == 3
    assert got.meta.report.converted == {"grey repeated": 1}
    assert sn.compute(tar(tmp_path / "b.tar", {"1.png": grey})).channels == 1


def test_a_member_that_claims_a_gigabyte_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("streamnorm.sources.tars._MOST_BYTES", 50)
    path = tar(tmp_path / "a.tar", {"1.png": encoded(PIXELS)})
    with pytest.raises(ValueError, match=r"its member 1\.png claims .* bytes"):
        sn.compute(path)


def test_a_bomb_in_a_shard_meets_pillows_limit(tmp_path, monkeypatch):
    image = pytest.importorskip("PIL.Image")
    monkeypatch.setattr(image, "MAX_IMAGE_PIXELS", 20)
    for kind in ("PNG", "JPEG"):
        path = tar(tmp_path / "a.tar", {f"1.{kind.lower()}": encoded(PIXELS, kind)})
        with pytest.raises(ValueError, match="exceeds limit of 40 pixels"):
            sn.compute(path)


def test_labels_beside_images_are_no_images(tmp_path):
    def write(name, *shape):
        sizes = b"".join(size.to_bytes(4) for size in shape)
        (tmp_path / name).write_bytes(bytes((0, 0, 8, len(shape))) + sizes + bytes(np.prod(shape)))

    write("t10k-images-idx3-ubyte", 9, 4, 4)
    write("train-images-idx3-ubyte", 5, 4, 4)
    write("train-labels-idx1-ubyte", 5)
    with pytest.raises(ValueError, match=r"train-labels-idx1-ubyte: number of axes: 1, but 3"):
        sn.compute(tmp_path)
    assert sn.compute(tmp_path, exclude="*labels*").count == [14 * 16]
    assert sn.compute(tmp_path / "train-labels-idx1-ubyte").count == [5]
    with pytest.warns(StreamnormWarning, match="number of axes: 1, but 3 in the first file"):
        assert sn.compute(tmp_path, on_error="skip").count == [14 * 16]


def test_idx_headers_that_lie_are_refused(tmp_path):
    good = b"\0\0\x08\x01" + (3).to_bytes(4) + b"abc"
    for data, words in (
        (good + b"d", "more bytes follow"),
        (good[:-1], "was it cut off"),
        (b"\0\0\x07\x01" + good[4:], "no idx file"),
    ):
        (tmp_path / "x.idx").write_bytes(data)
        with pytest.raises(ValueError, match=words):
            sn.compute(tmp_path / "x.idx")


def test_nifti_is_scaled_as_its_header_says(tmp_path):
    library = pytest.importorskip("nibabel")
    stored = RNG.integers(-100, 100, (6, 5, 4)).astype(np.int16)
    image = library.Nifti1Image(stored, np.eye(4))
    image.header.set_slope_inter(0.25, 10)
    library.save(image, tmp_path / "a.nii")
    right = sn.measure(stored * 0.25 + 10, channel_axis=None)
    got = sn.compute(tmp_path / "a.nii")
    np.testing.assert_allclose([got.mean, got.std()], [right.mean, right.std()], rtol=1e-13)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_sound_has_the_samples_that_audio_libraries_give(tmp_path, subtype):
    library = pytest.importorskip("soundfile")
    library.write(tmp_path / "a.wav", RNG.uniform(-1, 1, (500, 2)), 8000, subtype)
    samples, _ = library.read(tmp_path / "a.wav", dtype="float64")
    got = sn.compute(tmp_path / "a.wav", exact=True)
    assert got == sn.measure(samples, channel_axis=None, exact=True)


# What a reader with a fresh eye found


def test_netcdf_files_on_many_threads_are_closed_where_they_were_opened(tmp_path):
    """Collected as garbage on another thread while one reads, a NetCDF file ended the process."""
    library = pytest.importorskip("netCDF4")
    for number in range(60):
        with library.Dataset(tmp_path / f"{number}.nc", "w") as file:
            file.createDimension("n", 2000)
            for name in "abcd":
                file.createVariable(name, "f4", ("n",), zlib=True)[:] = number
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    for _ in range(3):
        assert sn.compute(tmp_path, workers=8)["a"].mean.tolist() == [29.5]
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before + 2


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("damage", ["header", "concatenated", "cut"])
def test_no_member_of_a_shard_gets_lost_without_a_word(compressed, damage, tmp_path):
    import gzip

    # Of a kind that does not compress, so that a cut is a cut of data.
    noise = RNG.integers(0, 255, (9, 9, 9, 3)).astype(np.uint8)
    members = {f"{k}.png": encoded(pixels) for k, pixels in enumerate(noise)}
    data = bytearray(tar(tmp_path / "x.tar", members).read_bytes())
    if damage == "header":
        at = data.index(b"6.png")
        data[at + 148] ^= 1
    elif damage == "concatenated":
        data = data + data
    packed = gzip.compress(data) if compressed else bytes(data)
    packed = packed[: len(packed) * 3 // 4 - 100] if damage == "cut" else packed
    path = tmp_path / ("y.tar.gz" if compressed else "y.tar")
    path.write_bytes(packed)
    with pytest.raises(ValueError, match=path.name):
        sn.compute(path)
    with pytest.warns(StreamnormWarning, match=path.name):
        assert sn.compute(path, on_error="skip").meta.report.skipped == 1


def test_members_of_the_folder_itself_are_no_hidden_ones(tmp_path):
    path = tar(tmp_path / "x.tar", {"./1.png": encoded(PIXELS), "./.git/2.png": encoded(PIXELS)})
    report = sn.compute(path).meta.report
    assert (report.read, report.ignored) == (1, 1)


@pytest.mark.parametrize("name", ["./pictures/1.png", "./pictures/*.png", ".cache/1.png"])
def test_paths_may_begin_with_a_point(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("pictures", ".cache"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.png").write_bytes(encoded(PIXELS))
    assert sn.compute(name).meta.report.read == 1


def test_links_in_a_shard_are_said(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as shard:
        add(shard, "1.png", encoded(PIXELS))
        link = tarfile.TarInfo("2.png")
        link.type, link.linkname = tarfile.LNKTYPE, "1.png"
        shard.addfile(link)
    with pytest.warns(StreamnormWarning, match="1 links among its members are not followed"):
        assert sn.compute(tmp_path / "x.tar").meta.report.read == 1


def test_fills_of_unsigned_variables_are_written_as_signed_ones(tmp_path):
    library = pytest.importorskip("netCDF4")
    with library.Dataset(tmp_path / "x.nc", "w") as file:
        file.createDimension("n", 10)
        variable = file.createVariable("v", "i2", ("n",), fill_value=-1)
        variable.set_auto_maskandscale(False)
        variable.setncatts({"_Unsigned": "true", "valid_range": np.int16([0, -2])})
        variable[:] = [1, 2, 3, 4, 5, 6, 7, 8, -1, -1]
    got = sn.compute(tmp_path / "x.nc")["v"]
    assert (got.count.tolist(), got.mean.tolist()) == ([8], [4.5])


def test_variables_that_hold_no_numbers_are_left_out(tmp_path):
    library, h5py = pytest.importorskip("netCDF4"), pytest.importorskip("h5py")
    with library.Dataset(tmp_path / "x.nc", "w") as file:
        file.createDimension("n", 2)
        kind = file.createVLType(np.float32, "lists")
        file.createVariable("ragged", kind, ("n",))
        file.createVariable("y", "f4", ("n",))[:] = [1, 2]
        file.createVariable("text", str, ("n",))
        file.createDimension("none", 0)
        file.createVariable("nothing", "f4", ("none",))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["y"] = [1.0, 2.0]
        file["y"].attrs["scale_factor"] = h5py.Empty("f")
        file["long"] = np.zeros(3, np.longdouble)
        file["pair"] = np.zeros(3, [("a", "f4"), ("b", "f4")])
        file["elsewhere"] = h5py.ExternalLink("other.h5", "/x")
    for name, words in (("x.nc", "nothing"), ("x.h5", "elsewhere")):
        with pytest.warns(StreamnormWarning) as caught:
            got = sn.compute(tmp_path / name)
        assert got["y"].mean.tolist() == [1.5]
        assert any(words in str(w.message) for w in caught)


def test_groups_of_hdf5_have_their_own_coordinates(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["aa"] = [1.0]
        file["m/x"] = [2.0]
        file["zz"] = [3.0]
        file["zz"].attrs["coordinates"] = "aa"
    assert list(sn.compute(tmp_path / "x.h5")) == ["m/x", "zz"]


def test_empty_parquet_files_among_others(arrow, tmp_path):
    full = parquet(tmp_path, {"x": [1.0, 3.0]}, "a.parquet")
    empty = parquet(tmp_path, {"x": arrow.array([], arrow.float64())}, "b.parquet")
    assert sn.compute([full, empty])["x"].mean.tolist() == [2.0]
    with pytest.raises(ValueError, match="is empty, there is nothing to measure"):
        sn.compute(empty)


@pytest.mark.parametrize("fill", ["NaN", "AAAAAAAA+H8=", "missing!"])
def test_fill_values_of_zarr_that_are_text(fill, tmp_path):
    zarr = pytest.importorskip("zarr")
    given = {"_FillValue": fill}
    array = zarr.create_array(tmp_path / "a.zarr", shape=(3,), dtype="f8", attributes=given)
    array[:] = [1.0, np.nan, 3.0]
    (got,) = sn.compute(tmp_path / "a.zarr", nan_policy="omit").values()
    assert got.mean.tolist() == [2.0]


def test_xarray_that_was_sliced_or_not_decoded(tmp_path):
    xarray, _ = pytest.importorskip("xarray"), pytest.importorskip("netCDF4")
    dataset = xarray.Dataset({"t": (("time", "x"), np.array([[1.0, np.nan], [3.0, 5.0]]))})
    encoding = {"t": {"dtype": "i2", "_FillValue": -9, "scale_factor": 0.5, "chunksizes": (1, 2)}}
    dataset.to_netcdf(tmp_path / "x.nc", encoding=encoding)
    with xarray.open_dataset(tmp_path / "x.nc") as opened:
        assert sn.compute(opened.isel(time=1))["t"].mean.tolist() == [4.0]
        assert sn.compute(opened.t[1], channel_axis=None).mean.tolist() == [4.0]
    with xarray.open_dataset(tmp_path / "x.nc", mask_and_scale=False) as opened:
        assert sn.compute(opened)["t"].mean.tolist() == [3.0]


def test_rasters_of_other_scales_are_not_pooled(tmp_path):
    from format_data import write_geotiff

    rasterio = pytest.importorskip("rasterio")
    for number, scale in enumerate((0.1, 10.0)):
        write_geotiff(tmp_path / f"{number}.tif", 0)
        with rasterio.open(tmp_path / f"{number}.tif", "r+") as file:
            file.scales = (scale,) * 3
    with pytest.raises(ValueError, match=r"1\.tif: scales and offsets of bands: "):
        sn.compute(tmp_path)


def test_rasters_of_other_numbers_of_bands_are_named(tmp_path):
    from format_data import write_geotiff

    rasterio = pytest.importorskip("rasterio")
    write_geotiff(tmp_path / "0.tif", 0)
    with rasterio.open(tmp_path / "0.tif") as file:
        profile, bands = file.profile, file.read()
    with rasterio.open(tmp_path / "1.tif", "w", **(profile | {"count": 2})) as file:
        file.write(bands[:2])
    with pytest.raises(ValueError, match=r"1\.tif: number of bands: 2, but 3 in the first file"):
        sn.compute(tmp_path)


def test_masks_as_large_as_what_is_in_a_file(tmp_path, monkeypatch):
    zarr = pytest.importorskip("zarr")
    from format_data import write_idx

    x = RNG.normal(size=(500, 8))
    mask = RNG.uniform(size=x.shape) > 0.4
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", x=x)
    zarr.create_array(tmp_path / "x.zarr", shape=x.shape, dtype="f8", chunks=(100, 3))[...] = x
    for module in ("items", "arrays", "variables"):
        monkeypatch.setattr(f"streamnorm.sources.{module}.ITEM_VALUES", 300)
    right = sn.measure(x, mask=mask, exact=True)
    for name in ("x.npy", "x.npz"):
        assert sn.compute(tmp_path / name, mask=mask, exact=True) == right
    (got,) = sn.compute(tmp_path / "x.zarr", mask=mask, exact=True).values()
    assert got == sn.measure(x, mask=mask, exact=True, channel_axis=None)
    images = write_idx(tmp_path / "x.idx", 0)
    where = images > 100
    right = sn.measure(images, mask=where, exact=True, channel_axis=None)
    assert sn.compute(tmp_path / "x.idx", mask=where, exact=True) == right


def test_most_must_fit_the_first_one(tmp_path):
    for number in range(6):
        np.save(tmp_path / f"{number}.npy", np.zeros((5, 4 if number == 0 else 3)))
    with pytest.raises(ValueError, match=r"5 items of .* do not fit the first one, and only 1 do"):
        sn.compute(tmp_path, on_error="skip")


def test_include_and_exclude_choose_files_of_every_format(arrow, tmp_path):
    parquet(tmp_path, {"x": [1.0]}, "train.parquet")
    parquet(tmp_path, {"x": [3.0]}, "test.parquet")
    got = sn.compute(tmp_path, include="train*")["x"]
    assert (got.mean.tolist(), got.meta.report.ignored) == ([1.0], 1)
    with pytest.raises(ValueError, match=r"no files in .* that include= and exclude= leave"):
        sn.compute(tmp_path, exclude="*")


def test_remote_nifti_of_every_kind(tmp_path):
    library, fsspec = pytest.importorskip("nibabel"), pytest.importorskip("fsspec")
    values = RNG.integers(-5, 5, (4, 3, 2)).astype(np.int16)
    library.save(library.Nifti2Image(values, np.eye(4)), tmp_path / "a.nii.gz")
    fsspec.filesystem("memory").put(str(tmp_path / "a.nii.gz"), "/nifti2/a.nii.gz")
    assert sn.compute("memory://nifti2/a.nii.gz") == sn.measure(values, channel_axis=None)


# Files that were cut off


@pytest.mark.parametrize("form", ["NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA"])
@pytest.mark.parametrize("records", [0, 1, 2])
def test_classic_netcdf_files_that_were_cut_off_are_refused(tmp_path, form, records):
    library = pytest.importorskip("netCDF4")
    path = tmp_path / "t.nc"
    with library.Dataset(path, "w", format=form) as file:
        file.title = "of odd length"
        file.createDimension("time", None)
        file.createDimension("x", 3)
        file.createVariable("fixed", "f8", ("x",))[:] = 1
        for number in range(records):
            variable = file.createVariable(f"v{number}", "i2", ("time", "x"))
            variable.levels = np.arange(3, dtype="i2")
            variable[:] = np.full((5, 3), 7)
    whole = path.read_bytes()
    assert sn.compute(path)["fixed"].mean.tolist() == [1]
    # The last bytes may be there only to fill up to four.
    path.write_bytes(whole[:-4])
    with pytest.raises(ValueError, match=r"t\.nc: it has [\d,]+ of [\d,]+ bytes: was it cut off"):
        sn.compute(path)


def test_a_classic_netcdf_file_still_being_written_is_read(tmp_path):
    library = pytest.importorskip("netCDF4")
    path = tmp_path / "t.nc"
    with library.Dataset(path, "w", format="NETCDF3_CLASSIC") as file:
        file.createDimension("time", None)
        file.createDimension("x", 4)
    assert path.stat().st_size < 200
    with library.Dataset(path, "a") as file:
        file.createVariable("v", "f4", ("time", "x"))[:] = np.ones((2, 4))
    assert sn.compute(path, select="v").count.tolist() == [8]


# First rows of CSV


def test_a_csv_file_without_names_is_warned_of(tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "t.csv").write_text("1,2\n3,4\n5,6\n")
    with pytest.warns(StreamnormWarning, match="the first row is taken for the names of columns"):
        assert sn.compute(tmp_path / "t.csv")["1"].count.tolist() == [2]


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_csv_files_of_other_separators_are_refused_by_name(tmp_path, separator):
    pytest.importorskip("pyarrow")
    (tmp_path / "t.csv").write_text(f"a{separator}b\n1{separator}2\n")
    with pytest.raises(ValueError, match="first row has no comma but"):
        sn.compute(tmp_path / "t.csv")


def test_bounds_of_coordinates_are_no_data_of_xarray_either():
    xarray = pytest.importorskip("xarray")
    time = ("time", [0.0, 1.0], {"bounds": "time_bnds"})
    data = xarray.Dataset(
        {
            "t": (("time",), [1.0, 3.0]),
            "time_bnds": (("time", "side"), [[0.0, 1.0], [1.0, 2.0]]),
        },
        {"time": time},
    )
    assert list(sn.compute(data)) == ["t"]
    assert sn.compute(data, select="time_bnds").count.tolist() == [4]


def test_what_was_read_of_a_file_before_it_broke_is_said_to_count(tmp_path):
    rows = np.random.default_rng(0).normal(size=200_000)
    text = gzip.compress("\n".join(["a", *map(str, rows)]).encode())
    (tmp_path / "t.csv.gz").write_bytes(text[: len(text) * 2 // 3])
    with pytest.warns(StreamnormWarning, match=r"t\.csv\.gz .*what was read of it before counts"):
        value = sn.compute(tmp_path / "t.csv.gz", on_error="skip")["a"]
    assert 0 < value.count[0] < 200_000
    assert value.meta.report.skipped == 1


def test_a_table_of_names_alone_has_no_values(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n")
    with pytest.raises(ValueError, match=r"t\.csv: it has names of columns but no values"):
        sn.compute(tmp_path / "t.csv")
