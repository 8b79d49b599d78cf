"""`python -m docs.make_figures [NAME …]`: make the figures of theory.md, and print every number of that page."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from training.console import say

from .autoencoder import autoencoder
from .generator import ml_vs_vae
from .gradients import reparameterisation
from .inference import kl, manifold
from .material import Material, gather
from .novelty import novelty
from .preferences import abc
from .tightness import bound

FOLDER = Path(__file__).parents[1] / "figures"


FIGURES: dict[str, Callable[[Material], Figure]] = {
    figure.__name__: figure
    for figure in (autoencoder, abc, ml_vs_vae, kl, manifold, bound, reparameterisation, novelty)
}


def main() -> None:
    """Make the named figures, or all figures."""
    parser = argparse.ArgumentParser(prog="python -m docs.make_figures", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(FIGURES)}; all by default")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="the folder of MNIST's IDX files; by default they are downloaded"
    )
    options = parser.parse_args()
    if unknown := set(options.names) - FIGURES.keys():
        parser.error(f"no figure is called {', '.join(sorted(unknown))}; there are {', '.join(FIGURES)}")
    make(options.names or list(FIGURES), gather(options.data))


def make(names: Sequence[str], material: Material) -> None:
    """Make and write the figures of these names."""
    FOLDER.mkdir(exist_ok=True)
    for name in names:
        began = time.perf_counter()
        say(name)
        FIGURES[name](material).savefig(FOLDER / f"{name}.png", dpi=100)
        say(f"  {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
