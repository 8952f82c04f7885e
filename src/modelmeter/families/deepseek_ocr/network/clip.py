"""CLIP-L's vision tower over SAM's features.

Axes: B views, T tokens (class token and grid), D width, N heads, C channels of a head.
Source: Radford et al., Learning Transferable Visual Models (2021).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from modelmeter.families.deepseek_ocr.config import ClipConfig
from modelmeter.families.deepseek_ocr.network.attention import scaled_dot_product
from modelmeter.families.deepseek_ocr.network.sam import resize_positions


class CLIPVisionEmbeddings(nn.Module):
    """Class token, patch embeddings and positions: [B, T, D].

    The patch embeddings are SAM's output where it is given; the own convolution is then not run.
    """

    position_ids: Tensor

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(torch.zeros(config.width))
        self.patch_embedding = nn.Conv2d(
            3, config.width, kernel_size=config.patch_size, stride=config.patch_size, bias=False
        )
        positions = (config.image_size // config.patch_size) ** 2 + 1
        self.position_embedding = nn.Embedding(positions, config.width)
        self.register_buffer("position_ids", torch.arange(positions).unsqueeze(0), persistent=False)

    def forward(self, pixel_values: Tensor, patch_embeds: Tensor | None) -> Tensor:
        if patch_embeds is None:
            patch_embeds = self.patch_embedding(pixel_values)
        views, _, height, width = patch_embeds.shape
        if height != width:
            raise ValueError(f"a view of {height}x{width} tokens is not square, as CLIP's position table is")
        patches = patch_embeds.flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_embedding.expand(views, 1, -1), patches], dim=1)
        return tokens + self._positions(height)

    def _positions(self, side: int) -> Tensor:
        table = self.position_embedding(self.position_ids)
        own = math.isqrt(table.shape[1] - 1)
        if own == side:
            return table
        grid = table[:, 1:].reshape(1, own, own, -1).permute(0, 3, 1, 2)
        grid = resize_positions(grid, side, side).flatten(2).transpose(1, 2)
        return torch.cat([table[:, :1], grid], dim=1)


class NoTPAttention(nn.Module):
    """Multi-head self-attention with one projection for queries, keys and values."""

    def __init__(self, config: ClipConfig, attention: str) -> None:
        super().__init__()
        self.num_heads = config.heads
        self.head_dim = config.width // config.heads
        self.attention = attention
        self.qkv_proj = nn.Linear(config.width, 3 * config.width)
        self.out_proj = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        views, tokens, _ = x.shape
        qkv = self.qkv_proj(x).view(views, tokens, 3, self.num_heads, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        out = scaled_dot_product(q, k, v, mask=None, kind=self.attention)
        return self.out_proj(out.transpose(1, 2).reshape(views, tokens, -1))


class NoTPFeedForward(nn.Module):
    """Two linear layers with the quick GELU, x·sigmoid(1.702·x), between them."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.width, config.width * config.mlp_ratio)
        self.fc2 = nn.Linear(config.width * config.mlp_ratio, config.width)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.fc1(x)
        return self.fc2(hidden * torch.sigmoid(1.702 * hidden))


class NoTPTransformerBlock(nn.Module):
    """Attention and feed-forward part, each after a layer norm and with a residual."""

    def __init__(self, config: ClipConfig, attention: str) -> None:
        super().__init__()
        self.self_attn = NoTPAttention(config, attention)
        self.mlp = NoTPFeedForward(config)
        self.layer_norm1 = nn.LayerNorm(config.width, eps=config.layer_norm_eps)
        self.layer_norm2 = nn.LayerNorm(config.width, eps=config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class NoTPTransformer(nn.Module):
    """The stack of blocks."""

    def __init__(self, config: ClipConfig, attention: str) -> None:
        super().__init__()
        self.layers = nn.ModuleList(NoTPTransformerBlock(config, attention) for _ in range(config.layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class VitModel(nn.Module):
    """SAM's features [B, D, h, w] (with the pixels they came from) to tokens [B, 1 + h*w, D]."""

    def __init__(self, config: ClipConfig, attention: str) -> None:
        super().__init__()
        self.embeddings = CLIPVisionEmbeddings(config)
        self.transformer = NoTPTransformer(config, attention)
        self.pre_layrnorm = nn.LayerNorm(config.width, eps=config.layer_norm_eps)

    def forward(self, x: Tensor, patch_embeds: Tensor | None) -> Tensor:
        return self.transformer(self.pre_layrnorm(self.embeddings(x, patch_embeds)))
