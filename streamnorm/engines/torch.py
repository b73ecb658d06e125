"""torch.distributed: the values of all ranks, merged on every rank to the same bits."""

from typing import TypeVar

import torch
from torch import Tensor, distributed

from streamnorm.engines.ranks import across
from streamnorm.exact import ExactMoments
from streamnorm.moments import Moments

__all__ = ["all_merge", "gather"]

V = TypeVar("V", Moments, ExactMoments)


def all_merge(value: V | None, group: distributed.ProcessGroup | None = None) -> V:
    """Merge the values of all ranks of a process group; every rank gets the same.

    Every rank must call this, as with any collective: of a header of four integers, by which every
    rank knows whether the values fit each other, and of states of one size, which are then merged
    in the order of the ranks.

    Parameters
    ----------
    value : Moments, ExactMoments or None
        What this rank has seen. None, or an empty value, if that is nothing.
    group : torch.distributed.ProcessGroup, optional
        Default: all ranks. With NCCL the states pass through the current CUDA device.

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
    RuntimeError
        If there is no process group, or a rank is gone: after the time-out of the group at the
        latest, on every rank that is left.

    Examples
    --------
    >>> import streamnorm as sn, torch.distributed as dist
    >>> from streamnorm.engines.torch import all_merge
    >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    >>> all_merge(sn.measure([[1.0], [3.0]]))
    Moments(C=1, n=2, mean=[2], std=[1])
    >>> dist.destroy_process_group()
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        msg = (
            "there is no process group to merge with; call torch.distributed.init_process_group "
            "first, as programs of torchrun do, or merge values with streamnorm.merge"
        )
        raise RuntimeError(msg)
    return across(
        value,
        lambda words: [state.numpy() for state in gather(torch.from_numpy(words.copy()), group)],
        "torch.distributed",
    )


def gather(words: Tensor, group: distributed.ProcessGroup | None) -> list[Tensor]:
    """Return the int64 words of every rank, in the order of the ranks, on the host.

    Raises
    ------
    RuntimeError
        If a rank is gone.
    """
    ranks = distributed.get_world_size(group)
    if ranks < 0:
        msg = "this rank is not in the group; only those that are call this"
        raise ValueError(msg)
    if "nccl" in distributed.get_backend(group):
        words = words.to(torch.device("cuda", torch.cuda.current_device()))
    gathered = [torch.empty_like(words) for _ in range(ranks)]
    try:
        distributed.all_gather(gathered, words, group=group)
    except RuntimeError as error:
        rank = distributed.get_rank(group)
        msg = (
            f"rank {rank} could not gather from all {ranks} ranks: is one gone, or busy for longer "
            f"than the group's time-out? ({error})"
        )
        raise RuntimeError(msg) from error
    return [state.cpu() for state in gathered]
