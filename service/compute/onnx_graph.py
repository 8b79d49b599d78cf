"""A graph of ONNX operators, and the translation of each layer of our networks into it.

The networks are sequences of a few kinds of layers, so that each translation is a line. The graph is made at every
start of the service, in milliseconds; torch's own exporter takes seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf.message import EncodeError  # type: ignore[import-untyped]  # its stubs are another package
from onnx import NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

from model_store.vae.config import VALUES_OF_A_SQUARE
from model_store.vae.networks.conv import ResidualBlock
from model_store.vae.networks.shortcut_conv import ShortcutDoubling, ShortcutHalving
from model_store.vae.networks.straight_lines import Doubling, ExtendedConv2d

_OPSET, _IR = 21, 10  # both of March 2024


class Untranslatable(TypeError):
    """A network that ONNX Runtime cannot compute: a layer has no translation, or the graph is refused."""


class Graph:
    """A list of operators. Values have names: outputs of operators, constants, and inputs."""

    def __init__(self) -> None:
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add an operator with one output; return the name of the output."""
        (value,) = self.nodes(operator, 1, *inputs, **attributes)
        return value

    def nodes(self, operator: str, count: int, *inputs: str, **attributes: Any) -> list[str]:
        """Add an operator with several outputs; return their names."""
        values = [f"{operator}-{len(self._nodes)}-{number}" for number in range(count)]
        self._nodes.append(helper.make_node(operator, list(inputs), values, **attributes))
        return values

    def constant(self, array: np.ndarray[Any, Any] | np.float32) -> str:
        """Add a constant; return its name."""
        name = f"constant-{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def model(self, inputs: Mapping[str, tuple[int, Sequence[int]]], outputs: Mapping[str, str]) -> bytes:
        """The ONNX model with these inputs, of any number of rows, and these values as named outputs.

        Raises:
            Untranslatable: the model is too large for a file of ONNX.
        """
        for name, value in outputs.items():
            self._nodes.append(helper.make_node("Identity", [value], [name]))
        taken = [helper.make_tensor_value_info(name, kind, ["B", *row]) for name, (kind, row) in inputs.items()]
        given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self._nodes, "latentd", taken, given, self._constants)
        whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
        try:
            content: bytes = whole.SerializeToString()
        except (ValueError, EncodeError) as error:  # protobuf holds 2 GiB
            raise Untranslatable(f"The network is too large for one ONNX model: {error}.") from error
        return content

    def clip(self, value: str, low: float, high: float) -> str:
        """Add an operator that brings numbers into [low, high]; return the name of its output."""
        return self.node("Clip", value, self.constant(np.float32(low)), self.constant(np.float32(high)))

    def tensor(self, values: Tensor) -> str:
        """Add a tensor as a constant; return its name."""
        return self.constant(values.detach().numpy())

    def weights(self, layer: nn.Module) -> list[str]:
        """Add a layer's weight, and its bias if it has one; return their names."""
        return [self.tensor(weights) for weights in layer.parameters(recurse=False)]

    def layer(self, layer: nn.Module, rows: str) -> str:
        """Add a layer of a network behind a value; return the name of its output.

        Raises:
            Untranslatable: the layer has no translation.
        """
        match layer:
            case ResidualBlock():  # before Sequential, since a residual block is a Sequential too
                rows = self.node("Add", rows, self.layer(nn.Sequential(*layer), rows))
            case nn.Sequential():
                for each in layer:
                    rows = self.layer(each, rows)
            case nn.Flatten():
                rows = self.node("Flatten", rows)
            case nn.Unflatten():
                as_many_as_there_are = 0  # rows: in ONNX, 0 keeps the size of the input
                shape = np.array([as_many_as_there_are, *layer.unflattened_size])
                rows = self.node("Reshape", rows, self.constant(shape))
            case nn.SiLU():
                rows = self.node("Mul", rows, self.node("Sigmoid", rows))
            case nn.Tanh():
                rows = self.node("Tanh", rows)
            case nn.ReLU():
                rows = self.node("Relu", rows)
            case _:
                rows = self.weighted(layer, rows)
        return rows

    def weighted(self, layer: nn.Module, rows: str) -> str:
        """Add a layer with weights behind a value; return the name of its output.

        Raises:
            Untranslatable: the layer has no translation.
        """
        match layer:
            case ShortcutHalving():
                kept = self.node("Conv", rows, self.tensor(layer.shortcut()), strides=[2, 2])
                rows = self.node("Add", self.layer(layer.convolution, self.layer(nn.SiLU(), rows)), kept)
            case ShortcutDoubling():  # before Doubling, and Doubling before ConvTranspose2d
                means = self.node("Conv", rows, self.tensor(layer.shortcut()))
                rows = self.doubling(layer, self.node("Concat", self.layer(nn.SiLU(), rows), means, axis=1))
            case Doubling():
                rows = self.doubling(layer, rows)
            case nn.Conv2d():
                rows = self.extended(rows) if isinstance(layer, ExtendedConv2d) else rows
                rows = self.node("Conv", rows, *self.weights(layer), **geometry(layer))
            case nn.ConvTranspose2d():
                rows = self.node("ConvTranspose", rows, *self.weights(layer), **geometry(layer))
            case nn.Linear():
                rows = self.node("Gemm", rows, *self.weights(layer), transB=1)
            case _:
                raise Untranslatable(f"A layer {layer} has no translation into ONNX.")
        return rows

    def doubling(self, layer: Doubling, rows: str) -> str:
        """Add a doubling of the resolution behind a value; return the name of its output.

        The four places of a square are four channels of a 3×3 convolution: ONNX Runtime's transposed convolution keeps
        every product in memory, 36 times the channels.
        """
        _, bias = layer.parameters(recurse=False)
        weights = self.tensor(layer.kernel_of_places()), self.tensor(bias.repeat_interleave(VALUES_OF_A_SQUARE))
        places = self.node("Conv", self.extended(rows), *weights)
        return self.node("DepthToSpace", places, blocksize=2, mode="CRD")

    def extended(self, rows: str) -> str:
        """Add the values around a map that continue it in straight lines; return the name of the larger map."""
        for axis in (2, 3):
            last, before = (
                self.node("Gather", rows, self.constant(np.array(places)), axis=axis) for places in ([0, -1], [1, -2])
            )
            beyond = self.node("Sub", self.node("Add", last, last), before)
            first, end = self.nodes("Split", 2, beyond, axis=axis, num_outputs=2)
            rows = self.node("Concat", first, rows, end, axis=axis)
        return rows


def geometry(layer: nn.Conv2d | nn.ConvTranspose2d) -> dict[str, Any]:
    """The strides and pads of a convolution. Our networks leave everything else at its default."""
    strides, pads = list(layer.stride), [int(side) for side in layer.padding]
    return {"strides": strides, "pads": pads + pads}  # at the beginnings, at the ends
