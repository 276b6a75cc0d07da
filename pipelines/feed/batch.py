"""What a feed yields: columns of B samples, jagged histories, content vectors; as NumPy or as torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from ...schemas.errors import FeedError, MissingExtraError
from ...storage.shard_content import Content
from ...storage.shards import CONTENT_ROW

# NumPy arrays, or torch tensors after to_torch().
AnyArray = Any
Change = Callable[[AnyArray], AnyArray]


@dataclass(frozen=True, slots=True)
class Jagged:
    """B lists of differing lengths, end to end: list i is values[offsets[i] : offsets[i+1]].

    values:  (N,)
    offsets: (B+1,) int64
    valid:   (N,) bool, False where the event had none (its value is then 0 or NaN); None where no event of the shard
             set lacks it
    """

    values: AnyArray
    offsets: AnyArray
    valid: AnyArray | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> AnyArray:
        """(B,) int64."""
        return self.offsets[1:] - self.offsets[:-1]

    def padded(self, length: int, fill: float = 0) -> AnyArray:
        """(B, length): each list from the left, `fill` behind it; of longer lists the last `length` values."""
        first, kept = self._last(length)
        if isinstance(self.values, np.ndarray):
            out: AnyArray = np.full((len(self), length), fill, dtype=self.values.dtype)
            places: AnyArray = np.arange(length)
        else:
            import torch

            out = self.values.new_full((len(self), length), fill)
            places = torch.arange(length, device=self.values.device)
        inside = places < kept[:, None]
        out[inside] = self.values[(first[:, None] + places)[inside]]
        return out

    def _last(self, length: int) -> tuple[AnyArray, AnyArray]:
        """(B,) where the last `length` values of each list begin, and how many they are."""
        lengths = self.lengths
        kept = lengths - (lengths - length) * (lengths > length)
        return self.offsets[1:] - kept, kept

    def nested(self) -> AnyArray:
        """(B, j) a torch nested tensor of jagged layout, on the same memory. After to_torch().

        Raises:
            FeedError: the values are no tensor.
        """
        _only_tensors(self.values)
        import torch

        return torch.nested.nested_tensor_from_jagged(self.values, self.offsets)

    def map(self, change: Change) -> Jagged:
        """Each array changed."""
        return Jagged(change(self.values), change(self.offsets), None if self.valid is None else change(self.valid))


class Batch:
    """B samples. `batch["click"]` is (B,); `batch.history["item_id"]` is Jagged, each window oldest event first.

    Columns: sample_id, user_id, item_id, seen, request_time (µs UTC), negative, the labels, label_mature, the features
    (strings as codes into `Feed.vocabularies`, -1 for null). A batch stays valid however long it is kept.

    history:   the windows by field: B of them, or the distinct ones only where the feed removes duplicates
    inverse:   (B,) then: sample i has window inverse[i]; else None
    negatives: `item_id` and `logq`, (B, count) each, where the feed draws any; `logq` of the samples' own items is then
               a column
    padding:   how many of the last samples came before in this epoch, and fill the batch
    state:     of the feed behind this batch: JSON values for `Feed.load_state_dict`
    spent:     seconds by stage that another process took for it, for `Feed.stats` here
    """

    __slots__ = (
        "_columns",
        "_content",
        "_device",
        "_rows",
        "_valid",
        "history",
        "inverse",
        "negatives",
        "padding",
        "spent",
        "state",
    )

    def __init__(
        self,
        columns: Mapping[str, AnyArray],
        valid: Mapping[str, AnyArray],
        history: Mapping[str, Jagged],
        content: Mapping[str, Content],
        *,
        inverse: AnyArray | None = None,
        padding: int = 0,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        self._columns = dict(columns)
        self._valid = dict(valid)
        self._content = dict(content)
        self._rows = columns.get(CONTENT_ROW)  # stays in this machine's memory, where the vectors are
        self._device: Any = None
        self.history = dict(history)
        self.inverse = inverse
        self.negatives: dict[str, AnyArray] = {}
        self.padding = padding
        self.state = dict(state or {})
        self.spent: dict[Any, float] = {}

    def __getitem__(self, name: str) -> AnyArray:
        return self._columns[name]

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def keys(self) -> list[str]:
        """The names of the columns."""
        return list(self._columns)

    def __len__(self) -> int:
        """B, the number of samples."""
        return len(self._columns["sample_id"])

    @property
    def event_count(self) -> int:
        """How many events its windows hold."""
        return max((len(jagged.values) for jagged in self.history.values()), default=0)

    @property
    def dedup_factor(self) -> float:
        """Samples a window: 1 where each has its own."""
        windows = max((len(jagged) for jagged in self.history.values()), default=0)
        return len(self) / windows if windows else 1.0

    def valid(self, name: str) -> AnyArray | None:
        """(B,) bool, False where the sample has no value (it reads 0 or NaN); None if none of the set lacks it."""
        return self._valid.get(name)

    def content(self, name: str) -> AnyArray:
        """(B, D) float32: the vector of each item as it was known at the request; zeros where `content_mask` is False.

        Gathered from the memory-mapped snapshot when it is called.

        Raises:
            ShardError: the vectors are not what was packed.
        """
        content, rows, mask = self._content_rows(name)
        vectors = np.zeros((len(rows), content.vectors.shape[1]), dtype=np.float32)
        vectors[mask] = content.gather(rows[mask])
        return self._sent(vectors)

    def content_mask(self, name: str) -> AnyArray:
        """(B,) bool: whether a vector of the item was known at the request."""
        return self._sent(self._content_rows(name)[2])

    def add_negatives(self, items: AnyArray, logq: AnyArray, own_logq: AnyArray) -> None:
        """Give the batch negatives: (B, count) each, and (B,)."""
        if items.shape[1]:
            self.negatives = {"item_id": items, "logq": logq}
        self._columns["logq"] = own_logq

    def to_torch(self) -> Batch:
        """The same batch with torch tensors on the same memory.

        Raises:
            MissingExtraError: torch is not installed.
        """
        try:
            import torch
        except ImportError as error:
            raise MissingExtraError(
                "torch is not installed", expected="torch", got=str(error), hint="pip install 'reclake[torch]'"
            ) from error
        return self._changed(torch.from_numpy, "cpu")

    def pin_memory(self) -> Batch:
        """Tensors in page-locked memory, from which copies to a GPU run beside its work. After to_torch()."""
        return self._changed(lambda tensor: tensor.pin_memory(), self._device)

    def to(self, device: Any, *, non_blocking: bool = False) -> Batch:
        """Tensors on a device. After to_torch()."""
        return self._changed(lambda tensor: tensor.to(device, non_blocking=non_blocking), device)

    def keyed_jagged(self, *fields: str) -> AnyArray:
        """The histories of some fields of one type as a TorchRec KeyedJaggedTensor. After to_torch().

        Of a deduplicated batch it holds each distinct window once and, as its inverse_indices, `inverse` for every
        key: an EmbeddingBagCollection looks each window up once and gives (B, …) as without.

        Raises:
            MissingExtraError: torchrec is not installed.
            FeedError: no field is named, one is not there or no tensor, or they are of different types: one tensor
                holds all their values.
        """
        for name in fields or ("",):
            if name not in self.history:
                raise FeedError("no such history field", expected=f"one of {', '.join(self.history)}", got=repr(name))
            _only_tensors(self.history[name].values)
        try:
            from torchrec import KeyedJaggedTensor
        except ImportError as error:
            raise MissingExtraError(
                "torchrec is not installed", expected="torchrec", got=str(error), hint="pip install torchrec"
            ) from error
        import torch

        keys, histories = list(fields), [self.history[name] for name in fields]
        types = {name: str(jagged.values.dtype) for name, jagged in zip(keys, histories, strict=True)}
        if len(set(types.values())) > 1:
            raise FeedError(
                "one KeyedJaggedTensor holds fields of one type",
                got=", ".join(f"{name}: {kind}" for name, kind in types.items()),
                hint="make one for each type",
            )
        distinct = (
            {}
            if self.inverse is None
            else {
                "stride_per_key_per_rank": [[len(jagged.lengths)] for jagged in histories],
                "inverse_indices": (keys, self.inverse.expand(len(keys), -1)),
            }
        )
        return KeyedJaggedTensor(
            keys=keys,
            values=torch.cat([jagged.values for jagged in histories]),
            lengths=torch.cat([jagged.lengths for jagged in histories]),
            **distinct,
        )

    def _changed(self, change: Change, device: Any) -> Self:
        other = object.__new__(type(self))
        other._columns = {name: change(array) for name, array in self._columns.items()}
        other._valid = {name: change(array) for name, array in self._valid.items()}
        other._content, other._rows, other._device = self._content, self._rows, device
        other.history = {name: jagged.map(change) for name, jagged in self.history.items()}
        other.inverse = None if self.inverse is None else change(self.inverse)
        other.negatives = {name: change(array) for name, array in self.negatives.items()}
        other.padding, other.state, other.spent = self.padding, self.state, self.spent
        return other

    def _sent(self, array: Any) -> AnyArray:
        """An array in the form of the batch."""
        if self._device is None:
            return array
        import torch

        return torch.from_numpy(array).to(self._device)

    def _content_rows(self, name: str) -> tuple[Content, Any, Any]:
        content = self._content.get(name)
        if content is None:
            raise FeedError(
                "no such content",
                expected="one of " + ", ".join(self._content) if self._content else "a recipe that lists content",
                got=repr(name),
            )
        rows = np.asarray(self._rows)
        mask = rows >= 0
        mask[mask] = content.present[rows[mask]]
        return content, rows, mask


def _only_tensors(values: AnyArray) -> None:
    if isinstance(values, np.ndarray):
        raise FeedError("only tensors make this", expected="tensors", got="NumPy arrays", hint="batch.to_torch() first")
