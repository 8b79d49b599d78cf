"""A fully connected layer that gives few rows the same bits as many.

Matrix libraries sum in another order for a handful of rows than for many. Measured for 14 layer sizes, 1 to 16 threads
and 1 to 256 rows on x86-64: rows in multiples of four never differed, other numbers did. A service that wants the same
answer alone and in a batch can so compute small batches of images without filling up the convolutions too.
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
