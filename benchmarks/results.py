"""The results of runs, as pytest-benchmark wrote them: one file for each machine."""

import json
import re
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
    """All records of a run, and the machine it ran on.

    Attributes
    ----------
    machine : dict
    records : list of Record
    others : tuple of Results
        Of other machines, which were asked other questions.
    """

    machine: dict
    records: list
    others: tuple = ()

    @property
    def all(self):
        """The records of all machines."""
        return [*self.records, *(record for other in self.others for record in other.records)]

    def of(self, question):
        """Return the records of a question, in the order they were made."""
        return [record for record in self.all if record.question == question]

    def find(self, question, row, column=""):
        """Return one record, or None."""
        places = {(r.question, r.row, r.column): r for r in self.all}
        return places.get((question, row, column))


def load(path):
    """Read the results that a run has written."""
    content = json.loads(path.read_text())
    return Results(content["machine_info"], [_record(one) for one in content["benchmarks"]])


def load_all(folder):
    """Read the results of all machines; first comes the one that was asked most."""
    runs = sorted(map(load, folder.glob("*.json")), key=lambda run: -len(run.records))
    return Results(runs[0].machine, runs[0].records, tuple(runs[1:]))


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


def keep(folder, content, *, everything):
    """Keep results: those of the questions that were asked anew, on whatever machine, give way.

    Raises
    ------
    ValueError
        If this machine has kept results with other versions: those do not stand side by side.
    """
    words = re.findall(r"[a-z0-9]+", content["machine_info"]["processor"].lower())
    own = folder / ("-".join(word for word in words if word not in _EMPTY_WORDS) + ".json")
    anew = {one["extra_info"]["question"] for one in content["benchmarks"]}
    for path in [*folder.glob("*.json")]:
        kept = json.loads(path.read_text())
        old = [one for one in kept["benchmarks"] if one["extra_info"]["question"] not in anew]
        if everything or not old:
            path.unlink()
        elif path != own:
            _write(path, kept | {"benchmarks": old})
        elif any(kept["machine_info"][k] != content["machine_info"][k] for k in _SAME):
            msg = "the kept results of this machine are of other versions; measure all of them anew"
            raise ValueError(msg)
        else:
            content = content | {"benchmarks": old + content["benchmarks"]}
    _write(own, content)


_SAME = ("python", "versions")
_EMPTY_WORDS = {"r", "tm", "processor", "cpu"}


def _write(path, content):
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
