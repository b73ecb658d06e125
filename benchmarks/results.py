"""The results of one run, as pytest-benchmark wrote them."""

import json
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Record:
    """One timed piece of work.

    Attributes
    ----------
    question, row, column : str
        Its place in the tables.
    seconds : float
        Median of the rounds.
    bytes : int
        What was read.
    reading : float or None
        Bytes per second of the yardstick, in turns with it.
    info : dict
        Whatever else the benchmark noted.
    """

    question: str
    row: str
    column: str
    seconds: float
    bytes: int = 0
    reading: float | None = None
    info: dict = field(default_factory=dict)

    @property
    def speed(self):
        """Bytes per second."""
        return self.bytes / self.seconds

    @property
    def share(self):
        """The speed, of that of reading."""
        return self.speed / self.reading if self.reading else None


@dataclass(frozen=True)
class Results:
    """All records of a run, and the machine it ran on."""

    machine: dict
    records: list

    def of(self, question):
        """Return the records of a question, in the order they were made."""
        return [record for record in self.records if record.question == question]

    def find(self, question, row, column=""):
        """Return one record, or None."""
        places = {(r.question, r.row, r.column): r for r in self.records}
        return places.get((question, row, column))


def load(path):
    """Read the results that a run has written."""
    content = json.loads(path.read_text())
    return Results(content["machine_info"], [_record(one) for one in content["benchmarks"]])


def _record(one):
    info = dict(one["extra_info"])
    known = {name: info.pop(name) for name in ("question", "row", "column")}
    return Record(
        **known, seconds=one["stats"]["median"], bytes=info.pop("bytes", 0),
        reading=info.pop("reading", None), info=info,
    )  # fmt: skip


def slim(content):
    """Return what is worth keeping of pytest-benchmark's JSON."""
    stats = ("median", "min", "iqr", "rounds")
    return {
        "machine_info": content["machine_info"],
        "benchmarks": [
            {
                "extra_info": one["extra_info"],
                "stats": {name: one["stats"][name] for name in stats},
                "measured": content["datetime"][:16],
            }
            for one in content["benchmarks"]
        ],
    }


def renewed(kept, content):
    """Return kept results, with those of the questions that were asked anew in their places.

    Raises
    ------
    ValueError
        If they are of another machine or other versions: those do not stand side by side.
    """
    if kept["machine_info"] != content["machine_info"]:
        msg = "the kept results are of another machine or other versions; measure all of them anew"
        raise ValueError(msg)
    anew = {one["extra_info"]["question"] for one in content["benchmarks"]}
    old = [one for one in kept["benchmarks"] if one["extra_info"]["question"] not in anew]
    return content | {"benchmarks": old + content["benchmarks"]}
