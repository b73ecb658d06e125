"""MPI: the values of all ranks, merged on every rank to the same bits."""

from typing import Any, TypeVar

import numpy as np

from streamnorm.engines.answers import required
from streamnorm.engines.ranks import Words, across
from streamnorm.exact import ExactMoments
from streamnorm.moments import Moments

__all__ = ["all_merge"]

MPI = required("mpi4py.MPI", "mpi")
V = TypeVar("V", Moments, ExactMoments)


def all_merge(value: V | None, comm: Any = None) -> V:
    """Merge the values of all ranks of a communicator; every rank gets the same.

    Every rank must call this, as with any collective: of a header of four integers, by which every
    rank knows whether the values fit each other, and of states of one size, which are then merged
    in the order of the ranks. Start programs as ``mpiexec -n 4 python -m mpi4py program.py``: else
    the other ranks wait for ever for one that has raised.

    Parameters
    ----------
    value : Moments, ExactMoments or None
        What this rank has seen. None, or an empty value, if that is nothing.
    comm : mpi4py.MPI.Comm, optional
        Default: ``MPI.COMM_WORLD``.

    Returns
    -------
    Moments or ExactMoments
        The same bits on every rank. Of ``meta`` names, labels and the shape of the channels are
        kept; its one pass says how many ranks there were.

    Raises
    ------
    ValueError
        On every rank, if kinds, channels, names or releases differ, or no rank has anything; the
        message says which ranks have what.

    Examples
    --------
    >>> import streamnorm as sn
    >>> from streamnorm.engines.mpi import all_merge
    >>> all_merge(sn.measure([[1.0], [3.0]]))
    Moments(C=1, n=2, mean=[2], std=[1])
    """
    comm = MPI.COMM_WORLD if comm is None else comm

    def gather(words: Words) -> list[Words]:
        gathered = np.empty((comm.size, *words.shape), np.int64)
        comm.Allgather(words, gathered)
        return list(gathered)

    return across(value, gather, "MPI")
