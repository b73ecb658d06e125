"""A checkpointed pass that is killed, and goes on: real processes, real kill −9, a hundred times.

``python tests/kills.py`` prints the table of docs/reliability.md; `test_kills.py` runs it too.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

BATCHES = 300
PAUSE = 0.01
"""Seconds that every batch takes beside being measured, so that a pass has a length."""
INTERVAL = 0.05
"""Seconds between checkpoints, instead of 5: so that a pass of seconds has many."""
SPREAD = 90
IN_WRITING = 10


@dataclass(frozen=True)
class Kill:
    """One pass that was killed and then finished.

    Attributes
    ----------
    when : str
        "spread" over the length of the pass, or where in "writing" a checkpoint.
    exact : bool
        What was summed.
    batch : int
        Batches merged when the process was killed.
    resumed : int
        Batches that the checkpoint held: the first one that was read again.
    read : int
        Batches counted at the end, of both attempts together.
    count : int
        Values counted in a channel.
    bits : str
        Digest, or hash of all bits of the rounded result.
    """

    when: str
    exact: bool
    batch: int
    resumed: int
    read: int
    count: int
    bits: str


def command(folder, name, *, exact, fault=""):
    """The command of a pass; the same one goes on after a kill."""
    names = [str(folder / "shards"), str(folder / f"{name}.ckpt"), str(folder / f"{name}.log")]
    return [sys.executable, __file__, "pass", *names, str(int(exact)), fault]


def one_pass(shards, kept, log, exact, fault):
    """Be the process that is killed: measure the shards, and log every batch that was merged."""
    import streamnorm as sn
    from streamnorm import checkpoint

    checkpoint.INTERVAL = INTERVAL
    checkpoint._SHARE = 1.0
    if fault:
        _die_in_writing(fault)
    files = sorted(str(path) for path in Path(shards).iterdir())
    with open(log, "a", buffering=1) as lines:
        value = sn.compute(
            files,
            exact=exact == "1",
            transform=slow,
            progress=lambda done, total: lines.write(f"{done} {time.monotonic()}\n"),
            checkpoint=kept,
            workers=1,
        )
    rows = hashlib.sha256(value.rows.tobytes()).hexdigest()
    bits = value.digest() if exact == "1" else rows
    print(json.dumps({"bits": bits, "read": value.meta.report.read, "count": int(value.count[0])}))


def slow(batch):
    time.sleep(PAUSE)
    return batch


def _die_in_writing(fault):
    """Kill this process in its k-th checkpoint: before or after what is there is whole."""
    where, left = fault.split(":")[0], [int(fault.split(":")[1])]
    whole = {"before fsync": os.fsync, "after fsync": os.fsync, "before rename": Path.replace}[
        where
    ]

    def dies(*arguments):
        left[0] -= 1
        if left[0] == 0 and where == "after fsync":
            whole(*arguments)
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(*arguments)

    if where == "before rename":
        Path.replace = dies
    else:
        os.fsync = dies


def make_shards(folder):
    """Write the batches: normally distributed float32, each with a mean and size of its own."""
    (folder / "shards").mkdir()
    rng = np.random.default_rng(0)
    for k in range(BATCHES):
        batch = rng.normal(k, 1 + k % 7, (50 + k % 13, 3)).astype(np.float32)
        np.save(folder / "shards" / f"{k:04}.npy", batch)


def undisturbed(folder, exact):
    """Return the result of a pass in one go, and how long its batches took."""
    done = finish(command(folder, f"whole-{exact}", exact=exact))
    times = [float(line.split()[1]) for line in logged(folder, f"whole-{exact}")]
    return done, times[-1] - times[0]


def finish(arguments: Sequence[str]):
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout)


def logged(folder, name):
    log = folder / f"{name}.log"
    return log.read_text().splitlines() if log.exists() else []


def spread_kill(folder, length, number):
    """Kill a pass some way through its length, then let the same command finish it."""
    name, exact = f"spread-{number}", number % 2 == 0
    arguments = command(folder, name, exact=exact)
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL) as process:
        while not logged(folder, name) and process.poll() is None:
            time.sleep(0.002)
        time.sleep(length * (number + 0.5) / SPREAD)
        process.kill()
    return _resumed(folder, name, "spread", exact, arguments)


def kill_in_writing(folder, number):
    where = ("before fsync", "after fsync", "before rename")[number % 3]
    name, exact = f"writing-{number}", number % 2 == 0
    fault = f"{where}:{3 + 4 * number}"
    killed = subprocess.run(
        command(folder, name, exact=exact, fault=fault), capture_output=True, check=False
    )
    if killed.returncode != -signal.SIGKILL:
        raise RuntimeError(f"not killed in its {fault}: {killed.stderr}")
    return _resumed(folder, name, f"writing, {where}", exact, command(folder, name, exact=exact))


def _resumed(folder, name, when, exact, arguments):
    before = [int(line.split()[0]) for line in logged(folder, name)]
    done = finish(arguments)
    after = [int(line.split()[0]) for line in logged(folder, name)][len(before) :]
    resumed = after[0] - 1 if after else BATCHES
    return Kill(when, exact, before[-1] if before else 0, resumed, **done)


def run(folder):
    """Return the undisturbed results by `exact`, and all kills; several processes at a time."""
    make_shards(folder)
    whole = {exact: undisturbed(folder, exact) for exact in (True, False)}
    length = whole[True][1]
    with ThreadPoolExecutor(6) as pool:
        spread = pool.map(partial(spread_kill, folder, length), range(SPREAD))
        writing = pool.map(partial(kill_in_writing, folder), range(IN_WRITING))
        return {exact: done for exact, (done, _) in whole.items()}, [*spread, *writing]


def table(whole, kills):
    """Return the figures as Markdown."""
    between = [kill for kill in kills if kill.when == "spread" and 0 < kill.batch < BATCHES]
    lost = [max(0, whole[kill.exact]["read"] - kill.read) for kill in kills]
    doubled = [max(0, kill.read - whole[kill.exact]["read"]) for kill in kills]
    equal = sum(kill.bits == whole[kill.exact]["bits"] for kill in kills)
    again = [kill.batch - kill.resumed for kill in kills]
    rows = {
        "kills": len(kills),
        "of them between the first and the last batch": len(between),
        "of them inside the writing of a checkpoint": sum(k.when != "spread" for k in kills),
        "batches lost": sum(lost),
        "batches counted twice": sum(doubled),
        "results with the bits of the undisturbed pass": equal,
        "batches read again after a kill, at most": max(again),
    }
    lines = [f"| {what} | {number} |" for what, number in rows.items()]
    each = ", ".join(str(kill.batch) for kill in sorted(kills, key=lambda kill: kill.batch))
    head = [f"| a pass of {BATCHES} batches |  |", "| --- | --- |"]
    return "\n".join([*head, *lines, "", f"Batches merged at each kill: {each}.", ""])


if __name__ == "__main__":
    if sys.argv[1:2] == ["pass"]:
        one_pass(*sys.argv[2:])
    else:
        with tempfile.TemporaryDirectory() as made:
            print(table(*run(Path(made))))
