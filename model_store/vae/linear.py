"""A fully connected layer whose answer for a row does not depend on the rows beside it.

Matrix libraries take another path, with another order of summation, for a handful of rows than for many, so a row
alone and the same row in a batch differ in their last bits; rounded to a pixel, such a bit can show. Convolutions
have no such paths. Measured for 14 layer sizes, 1 to 16 threads and 1 to 256 rows on x86-64: rows in multiples of
four never differed, other numbers did.
"""

from torch import Tensor, nn
from torch.nn import functional as F

ROWS = 8  # twice what was measured to suffice


class Linear(nn.Linear):
    """`nn.Linear` for (B, features), computed for a multiple of eight rows; the rows added are dropped again."""

    def forward(self, rows: Tensor) -> Tensor:
        """(B, in_features) → (B, out_features)."""
        missing = -len(rows) % ROWS
        if not missing:
            return super().forward(rows)
        return super().forward(F.pad(rows, (0, 0, 0, missing)))[: len(rows)]
