"""The operators of a number that writes down what is done with it."""

from abc import ABC, abstractmethod
from typing import Any, Self

__all__ = ["Operators"]


class Operators(ABC):
    """Adds, compares and combines by one method: what formulas for arrays ask of a number."""

    @abstractmethod
    def apply(self, sign: str, other: Any) -> Self:
        """Return what ``self sign other`` gives; `other` may be a Python number."""

    def __add__(self, other: Any) -> Self:
        return self.apply("+", other)

    def __sub__(self, other: Any) -> Self:
        return self.apply("-", other)

    def __mul__(self, other: Any) -> Self:
        return self.apply("*", other)

    def __truediv__(self, other: Any) -> Self:
        return self.apply("/", other)

    def __and__(self, other: Any) -> Self:
        return self.apply("&", other)

    def __or__(self, other: Any) -> Self:
        return self.apply("|", other)

    def __eq__(self, other: object) -> Self:  # type: ignore[override]
        return self.apply("==", other)

    def __ne__(self, other: object) -> Self:  # type: ignore[override]
        return self.apply("!=", other)

    __hash__ = None  # type: ignore[assignment]

    def __lt__(self, other: Any) -> Self:
        return self.apply("<", other)

    def __le__(self, other: Any) -> Self:
        return self.apply("<=", other)

    def __gt__(self, other: Any) -> Self:
        return self.apply(">", other)

    def __ge__(self, other: Any) -> Self:
        return self.apply(">=", other)
