"""What provenance says about this run: software, processor, time."""

import datetime as dt
import os
import platform
from functools import lru_cache
from pathlib import Path

import numpy as np

from streamnorm.meta import Pass, Report
from streamnorm.version import __version__

__all__ = ["new_pass", "now"]


def new_pass(
    source: str,
    kind: str,
    *,
    dtype: str = "",
    transform: str | None = None,
    decoder: str = "",
    report: Report | None = None,
) -> Pass:
    """Describe one pass over a source, made here and now."""
    software = f"streamnorm {__version__}, NumPy {np.__version__}"
    report = Report() if report is None else report
    return Pass(source, kind, dtype, transform, software, decoder, _cpu(), now(), report)


def now() -> str:
    """Return the time in UTC, ISO 8601; that of SOURCE_DATE_EPOCH where it is set.

    Raises
    ------
    ValueError
        If SOURCE_DATE_EPOCH is no number.
    """
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    if epoch and not epoch.isdigit():
        msg = f"SOURCE_DATE_EPOCH must be a number of seconds, got {epoch!r}"
        raise ValueError(msg)
    zone = dt.UTC
    moment = dt.datetime.fromtimestamp(int(epoch), zone) if epoch else dt.datetime.now(zone)
    return moment.isoformat(timespec="seconds")


@lru_cache
def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{models[0]} ({platform.machine()})" if models else platform.processor()
