"""`python -m benchmarks.anomalies --mnist DIR --fashion DIR --photos DIR`: which statistic tells which unusual image.

Half of the test images are the normal images of a calibration; a thousand others are compared with them, and so are
unusual images. Two models are trained for it: one on all digits but nines, one on colour patches of photographs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from model_store import VAE, Store
from model_store.score_statistics import STATISTICS
from training.evaluate.latents import latent_use
from training.evaluate.statistics import scored

from .. import page
from ..machine import machine
from .images import Family, changed, family, patches, with_defect

TITLE = "Which statistic tells which unusual image"
CALIBRATION, COMPARED = 5000, 1000  # images
THRESHOLD = 1.0  # the percentile of q01
NINE = 9
NOTE = (
    "AUROC: the share of pairs of a normal and an unusual image in which the unusual one has the lower percentile; "
    "0.5 is a coin, below 0.5 the unusual images look more normal than the normal ones. In brackets the share of "
    "images that `threshold=q01` calls anomalous; of normal images that is the false-alarm rate, and should be 1 %."
)


def main() -> None:
    """Measure, print tables, and write them into the page that `--out` names."""
    options, console = _parser().parse_args(), Console(soft_wrap=True)
    generator = torch.Generator().manual_seed(0)
    digits, garments = family(options.mnist), family(options.fashion)
    photos = sorted(path for path in options.photos.iterdir() if path.suffix in (".png", ".jpg"))
    command = f"python -m benchmarks.anomalies --mnist DIR --fashion DIR --photos DIR --epochs {options.epochs}"
    tables = [page.Table("The run", ("", ""), list(machine(command).items()), NOTE)]
    with tempfile.TemporaryDirectory() as scratch:
        shipped, own = Store(), Store(Path(scratch, "store"))
        for name, model, normal, others in (
            ("`mnist`: digits are normal", "mnist", digits, {"garments": garments.test}),
            ("`fashion`: garments are normal", "fashion", garments, {"digits": digits.test}),
        ):
            normal_rows = _shuffled(normal.test, generator)
            unusual = {label: _shuffled(rows, generator)[:COMPARED] for label, rows in others.items()}
            unusual |= changed(normal_rows[CALIBRATION : CALIBRATION + COMPARED], generator)
            tables.append(measured(name, _load(shipped, model), normal_rows, CALIBRATION, unusual))
        without, nines = _without_nines(digits, Path(scratch, "digits.npz"))
        train("mnist", Path(scratch, "digits.npz"), own.root, f"name=others epochs={options.epochs}")
        tables.append(
            measured(
                "A model of the digits 0 to 8: nines are unusual",
                _load(own, "others"),
                _shuffled(without, generator),
                CALIBRATION,
                {"nines": nines},
            )
        )
        place = Path(scratch, "patches.npz")
        np.savez(place, train=_rows(patches(photos[:-3], 6000, 0)), test=_rows(patches(photos[-3:], 2000, 1)))
        train(str(Path(__file__).parent / "patches.toml"), place, own.root, "")
        parts = patches(photos[-3:], 2000, 1)
        defective = {"a scratch is painted in": with_defect(parts[1000:], 2)}
        name = "A model of colour patches, scored on photographs that it was not trained on"
        tables.append(measured(name, _load(own, "patches"), parts, 1000, defective))
    page.show(tables, console)
    if options.out:
        page.write(TITLE, tables, options.out)


def measured(title: str, model: VAE, normal: Tensor, calibration: int, unusual: Mapping[str, Tensor]) -> page.Table:
    """A table with a row for each kind of unusual images, and one for normal ones."""
    first, rest = normal[:calibration], normal[calibration : calibration + COMPARED]
    latents = latent_use(model, first).summary()
    quantiles = scored(model, first, latents).quantiles(f"{len(first)} images")

    def percentiles(pixels: Tensor) -> dict[str, NDArray[np.float64]]:
        statistics = scored(model, pixels, latents).statistics
        return {each: np.array(quantiles.percentiles(each, statistics)) for each in STATISTICS}

    usual = percentiles(rest)
    rows = [["normal", *(f"– ({np.mean(usual[each] < THRESHOLD):.1%})" for each in STATISTICS)]]
    for label, pixels in unusual.items():
        found = percentiles(pixels)
        cells = (f"{auroc(usual[each], found[each]):.3f} ({np.mean(found[each] < THRESHOLD):.0%})" for each in found)
        rows.append([label, *cells])
    return page.Table(title, ["", *STATISTICS], rows)


def auroc(normal: NDArray[np.float64], unusual: NDArray[np.float64]) -> float:
    """The share of pairs in which the unusual image has the lower percentile; equal ones count half.

    It is the area under the receiver operating characteristic (Hanley and McNeil 1982).
    """
    is_lower = unusual[:, None] < normal[None]
    is_equal = unusual[:, None] == normal[None]
    return float(np.mean(is_lower + 0.5 * is_equal))


def train(recipe: str, data: Path, store: Path, settings: str) -> None:
    """Train and publish a model with the command that a user calls."""
    more = [part for setting in settings.split() for part in ("--set", setting)]
    runs = str(store.parent / "runs")
    command = ["training", recipe, "--data", str(data), "--store", str(store), "--runs", runs, *more]
    subprocess.run([sys.executable, "-m", *command], check=True)


def _without_nines(digits: Family, place: Path) -> tuple[Tensor, Tensor]:
    """Write the digits 0 to 8 into a file for the training; returns the test images of 0 to 8, and the nines."""
    is_other = digits.test_classes != NINE
    train_rows = digits.train[digits.train_classes != NINE]
    np.savez(place, train=_rows(train_rows), test=_rows(digits.test[is_other]))
    return digits.test[is_other], digits.test[~is_other]


def _rows(pixels: Tensor) -> NDArray[np.uint8]:
    """Pixels (N, H, W, C), as arrays in files have them."""
    array: NDArray[np.uint8] = pixels.permute(0, 2, 3, 1).numpy()
    return array


def _shuffled(pixels: Tensor, generator: torch.Generator) -> Tensor:
    return pixels[torch.randperm(len(pixels), generator=generator)]


def _load(store: Store, name: str) -> VAE:
    return store.load(store.resolve(name)).vae


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.anomalies", description=__doc__)
    parser.add_argument("--mnist", type=Path, required=True, help="folder with MNIST's four files")
    parser.add_argument("--fashion", type=Path, required=True, help="folder with Fashion-MNIST's four files")
    parser.add_argument("--photos", type=Path, required=True, help="photographs; the last three are for tests")
    parser.add_argument("--epochs", type=int, default=6, help="of the model without nines; default: %(default)s")
    parser.add_argument("--out", type=Path, help="page whose section is written, such as docs/anomalies.md")
    return parser


if __name__ == "__main__":
    main()
