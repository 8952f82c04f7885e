"""Small models as users write them: what `modelmeter.trace` and `modelmeter.record` are tried on.

Axes: N pictures or sequences, C channels, H height, W width, L positions, D width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut, as in torchvision's ResNets."""

    def __init__(self, channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class ResNet(nn.Module):
    """[N, 3, H, W] to [N, classes]."""

    def __init__(self, width: int = 8, blocks: tuple[int, ...] = (2, 2), classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        layers: list[nn.Module] = []
        channels = width
        for stage, count in enumerate(blocks):
            wide = width * 2**stage
            steps = [BasicBlock(channels if i == 0 else wide, wide, 2 if i == 0 and stage else 1) for i in range(count)]
            layers.append(nn.Sequential(*steps))
            channels = wide
        self.layers = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.fc(torch.flatten(self.avgpool(self.layers(x)), 1))


class Gan(nn.Module):
    """A DCGAN: noise [N, 16, 1, 1] to pictures [N, 3, 16, 16] to what the discriminator says of them, [N]."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(
            nn.ConvTranspose2d(16, 16, 4, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(True),
            nn.ConvTranspose2d(16, 8, 4, 2, 1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(True),
            nn.ConvTranspose2d(8, 3, 4, 2, 1),
            nn.Tanh(),
        )
        self.discriminator = nn.Sequential(
            nn.Conv2d(3, 8, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(8, 16, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(16, 1, 4),
            nn.Flatten(0),
        )

    def forward(self, noise: Tensor) -> Tensor:
        return self.discriminator(self.generator(noise))


class Recurrent(nn.Module):
    """A language model: token ids [N, L] to logits [N, L, vocabulary]."""

    def __init__(self, cell: type[nn.RNNBase] = nn.LSTM, width: int = 12, hidden: int = 16, layers: int = 2) -> None:
        super().__init__()
        self.embed = nn.Embedding(40, width)
        self.rnn = cell(width, hidden, layers, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * hidden, 40)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.rnn(self.embed(ids))[0])


class Residual(nn.Module):
    """A U-Net's block: [N, C, H, W] and the time's embedding [N, D]."""

    def __init__(self, channels: int, out_channels: int, time: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(4, channels), nn.Conv2d(channels, out_channels, 3, padding=1)
        self.time = nn.Linear(time, out_channels)
        self.norm2, self.conv2 = nn.GroupNorm(4, out_channels), nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.skip = nn.Conv2d(channels, out_channels, 1) if channels != out_channels else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x))) + self.time(F.silu(time))[:, :, None, None]
        return self.conv2(F.silu(self.norm2(h))) + self.skip(x)


class SpatialAttention(nn.Module):
    """Attention over all places of a picture."""

    def __init__(self, channels: int, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.qkv = nn.GroupNorm(4, channels), nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).view(n, 3, self.heads, c // self.heads, h * w).transpose(-1, -2).unbind(1)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(mixed.transpose(-1, -2).reshape(n, c, h, w))


class UNet(nn.Module):
    """One step of a diffusion model: noisy pictures [N, 3, H, W] and times [N] to the noise in them."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.width = width
        self.embed = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width))
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.down = nn.ModuleList([Residual(width, width, 4 * width), Residual(width, 2 * width, 4 * width)])
        self.shrink = nn.Conv2d(width, width, 3, 2, padding=1)
        self.middle, self.attention = Residual(2 * width, 2 * width, 4 * width), SpatialAttention(2 * width)
        self.up = nn.ModuleList([Residual(4 * width, 2 * width, 4 * width), Residual(3 * width, width, 4 * width)])
        self.last = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x: Tensor, times: Tensor) -> Tensor:
        frequencies = torch.exp(torch.arange(self.width // 2) * -0.5)
        angles = times[:, None].float() * frequencies
        time = self.embed(torch.cat((angles.sin(), angles.cos()), dim=1))
        first = self.down[0](self.first(x), time)
        second = self.down[1](self.shrink(first), time)
        middle = self.attention(self.middle(second, time))
        h = self.up[0](torch.cat((middle, second), dim=1), time)
        h = F.interpolate(h, scale_factor=2.0)
        return self.last(self.up[1](torch.cat((h, first), dim=1), time))


class Layer(nn.Module):
    """A transformer's layer over [N, L, D], before which a step of it may be checkpointed."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm2, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(n, length, width))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class SharedTransformer(nn.Module):
    """One layer run several times, and an embedding whose table is the head's as well (as in ALBERT)."""

    def __init__(self, width: int = 16, times: int = 3, vocabulary: int = 30, reentrant: bool | None = None) -> None:
        super().__init__()
        self.times, self.reentrant = times, reentrant
        self.embed, self.layer = nn.Embedding(vocabulary, width), Layer(width, 2)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        for _ in range(self.times):
            if self.reentrant is None:
                x = self.layer(x)
            else:
                x = checkpoint(self.layer, x, use_reentrant=self.reentrant)
        return self.head(x)


def parametrized(kind: str) -> nn.Module:
    """An MLP whose weights are computed from others, in each of torch's ways."""
    layers = [nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 8)]
    for layer in (layers[0], layers[2]):
        if kind == "weight_norm":
            parametrizations.weight_norm(layer)
        elif kind == "spectral_norm":
            parametrizations.spectral_norm(layer)
        elif kind == "orthogonal":
            parametrizations.orthogonal(layer)
        elif kind == "weight_norm by hooks":
            nn.utils.weight_norm(layer)
        else:
            nn.utils.spectral_norm(layer)
    return nn.Sequential(*layers)
