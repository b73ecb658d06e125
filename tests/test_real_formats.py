"""The published answers of real files, by `compute(path)` alone."""

import json
import warnings

import numpy as np
import pytest

import streamnorm as sn
from streamnorm import StreamnormWarning

pytestmark = pytest.mark.data


def quietly(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StreamnormWarning)
        return sn.compute(*arguments, **options)


def agrees(got, printed):
    """Whether a number rounds to what was printed, in as many digits."""
    mantissa = printed.lower().partition("e")[0].lstrip("-")
    digits = len(mantissa.replace(".", "").lstrip("0"))
    return f"{got:.{digits}g}" == f"{float(printed):.{digits}g}"


@pytest.mark.parametrize(
    ("file", "variable", "mean", "std", "omitted"),
    [
        ("tos_O1_2001-2002.nc", "tos", "286.697354447", "11.8458587279", 228_240),
        ("ostia_monthly.nc", "surface_temperature", "300.808438159", "1.97845852283", 110_970),
        ("eraint_uvz.nc", "z", "61179.3904644", "42032.4812445", 0),
        ("eraint_uvz.nc", "u", "6.94104786432", "11.3794721207", 0),
        ("eraint_uvz.nc", "v", "0.0298969379276", "2.78509074448", 0),
    ],
)
@pytest.mark.parametrize("exact", [False, True])
def test_netcdf(data, file, variable, mean, std, omitted, exact):
    values = quietly(data / "netcdf" / file, exact=exact)
    value = values[variable]
    assert agrees(value.mean[0], mean)
    assert agrees(value.std()[0], std)
    assert value.omitted.tolist() == [omitted]
    assert value.meta.names == (variable,)


def test_netcdf_holds_its_data_not_its_coordinates(data):
    folder = data / "netcdf"
    assert list(quietly(folder / "tos_O1_2001-2002.nc")) == ["tos"]
    assert list(quietly(folder / "ostia_monthly.nc")) == ["surface_temperature"]
    assert quietly(folder / "ostia_monthly.nc", select="latitude").count.tolist() == [18]


def test_netcdf_unmasked(data):
    path = data / "netcdf" / "tos_O1_2001-2002.nc"
    assert agrees(quietly(path, nodata=None)["tos"].mean[0], "3.1e19")


@pytest.mark.parametrize(
    ("nodata", "means", "stds", "counts"),
    [
        (
            "auto",
            ("44.434478650699", "66.022034841058", "71.393161991206"),
            ("58.490055929565", "58.203442743042", "60.827340889736"),
            [382_776, 382_939, 382_743],
        ),
        (None, ("29.947726688477",), ("52.340921626611",), [718 * 791] * 3),
    ],
)
def test_geotiff_with_nodata_and_without(data, nodata, means, stds, counts):
    value = sn.compute(data / "geotiff" / "RGB.byte.tif", nodata=nodata)
    assert value.count.tolist() == counts
    for got, printed in zip(value.mean.tolist(), means, strict=False):
        assert agrees(got, printed)
    for got, printed in zip(value.std().tolist(), stds, strict=False):
        assert agrees(got, printed)


def test_landsat_has_six_bands(data):
    value = sn.compute(data / "geotiff" / "L7_ETMs.tif")
    stds = ("14.694064257", "16.392784318", "21.587102668")
    stds += ("23.021180425", "38.492124507", "33.380013093")
    assert all(map(agrees, value.std().tolist(), stds))
    # Bands have as many pixels each.
    assert agrees(value.mean.mean(), "68.9124175132413")


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        ("float_raster_with_nodata.tif", [98]),
        ("float_raster_with_extra_nodata.tif", [98]),
        ("float_nan.tif", [5]),
        ("all-nodata.tif", [0] * 4),
        ("shade.tif", [124_375]),
    ],
)
def test_nodata_is_compared_in_the_dtype_of_the_band(data, file, counts):
    assert sn.compute(data / "geotiff" / file).count.tolist() == counts


def test_bands_keep_their_descriptions(data):
    value = sn.compute(data / "geotiff" / "all-nodata.tif")
    assert value.meta.names == ("blue", "green", "red", "nir")


@pytest.mark.parametrize(
    ("file", "mean", "std"),
    [
        ("example4d.nii.gz", "172.908114963", "238.768099509"),
        ("anatomical.nii", "8401.06672579", "2526.65611339"),
        ("functional.nii", "3637.40851368", "530.41237378"),
    ],
)
def test_nifti(data, file, mean, std):
    value = sn.compute(data / "nifti" / file)
    assert agrees(value.mean[0], mean)
    assert agrees(value.std()[0], std)


@pytest.mark.parametrize(
    ("table", "column", "count", "mean", "std"),
    [
        ("penguins", "bill_length_mm", 342, "43.9219298", "5.45958371"),
        ("penguins", "body_mass_g", 342, "4201.75439", "801.954536"),
        ("titanic", "age", 714, "29.6991176", "14.5264973"),
        ("planets", "mass", 513, "2.63816058", "3.81861665"),
        ("mpg", "horsepower", 392, "104.469388", "38.4911599"),
        ("diamonds", "price", 53_940, "3932.79972", "3989.43974"),
    ],
)
def test_csv(data, table, column, count, mean, std):
    value = quietly(data / "tabular" / f"{table}.csv")[column]
    assert value.count.tolist() == [count]
    assert agrees(value.mean[0], mean)
    assert agrees(value.std(ddof=1)[0], std)


def test_idx(data):
    value = sn.compute(data / "fashion_mnist" / "t10k-images-idx3-ubyte.gz", exact=True)
    assert value.sum[0] == 573_469_082
    assert value.sum_of_squares[0] == 105_272_563_536
    assert agrees(value.mean[0] / 255, "0.286849280712")
    assert agrees(value.std()[0] / 255, "0.352444153247")


def test_robot_episodes_agree_with_what_was_published_of_each(data):
    folder = data / "lerobot_g1"
    values = sn.compute(folder)
    lines = (folder / "meta" / "episodes_stats.jsonl").read_text().splitlines()
    for key in ("observation.state", "action"):
        episodes = [json.loads(line)["stats"][key] for line in lines]
        parts = [
            sn.Moments.from_mean_std(e["count"][0], e["mean"], e["std"], 0, e["min"], e["max"])
            for e in episodes
        ]
        published = sn.merge(parts)
        assert values[key].count.tolist() == [35_965] * 26
        # Their tool works in float32.
        scale = np.abs(values[key].mean) + values[key].std()
        assert (np.abs(published.mean - values[key].mean) < 4.6e-5 * scale).all()
        np.testing.assert_allclose(published.std(), values[key].std(), rtol=4e-6)
        np.testing.assert_array_equal(published.maximum, values[key].maximum)
