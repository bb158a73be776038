"""Graphs of torch modules: a large one in little memory, and what is refused."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from systolith_model.config import TransformerConfig
from systolith_model.graph import totals
from systolith_model.reference.decoder import Decoder
from systolith_model.workload.module import module_graph

CONFIG = TransformerConfig(
    vocab_size=61, hidden_size=24, n_layers=3, n_heads=6, n_kv_heads=2, head_dim=10, intermediate_size=29,
    max_positions=64,
)  # fmt: skip
IDS = torch.zeros(2, 17, dtype=torch.int64)


def test_a_large_module_needs_little_memory():
    code = """
import resource, torch
from systolith_model.config import TransformerConfig
from systolith_model.graph import totals
from systolith_model.reference.decoder import Decoder
from systolith_model.workload.module import module_graph
config = TransformerConfig(vocab_size=128256, hidden_size=4096, n_layers=32, n_heads=32, n_kv_heads=8, head_dim=128,
                           intermediate_size=14336)
with torch.device("meta"):
    module = Decoder(config).to(torch.bfloat16)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = module_graph(module, torch.zeros(1, 2048, dtype=torch.int64))
print(found.parameters, found.parameter_bytes, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    path = {"PYTHONPATH": ":".join(entry for entry in sys.path if entry), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=path, capture_output=True, text=True, check=True)
    parameters, size, grown_kib = (int(word) for word in done.stdout.split())
    assert (parameters, size) == (8030261248, 2 * 8030261248)  # Llama-3.1-8B's published count
    assert grown_kib < 1 << 20  # one GiB, torch's compiler and all


class Reads(nn.Module):
    """Depends on values."""

    def forward(self, x: Tensor) -> Tensor:
        return x[: int(x.sum())]


class Fails(nn.Module):
    """Cannot run."""

    def forward(self, x: Tensor) -> Tensor:
        return x @ x


class Fp64(nn.Module):
    """Multiplies in a format that machines here do not have."""

    def forward(self, x: Tensor) -> Tensor:
        return x.double() @ x.double().t()


@pytest.mark.parametrize(
    ("module", "train", "message"),
    [
        (Reads(), False, "module must not depend on values of tensors, which aten._local_scalar_dense.default reads"),
        (Fails(), False, "module must run on its inputs: RuntimeError: "),
        (Fp64(), False, "products must be in float32, bfloat16, .*, not float64"),
        (nn.ReLU(), True, "a result must depend on parameters with a gradient"),
    ],
)
def test_refused_in_one_sentence(module: nn.Module, train: bool, message: str):
    with pytest.raises(ValueError, match=message):
        module_graph(module, torch.zeros(3, 4), train=train)


def test_inference_mode_changes_nothing():
    class Inferring(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Decoder(CONFIG)

        @torch.inference_mode()
        def forward(self, ids: Tensor) -> Tensor:
            return self.inner(ids)

    found, plain = module_graph(Inferring(), IDS), module_graph(Decoder(CONFIG), IDS)
    assert totals(found.graph) == totals(plain.graph)
