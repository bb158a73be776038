"""Training runs that others have published: models, layouts, seconds."""

from dataclasses import dataclass, replace
from typing import Literal

from systolith_model.architecture import Architecture
from systolith_sim.devices.library import find_device
from systolith_sim.estimate.models import Model
from systolith_sim.estimate.recipe import find_recipe
from systolith_sim.estimate.request import Request
from systolith_sim.estimate.training import TrainingStep
from systolith_sim.parallel.layout import Layout

TOKENS, VOCABULARY = 2048, 51200


def gpt(hidden: int, layers: int, heads: int) -> Architecture:
    """The models of arXiv 2104.04473 and 2205.05198: vocabulary 51,200, sequences of 2048."""
    return Architecture(
        vocab_size=VOCABULARY, hidden_size=hidden, n_layers=layers, n_heads=heads, n_kv_heads=heads,
        head_dim=hidden // heads, intermediate_size=4 * hidden, max_positions=TOKENS, norm="layernorm",
        activation="gelu", gated=False, position="learned", learned_positions=TOKENS, tied_embeddings=True,
        bias_qkv=True, bias_out=True, bias_mlp=True,
    )  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A run on A100 80 GB under a Megatron-LM; ``chunks`` of layers a stage where its pipeline is interleaved."""

    hidden: int
    layers: int
    heads: int
    tp: int
    pp: int
    dp: int
    batch: int
    micro: int
    chunks: int
    seconds: float
    recipe: Literal["megatron-2021", "megatron-2022"]
    selective: bool = False
    """Selective recomputation with sequence parallelism instead of full recomputation."""
    overlaps: bool = False
    """Gradients are summed behind the backward pass (torch's DistributedDataParallel)."""
    zero: int = 0

    def step(self) -> TrainingStep:
        """The run as an estimate."""
        layout = Layout(
            tp=self.tp, pp=self.pp, dp=self.dp, interleave=self.chunks, micro_batch=self.micro, zero=self.zero,
            schedule="interleaved" if self.chunks > 1 else "1f1b", sequence=self.selective,
            recompute="selective" if self.selective else "full",
        )  # fmt: skip
        recipe = replace(find_recipe(self.recipe), overlaps_gradients=self.overlaps)
        model = Model("gpt", gpt(self.hidden, self.layers, self.heads))
        request = Request(batch=self.batch, prompt=TOKENS)
        return TrainingStep(find_device("a100-80"), model, layout, recipe, request)


def iteration_s(tera: float, gpus: int, batch: int, layers: int, hidden: int) -> float:
    """Seconds of an iteration from teraFLOP/s a GPU: arXiv 2104.04473, equation 3, recomputation counted."""
    inner = 1 + TOKENS / (6 * hidden) + VOCABULARY / (16 * layers * hidden)
    return 96 * batch * TOKENS * layers * hidden**2 * inner / (gpus * tera * 1e12)


_KORTHIKANTI = {
    # hidden, layers, heads, pp, dp, batch, micro-batch, chunks; seconds with full recomputation (0: not published),
    # and with selective recomputation and sequence parallelism; 8-way tensor parallel.
    # Korthikanti et al. 2022 (arXiv 2205.05198), tables 3 and 5; eight replicas: 54.2 % of the peak, in its abstract.
    "22B": (6144, 48, 64, 1, 1, 4, 4, 1, 1.42, 1.10),
    "175B": (12288, 96, 96, 8, 1, 64, 1, 3, 18.13, 13.75),
    "530B": (20480, 105, 128, 35, 1, 280, 1, 3, 49.05, 37.83),
    "530B x 8": (20480, 105, 128, 35, 8, 2240, 1, 3, 0.0, 39.15),
    "1T": (25600, 128, 160, 64, 1, 512, 1, 1, 94.42, 71.49),
}
KORTHIKANTI = {
    (name, selective): Run(
        hidden, layers, heads, 8, pp, dp, batch, micro, chunks, chosen if selective else full, "megatron-2022",
        selective=selective,
    )
    for name, (hidden, layers, heads, pp, dp, batch, micro, chunks, full, chosen) in _KORTHIKANTI.items()
    for selective in (False, True)
    if selective or full
}  # fmt: skip

_NARAYANAN = {
    # hidden, layers, heads, tp, pp, GPUs, batch, micro-batch, chunks; teraFLOP/s a GPU.
    # Narayanan et al. 2021 (arXiv 2104.04473v5), table 1; micro-batch, chunks and who sums gradients from
    # NVIDIA/Megatron-LM, examples/sc21/run_table_1.sh: torch's DistributedDataParallel where there is one stage.
    "1.7B": (2304, 24, 24, 1, 1, 32, 512, 16, 1, 137),
    "3.6B": (3072, 30, 32, 2, 1, 64, 512, 16, 1, 138),
    "7.5B": (4096, 36, 32, 4, 1, 128, 512, 16, 1, 142),
    "18B": (6144, 40, 48, 8, 1, 256, 1024, 8, 1, 135),
    "39B": (8192, 48, 64, 8, 2, 512, 1536, 4, 1, 138),
    "76B": (10240, 60, 80, 8, 4, 1024, 1792, 2, 3, 140),
    "145B": (12288, 80, 96, 8, 8, 1536, 2304, 2, 2, 148),
    "310B": (16384, 96, 128, 8, 16, 1920, 2160, 1, 2, 155),
    "530B": (20480, 105, 128, 8, 35, 2520, 2520, 1, 3, 163),
    "1T": (25600, 128, 160, 8, 64, 3072, 3072, 1, 1, 163),
}
_TABLE_2 = {
    # The same, table 2: the chunks are not stated there; one counts as none.
    "175B, 384": (12288, 96, 96, 8, 12, 384, 1536, 1, 1, 153),
    "175B, 768": (12288, 96, 96, 8, 12, 768, 1536, 1, 1, 149),
    "175B, 1536": (12288, 96, 96, 8, 12, 1536, 1536, 1, 1, 141),
    "530B, 560": (20480, 105, 128, 8, 35, 560, 2240, 1, 1, 171),
    "530B, 1120": (20480, 105, 128, 8, 35, 1120, 2240, 1, 1, 167),
    "530B, 2240": (20480, 105, 128, 8, 35, 2240, 2240, 1, 1, 159),
}
NARAYANAN = {
    name: Run(
        hidden, layers, heads, tp, pp, gpus // tp // pp, batch, micro, chunks,
        iteration_s(tera, gpus, batch, layers, hidden), "megatron-2021", overlaps=pp == 1,
    )
    for name, (hidden, layers, heads, tp, pp, gpus, batch, micro, chunks, tera) in (_NARAYANAN | _TABLE_2).items()
}  # fmt: skip

_DEEPSPEED = {
    # hidden, layers, heads, GPUs, batch, micro-batch; teraFLOP/s a GPU. The same, table 2: ZeRO-3 of DeepSpeed.
    "175B, 384": (12288, 96, 96, 384, 1536, 4, 144),
    "175B, 768": (12288, 96, 96, 768, 1536, 2, 88),
    "175B, 1536": (12288, 96, 96, 1536, 1536, 1, 44),
    "530B, 640": (20480, 105, 128, 640, 2560, 4, 138),
    "530B, 1120": (20480, 105, 128, 1120, 2240, 2, 98),
    "530B, 2240": (20480, 105, 128, 2240, 2240, 1, 48),
}
DEEPSPEED = {
    name: Run(
        hidden, layers, heads, 1, 1, gpus, batch, micro, 1, iteration_s(tera, gpus, batch, layers, hidden),
        "megatron-2021", zero=3,
    )
    for name, (hidden, layers, heads, gpus, batch, micro, tera) in _DEEPSPEED.items()
}  # fmt: skip


def nemotron_340b() -> TrainingStep:
    """Nemotron-4-340B in bf16 on 128 H100, batch 32: 4.77 s.

    NGC, NeMo Nemotron4 340B, DGXC benchmarking 25.01: NeMo 24.11, TP 8, PP 8, 12 chunks, micro-batch 1, sequences of
    4096. Its squared ReLU counts as a ReLU. Megatron-Core overlaps sums of gradients and has a distributed optimizer.
    """
    shape = Architecture(
        vocab_size=256000, hidden_size=18432, n_layers=96, n_heads=96, n_kv_heads=8, head_dim=192,
        intermediate_size=73728, max_positions=4096, norm="layernorm", activation="relu", gated=False,
        position="rope", tied_embeddings=False, bias_qkv=False, bias_out=False, bias_mlp=False,
    )  # fmt: skip
    layout = Layout(tp=8, pp=8, dp=2, interleave=12, micro_batch=1, schedule="interleaved", sequence=True, zero=1)
    request = Request(batch=32, prompt=4096)
    return TrainingStep(find_device("h100-sxm"), Model("nemotron-4-340b", shape), layout, find_recipe("flash"), request)


NEMOTRON_S = 4.77
