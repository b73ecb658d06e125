"""Whether the statistics of all ranks may be merged."""

import hashlib

import torch
from torch import distributed

from streamnorm.engines.torch import gather
from streamnorm.moments import Moments

__all__ = ["FORGETS", "check_common", "is_alone"]

FORGETS = "with half_life= there is no merging of ranks; pass half_life=None"


def is_alone() -> bool:
    """Whether there is no process group."""
    return not (distributed.is_available() and distributed.is_initialized())


def check_common(common: Moments, group: distributed.ProcessGroup | None, *, forgets: bool) -> None:
    """Refuse, on all ranks alike, to merge what is new into statistics that are not the same.

    Raises
    ------
    ValueError
        If they differ, or some rank forgets.
    """
    name = hashlib.sha256(common.rows.tobytes()).digest()
    own = torch.tensor([int(forgets), common.channels, int.from_bytes(name[:7])])
    found = [tuple(words.tolist()) for words in gather(own, group)]
    if any(others for others, _, _ in found):
        raise ValueError(FORGETS)
    # Other numbers of channels are refused by name when values are merged.
    if len({channels for _, channels, _ in found}) == 1 and len(set(found)) > 1:
        same = [rank for rank, other in enumerate(found) if other == found[0]]
        msg = (
            f"the ranks began with different statistics: rank(s) {', '.join(map(str, same))} with "
            f"others than the rest; load one state_dict on all of them"
        )
        raise ValueError(msg)
