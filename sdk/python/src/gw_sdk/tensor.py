"""Numbers with a shape."""

from array import array
from collections.abc import Iterator, Sequence
from math import prod
from typing import Any, Literal, TypeAlias

ElementType: TypeAlias = Literal["fp32", "fp64", "u8", "i32", "i64", "fp16", "bf16"]

# The letter of `array` and `memoryview` for each; half precision is kept as its bits.
FORMATS: dict[ElementType, str] = {
    "fp32": "f",
    "fp64": "d",
    "u8": "B",
    "i32": "i",
    "i64": "q",
    "fp16": "H",
    "bf16": "H",
}
_TYPES: dict[str, ElementType] = {"f": "fp32", "d": "fp64", "B": "u8", "i": "i32", "q": "i64"}


class Tensor:
    """Numbers with a shape, in row-major order.

    >>> ids = Tensor([1, 3], [101, 4937, 102], "i64")
    >>> ids.dims, ids.type
    ([1, 3], 'i64')
    """

    dims: list[int]
    """The dimensions, outermost first."""
    type: ElementType
    data: memoryview
    """The elements, one after the other. Half precision is the bits, as whole numbers."""

    def __init__(
        self,
        dims: Sequence[int],
        values: "Sequence[float] | array[Any] | memoryview",
        type: ElementType | None = None,
    ) -> None:
        """``values`` fill the shape; a list needs a ``type``, an array or memoryview has its own.

        Raises ``ValueError`` where they do not fill it, ``TypeError`` where they are no such
        numbers.
        """
        self.type = _type_of(values, type)
        self.dims = [_size(size) for size in dims]
        self.data = _flat(values, self.type)
        if len(self.data) != prod(self.dims):
            raise ValueError(
                f"a tensor {self.dims} has {prod(self.dims)} elements, and {len(self.data)} are given"
            )

    @classmethod
    def of(cls, nested: Sequence[Any] | float, type: ElementType) -> "Tensor":
        """A tensor of nested lists, whose lengths are the dimensions.

        >>> Tensor.of([[1, 2, 3], [4, 5, 6]], "fp32").dims
        [2, 3]
        """
        dims, level = [], [nested]
        while level and isinstance(level[0], (list, tuple)):
            lengths = {len(item) if isinstance(item, (list, tuple)) else -1 for item in level}
            if len(lengths) != 1:
                raise ValueError(f"lists of different lengths below [{', '.join(map(str, dims))}]")
            dims.append(lengths.pop())
            level = [value for item in level for value in item]
        return cls(dims, level, type)

    @classmethod
    def from_bytes(cls, dims: Sequence[int], type: ElementType, data: bytes) -> "Tensor":
        """A tensor of little-endian elements."""
        return cls(dims, memoryview(data).cast(FORMATS[type]), type)

    def to_bytes(self) -> bytes:
        """The elements, little-endian as WebAssembly is."""
        return self.data.tobytes()

    def expect_dims(self, expected: Sequence[int | None]) -> "Tensor":
        """This tensor, where its shape is ``expected``; ``None`` stands for any size.

        Raises ``ValueError`` with both shapes.
        """
        same = len(expected) == len(self.dims) and all(
            wanted is None or wanted == size for wanted, size in zip(expected, self.dims)
        )
        if not same:
            shown = ", ".join("any" if size is None else str(size) for size in expected)
            raise ValueError(f"the tensor is {self.dims}, not [{shown}]")
        return self

    def rows(self) -> Iterator[memoryview]:
        """What each index of the first dimension holds, one after the other."""
        length = prod(self.dims[1:])
        for row in range(self.dims[0] if self.dims else 0):
            yield self.data[row * length : (row + 1) * length]

    def tolist(self) -> Any:
        """The elements as nested lists; of a scalar, its one number."""
        if not self.dims:
            return self.data[0]
        if 0 in self.dims:
            return []
        return self.data.cast("B").cast(FORMATS[self.type], self.dims).tolist()

    def __repr__(self) -> str:
        return f"Tensor({self.dims}, {self.type})"


def _size(size: Any) -> int:
    if not isinstance(size, int) or size < 0:
        raise TypeError(f"the size {size!r} of a dimension is no whole number")
    return size


def _type_of(values: Any, given: ElementType | None) -> ElementType:
    if given is not None and given not in FORMATS:
        raise TypeError(f"{given!r} is no type of elements; there are {', '.join(FORMATS)}")
    if isinstance(values, array):
        own = values.typecode
    elif isinstance(values, memoryview):
        own = values.format
    elif isinstance(values, (bytes, bytearray)):
        own = "B"
    elif given is None:
        raise TypeError('a list of numbers needs its type: Tensor(dims, values, "fp32")')
    else:
        return given
    # C names the same size twice: `l` is `i` or `q` by platform.
    size = array(own).itemsize if own in "lLiI" else 0
    own = {4: "i", 8: "q"}[size] if own == "l" else own
    if given is None and own in _TYPES:
        return _TYPES[own]
    if given is None or FORMATS[given] != own:
        wanted = given or ", ".join(_TYPES.values())
        raise TypeError(
            f"the values are of type {own!r}, not {wanted}: write array({_letter(given)!r}, values)"
        )
    return given


def _letter(given: ElementType | None) -> str:
    return FORMATS[given or "fp32"]


def _flat(values: Any, type: ElementType) -> memoryview:
    if isinstance(values, (array, memoryview, bytes, bytearray)):
        return memoryview(values).cast("B").cast(FORMATS[type])
    try:
        return memoryview(array(FORMATS[type], values))
    except (TypeError, OverflowError) as error:
        raise TypeError(f"the values are not all {type}: {error}") from None
