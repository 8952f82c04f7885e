"""SAM ViT-B with DeepSeek-OCR's downsampling convolutions.

Axes: B views, H W patch rows and columns, D width, N heads, C channels of a head, S window side.
Source: Kirillov et al., Segment Anything (2023); relative positions from Li et al., MViTv2 (2022).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelmeter.families.deepseek_ocr.config import SamConfig
from modelmeter.families.deepseek_ocr.network.attention import scaled_dot_product


def resize_positions(table: Tensor, height: int, width: int) -> Tensor:
    """Bicubic, antialiased interpolation of a position table [1, D, h, w], in float32."""
    resized = F.interpolate(
        table.to(torch.float32), size=(height, width), mode="bicubic", antialias=True, align_corners=False
    )
    return resized.to(table.dtype)


class PatchEmbed(nn.Module):
    """Pixels [B, 3, h, w] to patches [B, H, W, D]."""

    def __init__(self, patch_size: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).permute(0, 2, 3, 1)


class LayerNorm2d(nn.Module):
    """Layer norm over the channels of [B, C, H, W]."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        variance = centred.pow(2).mean(1, keepdim=True)
        normal = centred / torch.sqrt(variance + self.eps)
        return self.weight[:, None, None] * normal + self.bias[:, None, None]


class MLPBlock(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(width, hidden)
        self.lin2 = nn.Linear(hidden, width)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        return self.lin2(self.act(self.lin1(x)))


class Attention(nn.Module):
    """Self-attention over a map [B, H, W, D] with decomposed relative positions.

    The bias of query (y, x) and key (y', x') is q·R_h[y - y'] + q·R_w[x - x'].
    """

    def __init__(self, width: int, heads: int, side: int, attention: str) -> None:
        super().__init__()
        self.num_heads = heads
        self.attention = attention
        self.position_side = side
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, width // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, width // heads))

    def forward(self, x: Tensor) -> Tensor:
        views, height, width, _ = x.shape
        positions = height * width
        qkv = self.qkv(x).reshape(views, positions, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)  # each [B, N, H*W, C]
        bias = self._position_bias(q, height, width)
        out = scaled_dot_product(q, k, v, mask=bias, kind=self.attention)
        return self.proj(out.transpose(1, 2).reshape(views, height, width, -1))

    def _position_bias(self, q: Tensor, height: int, width: int) -> Tensor:
        """Bias of every query and key: [B, N, H*W, H*W]."""
        views = q.shape[0]
        grid = q.reshape(views * self.num_heads, height, width, -1)
        rows = torch.einsum("bhwc,hkc->bhwk", grid, relative_table(self.rel_pos_h, height))
        columns = torch.einsum("bhwc,wkc->bhwk", grid, relative_table(self.rel_pos_w, width))
        positions = height * width
        # Flattened before they are added, so that the sum, which is large, is contiguous at once.
        bias = rows.reshape(-1, positions, height, 1) + columns.reshape(-1, positions, 1, width)
        return bias.view(views, self.num_heads, positions, positions)


def relative_table(table: Tensor, side: int) -> Tensor:
    """Row i, column j: the embedding of the offset i - j, resized to the side; [side, side, C]."""
    needed = 2 * side - 1
    if table.shape[0] != needed:
        stretched = F.interpolate(table.to(torch.float32).t().unsqueeze(0), size=needed, mode="linear")
        table = stretched.squeeze(0).t().to(table.dtype)
    axis = torch.arange(side, device=table.device)
    return table[axis[:, None] - axis[None, :] + (side - 1)]


class Block(nn.Module):
    """One transformer block; attention within windows of S x S patches, or over the whole map."""

    def __init__(self, config: SamConfig, *, window_size: int, attention: str) -> None:
        super().__init__()
        side = window_size or config.image_size // config.patch_size
        self.norm1 = nn.LayerNorm(config.width, eps=config.layer_norm_eps)
        self.attn = Attention(config.width, config.heads, side, attention)
        self.norm2 = nn.LayerNorm(config.width, eps=config.layer_norm_eps)
        self.mlp = MLPBlock(config.width, config.width * config.mlp_ratio)
        self.window_size = window_size

    def forward(self, x: Tensor) -> Tensor:
        normal = self.norm1(x)
        if self.window_size:
            windows = split_windows(normal, self.window_size)
            mixed = join_windows(self.attn(windows), self.window_size, x.shape[1], x.shape[2])
        else:
            mixed = self.attn(normal)
        x = x + mixed
        return x + self.mlp(self.norm2(x))


def split_windows(x: Tensor, side: int) -> Tensor:
    """[B, H, W, D] to [B * windows, S, S, D]; the map is padded with zeros up to a multiple of S."""
    views, height, width, depth = x.shape
    pad_rows, pad_columns = -height % side, -width % side
    if pad_rows or pad_columns:
        x = F.pad(x, (0, 0, 0, pad_columns, 0, pad_rows))
    rows, columns = (height + pad_rows) // side, (width + pad_columns) // side
    x = x.view(views, rows, side, columns, side, depth).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(views * rows * columns, side, side, depth)


def join_windows(windows: Tensor, side: int, height: int, width: int) -> Tensor:
    """The inverse of split_windows, without the padding: [B, H, W, D]."""
    rows, columns = -(-height // side), -(-width // side)
    views = windows.shape[0] // (rows * columns)
    x = windows.view(views, rows, columns, side, side, -1).permute(0, 1, 3, 2, 4, 5)
    x = x.reshape(views, rows * side, columns * side, -1)
    return x[:, :height, :width].contiguous()


class ImageEncoderViT(nn.Module):
    """Pixels [B, 3, h, w] to features [B, C, ceil(H / 4), ceil(W / 4)]."""

    def __init__(self, config: SamConfig, attention: str) -> None:
        super().__init__()
        grid = config.image_size // config.patch_size
        middle, last = config.downsample_channels
        channels = config.out_channels
        self.patch_embed = PatchEmbed(config.patch_size, config.width)
        self.pos_embed = nn.Parameter(torch.zeros(1, grid, grid, config.width))
        self.blocks = nn.ModuleList(
            Block(
                config,
                window_size=0 if index in config.global_attn_indexes else config.window_size,
                attention=attention,
            )
            for index in range(config.layers)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(config.width, channels, kernel_size=1, bias=False),
            LayerNorm2d(channels, config.layer_norm_eps),
            nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False),
            LayerNorm2d(channels, config.layer_norm_eps),
        )
        self.net_2 = nn.Conv2d(channels, middle, kernel_size=3, stride=2, padding=1, bias=False)
        self.net_3 = nn.Conv2d(middle, last, kernel_size=3, stride=2, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x)
        x = x + self._positions(x.shape[1], x.shape[2])
        for block in self.blocks:
            x = block(x)
        x = self.neck(x.permute(0, 3, 1, 2))
        return self.net_3(self.net_2(x))

    def _positions(self, height: int, width: int) -> Tensor:
        if self.pos_embed.shape[1:3] == (height, width):
            return self.pos_embed
        return resize_positions(self.pos_embed.permute(0, 3, 1, 2), height, width).permute(0, 2, 3, 1)
