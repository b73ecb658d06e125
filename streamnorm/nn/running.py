"""Normalization by the moments of all that has passed through so far."""

from typing import Any, Self

import torch
from torch import Tensor, distributed

from streamnorm import running
from streamnorm.engines.torch import all_merge
from streamnorm.layout import ChannelAxis
from streamnorm.measure import NanPolicy, check_nan_policy
from streamnorm.moments import Moments
from streamnorm.nn.buffers import KeepsFloat64
from streamnorm.nn.mapping import apply, constants, dtypes_of
from streamnorm.nn.observing import Book
from streamnorm.nn.repeats import Recent, is_repeating
from streamnorm.nn.sharing import FORGETS, check_common, is_alone
from streamnorm.normalize import denormalized, normalized, shaped
from streamnorm.partial import Partial

__all__ = ["RunningNormalize"]


class RunningNormalize(KeepsFloat64):
    """``(x - mean) / std`` with the moments of all batches seen so far, the present one included.

    In ``train()`` a batch is measured and then normalized; in ``eval()``, after `freeze` and after
    `until` values nothing is learned any more. The moments are those of the data, merged batch by
    batch in float64: no prior, no momentum, no epsilon. A constant channel is divided by 1.

    The statistics are a buffer, float64 whatever the network is cast to, and part of the
    ``state_dict``, from which training goes on in every bit. What a module has learned by itself
    it keeps besides, so that DDP's broadcast of buffers takes nothing from it; copies that follow
    its buffers (averages of weights) normalize by those. A batch that is computed again in a
    backward pass (gradient checkpointing) counts once, and is normalized as before if it is one of
    the last 16 and this module the first that is checkpointed.

    Parameters
    ----------
    channels : int
        How many there are.
    channel_axis : int, tuple of int or None
        Where they are.
    min_count : float
        As long as a channel has fewer values it passes unchanged: the first observation of a
        single environment does.
    until : float, optional
        Once a channel has so many values nothing is added to it; what a `sync` brings counts.
        The batch that gets there counts.
    half_life : float, optional
        Forget: values count half after so many others of their channel; see `streamnorm.running`
        for the formula. Default: nothing is forgotten. There is no `sync` then, and no `moments`.
    nan_policy : {"propagate", "omit", "raise"}
        As for `streamnorm.measure`: one NaN makes a channel NaN for good, or is left out, or is
        refused. An infinity makes the mean infinite for good.

    Options are no part of the ``state_dict``: build the module with the same ones. What has been
    learned is deployed by ``Normalize.from_moments(module.moments)``.

    Examples
    --------
    >>> import torch
    >>> from streamnorm.nn import RunningNormalize
    >>> norm = RunningNormalize(2)
    >>> norm(torch.tensor([[1.0, 10.0], [3.0, 30.0]])).tolist()
    [[-1.0, -1.0], [1.0, 1.0]]
    >>> norm.eval()(torch.tensor([[5.0, 20.0]])).tolist()
    [[3.0, 0.0]]
    >>> norm.moments.count.tolist()
    [2, 2]
    """

    statistics: Tensor
    frozen: Tensor

    def __init__(
        self,
        channels: int,
        *,
        channel_axis: ChannelAxis = 1,
        min_count: float = 2,
        until: float | None = None,
        half_life: float | None = None,
        nan_policy: NanPolicy = "propagate",
    ) -> None:
        super().__init__()
        check_nan_policy(nan_policy)
        for name, given in (("channels", channels), ("half_life", half_life), ("until", until)):
            if given is not None and not given > 0:
                msg = f"{name} must be above 0, got {given}"
                raise ValueError(msg)
        if not min_count >= 1:
            msg = f"min_count must be at least 1, got {min_count}"
            raise ValueError(msg)
        if half_life is not None and until is not None:
            msg = "with half_life= counts stay bounded, so until= may never be reached; pass one"
            raise ValueError(msg)
        self.channels = channels
        self.channel_axis = channel_axis
        self.min_count = min_count
        self.until = until
        self.half_life = half_life
        self.nan_policy: NanPolicy = nan_policy
        self._book = Book.start(channels, min_count, torch.inf if until is None else until)
        self._common = Moments.empty(channels)
        self.keep("statistics", self._book.statistics().clone())
        self.register_buffer("frozen", torch.zeros((), dtype=torch.bool, device="cpu"))
        self._is_frozen = False
        self._recent = Recent()

    @property
    def moments(self) -> Moments:
        """What was seen, as a value; waits for the device.

        Raises
        ------
        ValueError
            With a half-life: there are no data whose moments these are.
        """
        if self.half_life is not None:
            msg = "with half_life= old values count less, so there are no moments of a data set"
            raise ValueError(msg)
        return Moments.of_rows(_rows(self._known()))

    def forward(self, x: Tensor) -> Tensor:
        """Learn from a batch if in training, and normalize it; dtypes as of `Normalize`.

        Raises
        ------
        ValueError
            If `x` has another number of channels, or a NaN under ``nan_policy="raise"``.
        TypeError
            If `x` is complex.
        """
        work, result = dtypes_of(x)
        if not self.training or self._is_frozen:
            values = self.made(x, self.channel_axis, work, self._settled)
            return apply(normalized, x, values, work, result)
        learn = self._learned
        if torch.compiler.is_compiling():
            if torch.compiler.is_exporting():
                msg = "a module that learns cannot be exported; call eval() or freeze() first"
                raise RuntimeError(msg)
            learn = self._learned_apart
        return apply(normalized, x, learn(x, work), work, result)

    def inverse(self, y: Tensor) -> Tensor:
        """Undo the map, learning nothing: ``y * std + mean``, dtypes as in `forward`."""
        work, result = dtypes_of(y)
        values = self.made(y, self.channel_axis, work, self._settled)
        return apply(denormalized, y, values, work, result)

    def learn(self, x: Tensor) -> None:
        """Learn from a batch without normalizing it, in training or not, unless frozen.

        Raises
        ------
        ValueError
            As `forward` does.
        """
        if self._is_frozen:
            return
        published = self._buffer("statistics")
        self._book.observe(x, self.channel_axis, self.nan_policy, self.half_life, published)
        self._made.clear()

    def sync(self, group: distributed.ProcessGroup | None = None) -> Self:
        """Merge what all ranks have learned since the last time, on every rank to the same bits.

        Every sample counts once, however often this is called. All ranks must call it, as any
        collective; it waits for the device. Without a process group there is nobody to merge with,
        and nothing is done. A checkpoint of one rank, from which all go on, should be made after
        a `sync`: what others had learned since is not in it.

        Parameters
        ----------
        group : torch.distributed.ProcessGroup, optional
            Default: all ranks.

        Raises
        ------
        ValueError
            On every rank, if channels differ or ranks began with different statistics; or with a
            half-life, as the ages of values on other ranks are not known.
        RuntimeError
            If a rank is gone.
        """
        forgets = self.half_life is not None
        if is_alone() and forgets:
            raise ValueError(FORGETS)
        if not is_alone():
            check_common(self._common, group, forgets=forgets)
            new = Moments.of_rows(self._book.new())
            self._adopt(self._common + all_merge(new, group))
        return self

    def _adopt(self, moments: Moments) -> None:
        """Go on from statistics that all ranks know."""
        self._common = Moments.of_rows(moments.rows)
        self._book.adopt(torch.from_numpy(running.to_fields(moments.rows)))
        self._book.publish(self._buffer("statistics"))
        self._made.clear()

    def freeze(self, *, frozen: bool = True) -> Self:
        """Learn nothing more, in training neither; ``frozen=False`` goes on."""
        self.frozen.fill_(frozen)
        self._is_frozen = frozen
        return self

    def _learned(self, x: Tensor, work: torch.dtype) -> tuple[Tensor, ...]:
        """Learn from a batch; gives what to normalize it with.

        One that is computed again is not learned from again; if it was made anew as well, it is
        not recognised, and taken for the last one.
        """
        if is_repeating():
            values = self._recent.recall(x)
            return self._fresh(x, work) if values is None else values
        self.learn(x)
        values = self._fresh(x, work)
        self._recent.remember(x, values)
        return values

    # What is learned is no part of a graph that is compiled.
    _learned_apart = torch.compiler.disable(_learned)  # type: ignore[no-untyped-call]

    def _fresh(self, x: Tensor, work: torch.dtype) -> tuple[Tensor, ...]:
        """Return what to normalize a batch with that has just been learned from."""
        values, device = self._book.constants(work), x.device
        if values[0].device != device:
            values = tuple(v.to(device) for v in values)
        if self.channel_axis in (-1, x.ndim - 1):
            return values
        return tuple(shaped(v, tuple(x.shape), self.channel_axis) for v in values)

    def _settled(
        self, shape: tuple[int, ...], work: torch.dtype, device: torch.device
    ) -> tuple[Tensor, ...]:
        """Return what to normalize with by the buffers: they may have come from elsewhere."""
        count, mean, m2, low, high, _ = self._known()
        center, variance = running.constants(
            torch.where, count, mean, m2, low, high, self.min_count
        )
        mean, std = (shaped(v, shape, self.channel_axis) for v in (center, variance.sqrt()))
        return constants(mean, std, work, device)

    def _known(self) -> Tensor:
        """Return the statistics in float64; of a buffer that something has cast, our own."""
        buffer = self.statistics
        return buffer if buffer.dtype == torch.float64 else self._book.statistics()

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        self._book = self._book.on(self.statistics.device)
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        given = state_dict.get(prefix + "statistics")
        if self.half_life is None and given is not None and not given.is_meta:
            counts = given[0]
            if not torch.equal(counts, counts.floor()):
                msg = "these statistics forget: load them into a module with the same half_life="
                raise ValueError(msg)
        super()._load_from_state_dict(state_dict, prefix, *rest)
        if prefix + "statistics" in state_dict and not self.statistics.is_meta:
            self._book = self._book.on(self.statistics.device)
            self._book.adopt(self.statistics)
            self._common = Moments.of_rows(_rows(self.statistics))
        if prefix + "frozen" in state_dict and not self.frozen.is_meta:
            self._is_frozen = bool(self.frozen)

    def extra_repr(self) -> str:
        """Say how many channels, where, and what is not the default."""
        said = f"{self.channels} channels, channel_axis={self.channel_axis}"
        given = {"until": self.until, "half_life": self.half_life}
        given["frozen"] = True if self._is_frozen else None
        return said + "".join(f", {k}={v}" for k, v in given.items() if v is not None)


def _rows(statistics: Tensor) -> Partial:
    return running.rows_of_fields(statistics.cpu().numpy())
