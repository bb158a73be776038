"""Small graphs that the device tests cost."""

from collections.abc import Callable

import pytest

from systolith_model.graph import Format, Graph, Operation, Tensor

Product = Callable[..., Graph]


@pytest.fixture
def product() -> Product:
    """Maker of a graph of one product (m, k) by (k, n), ``count`` times."""

    def make(m: int, k: int, n: int, numbers: Format = "bf16", count: int = 1) -> Graph:
        tensors = [
            Tensor(name="x", shape=(m, k), format=numbers),
            Tensor(name="w", shape=(k, n), format=numbers, constant=True),
            Tensor(name="y", shape=(m, n), format=numbers),
        ]
        operation = Operation(name="mm", kind="matmul", inputs=("x", "w"), outputs=("y",), count=count)
        return Graph(name="one", tensors={tensor.name: tensor for tensor in tensors}, operations=(operation,))

    return make


@pytest.fixture
def decoder() -> Graph:
    """One operation of every kind, in bf16."""
    shapes = {
        "tokens": (1, 64), "table": (1000, 256), "x": (1, 64, 256), "scale": (256,), "h": (1, 64, 256),
        "wq": (256, 256), "q2": (1, 64, 256), "q": (1, 4, 64, 64), "k": (1, 2, 64, 64), "v": (1, 2, 64, 64),
        "a": (1, 4, 64, 64), "r": (1, 4, 64, 64), "out": (1, 64, 256),
    }  # fmt: skip
    constant = {"table", "scale", "wq"}
    tensors = {
        name: Tensor(
            name=name, shape=shape, format="int32" if name == "tokens" else "bf16", constant=name in constant
        )
        for name, shape in shapes.items()
    }
    operations = (
        Operation(name="embed", kind="embedding", inputs=("tokens", "table"), outputs=("x",)),
        Operation(name="norm", kind="norm", inputs=("x", "scale"), outputs=("h",)),
        Operation(name="query", kind="matmul", inputs=("h", "wq"), outputs=("q2",)),
        Operation(name="rope", kind="rope", inputs=("q",), outputs=("r",)),
        Operation(
            name="attend",
            kind="attention",
            inputs=("r", "k", "v"),
            outputs=("a",),
            attributes={"causal": True},
        ),
        Operation(name="add", kind="elementwise", inputs=("x", "h"), outputs=("out",)),
    )
    return Graph(name="decoder", tensors=tensors, operations=operations)
