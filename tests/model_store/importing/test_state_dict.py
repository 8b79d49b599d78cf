"""A network that was trained with plain PyTorch is published: the lines of the page, and the errors."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from model_store import VAE, CannotImport, Store, publish_state_dict
from model_store.vae import DiagonalGaussian

from ...conftest import GREY, make_model

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "how-to" / "publish-your-own-network.md"


class Example(nn.Module):
    """The network of pytorch/examples, `vae/main.py`, without its loss."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 400)
        self.fc21 = nn.Linear(400, 20)
        self.fc22 = nn.Linear(400, 20)
        self.fc3 = nn.Linear(20, 400)
        self.fc4 = nn.Linear(400, 784)

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.relu(self.fc1(pixels))
        return self.fc21(hidden), self.fc22(hidden)

    def decode(self, latents: Tensor) -> Tensor:
        return torch.sigmoid(self.fc4(torch.relu(self.fc3(latents))))


@torch.inference_mode()
def test_lines_of_the_page_publish_the_same_network(tmp_path: Path) -> None:
    """Posterior and images of the published model are the ones that the program computes."""
    torch.manual_seed(0)
    example = Example()
    torch.save(example.state_dict(), tmp_path / "vae.pt")
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    environment = {**os.environ, "LATENTD_STORE": str(tmp_path / "store"), "PYTHONPATH": str(ROOT)}

    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )

    assert (result.returncode, result.stdout, result.stderr) == (0, "mine@1\n", "")
    assert code.count("\n") <= 12
    store = Store(tmp_path / "store")
    model = store.load(store.resolve("mine")).model
    images, latents = torch.rand(2, 1, 28, 28), torch.randn(2, 20)
    posterior = model.encode(images)
    mean, log_variance = example.encode(images.flatten(1))
    assert isinstance(posterior, DiagonalGaussian)
    torch.testing.assert_close((posterior.mean, posterior.log_variance), (mean, log_variance))
    torch.testing.assert_close(model.decode(latents).mean.flatten(1), example.decode(latents))


def test_card_says_that_a_program_published_it(tmp_path: Path) -> None:
    """The origin is not a run of our training."""
    store = Store(tmp_path)

    version = publish_state_dict(store, "mine", GREY, make_model().state_dict(), licence="CC0")

    source = store.card(version).source
    assert source is not None
    assert (source.kind, source.licence) == ("state dict", "CC0")
    torch.testing.assert_close(dict(store.load(version).model.state_dict()), dict(make_model().state_dict()))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"encoder.output.bias": None}, "missing encoder.output.bias"),
        ({"fc1.weight": torch.zeros(1)}, "unexpected fc1.weight"),
        ({"encoder.output.bias": torch.zeros(7)}, r"encoder.output.bias is \(7,\), expected \(6,\)"),
        ({"encoder.output.bias": torch.zeros(6).double()}, "encoder.output.bias is torch.float64, expected one of"),
        ({"encoder.output.bias": torch.full((6,), torch.nan)}, "encoder.output.bias has values that are not finite"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path: Path, change: dict[str, Tensor | None], reason: str) -> None:
    """The error ends with the remedy, and nothing is published."""
    changed = {**VAE(GREY).state_dict(), **change}
    state = {name: tensor for name, tensor in changed.items() if tensor is not None}

    with pytest.raises(CannotImport, match=rf"^Cannot import the state dict: {reason}.*VAE\(config\)\.state_dict\(\)"):
        publish_state_dict(Store(tmp_path), "mine", GREY, state)

    assert list(tmp_path.iterdir()) == []
