"""Certified values and hard cases as arrays (tests/DATA.md says where they come from)."""

import json

import numpy as np

NIST = (
    "Lew",
    "Lottery",
    "Mavro",
    "Michelso",
    "NumAcc1",
    "NumAcc2",
    "NumAcc3",
    "NumAcc4",
    "PiDigits",
)


def nist_values(folder, name):
    count = json.loads((folder / "nist_strd" / "certified.json").read_text())[name]["n"]
    path = folder / "nist_strd" / f"{name}.dat"
    if not path.exists():
        path = path.with_suffix(".txt")
    words = path.read_text().split()
    return np.array([float(word) for word in words[-count:]])


def peer_cases(folder):
    return json.loads((folder / "vectors" / "peer_vectors.json").read_text())


def column_of(case):
    if case["dtype"] == "int64":
        return np.array([int(text) for text in case["data_dec"]], np.int64)
    return np.array([float.fromhex(text) for text in case["data"]], case["dtype"])
