"""`python -m benchmarks.pretrained.bare NAME SOURCE encode|decode INPUT TIMES`: the network alone, without a server.

The input is a file of npy. It prints the seconds of one call.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch

from .networks import load


def main() -> None:
    """Call the function once, then `TIMES` times with a clock."""
    name, source, operation, given, times = sys.argv[1:]
    function = getattr(load(name, Path(source)), operation)
    rows = torch.from_numpy(np.load(given))
    with torch.inference_mode():
        function(rows)
        began = time.perf_counter()
        for _ in range(int(times)):
            function(rows)
        print((time.perf_counter() - began) / int(times))


if __name__ == "__main__":
    main()
