"""The gated MLP in float."""

from torch import Tensor, nn

from systolith_model.config import TransformerConfig


class SwiGLU(nn.Module):
    """``down(silu(gate(x)) * up(x))``, no biases."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.activation = nn.SiLU()
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gated = self.activation(self.gate_proj(x)) * self.up_proj(x)  # (B, T, F)
        return self.down_proj(gated)  # (B, T, D)
