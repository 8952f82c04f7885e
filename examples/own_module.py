"""A function that returns a module and its inputs: ``modelmeter trace examples.own_module:build``."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Classifier(nn.Module):
    """A convolutional stem, a transformer encoder, and a head over the mean token."""

    def __init__(self, width: int = 4096, layers: int = 48, classes: int = 1000) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, kernel_size=14, stride=14)
        self.encoder = nn.ModuleList(
            nn.TransformerEncoderLayer(width, nhead=32, dim_feedforward=4 * width, batch_first=True)
            for _ in range(layers)
        )
        self.head = nn.Linear(width, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        tokens = self.stem(pixels).flatten(2).transpose(1, 2)
        for layer in self.encoder:
            tokens = layer(tokens)
        return self.head(tokens.mean(dim=1))


def build() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Ten billion parameters, and one picture."""
    return Classifier().eval(), (torch.zeros(1, 3, 224, 224),)
