"""The learning curves of a run, as a PNG file."""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib.figure import Figure

from .epoch import Epoch


def curves(history: Sequence[Epoch], best_epoch: int, measure: str) -> bytes:
    """Plot the objective, and the KL if the model has a KL, over the epochs; `measure` names the objective."""
    epochs = [epoch.number for epoch in history]
    validation = [epoch.validation_nats for epoch in history]
    divergences = [epoch.validation_kl_nats for epoch in history if epoch.validation_kl_nats is not None]
    figure = Figure(figsize=(10, 4), layout="constrained")
    bounds, *rest = figure.subplots(1, 2 if divergences else 1, squeeze=False)[0]
    bounds.plot(epochs, [epoch.train_nats for epoch in history], label="training, running weights")
    bounds.plot(epochs, validation, label="validation, averaged weights")
    bounds.axvline(best_epoch, color="grey", linestyle=":", label=f"best: epoch {best_epoch}")
    # The steep first twentieth is cut off: it would press the rest of the curve into a flat line.
    bounds.set(xlabel="epoch", title=f"{measure}, nats per image", ylim=(validation[len(history) // 20] - 1, None))
    bounds.legend(frameon=False)
    for divergence in rest:
        divergence.plot(epochs, divergences, color="tab:green")
        divergence.set(xlabel="epoch", title="KL to the prior, nats per image (validation)")
    for axes in (bounds, *rest):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
