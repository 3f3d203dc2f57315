"""Where the rows of a statistic lie in the data of each normalizer."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Layout:
    """One normalizer, and how rows (R, n) become its data.

    Examples are (B, n) in layer and RMS normalization, (B, n / m, G m) with groups of m features, (B, n, F) in instance
    normalization, and (n, F) in batch normalization, with features last.
    """

    name: str
    center: bool = True
    columns: int = 1
    """How many rows lie side by side in each example; 0: all of them."""
    members: int = 1
    """How many features a group has."""

    def lay(self, rows: Any) -> Any:
        """Rows as the data of the normalizer."""
        if self.columns == 1:
            return rows
        if self.columns == 0:
            return rows.T
        size = rows.shape[1]
        members = self.members if size % self.members == 0 else 1
        split = rows.reshape(-1, self.columns, size // members, members)
        return np.moveaxis(split, 2, 1).reshape(-1, size // members, self.columns * members)

    def rows(self, data: Any, count: int) -> Any:
        """The rows of data that were laid out."""
        data = np.asarray(data)
        if self.columns == 1:
            return data
        if self.columns == 0:
            return data.T
        examples, positions, features = data.shape
        split = data.reshape(examples, positions, self.columns, features // self.columns)
        return np.moveaxis(split, 2, 1).reshape(count, -1)

    def parts(self, rows: Any, members: int) -> Any:
        """The data cut into pieces of each row, for the members of a mapped axis that comes first."""
        return np.stack([self.lay(part) for part in np.split(rows, members, axis=1)])

    def joined(self, parts: Any, count: int) -> Any:
        """The rows of data that were cut into pieces."""
        return np.concatenate([self.rows(part, count) for part in np.asarray(parts)], axis=1)


LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout("layer_norm"),
        Layout("rms_norm", center=False),
        Layout("group_norm", columns=2, members=5),
        Layout("instance_norm", columns=3),
        Layout("batch_norm", columns=0),
    )
}


def members_of(size: int) -> int:
    """How many members of a mapped axis a row is spread over: the smallest prime factor of its size."""
    return next(p for p in range(2, size + 1) if size % p == 0)
