"""The key-value cache of the decoder: keys and values of every layer, grown by concatenation."""

from __future__ import annotations

import torch
from torch import Tensor


class LayerCache:
    """Keys and values of one layer: [B, G, P, C] each, or None before the first forward."""

    def __init__(self) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None


class KeyValueCache:
    """Keys and values of all layers, kept in ``dtype`` if one is given."""

    def __init__(self, num_layers: int, dtype: torch.dtype | None = None) -> None:
        self.layers = [LayerCache() for _ in range(num_layers)]
        self.dtype = dtype

    def get_seq_length(self) -> int:
        """Positions held."""
        keys = self.layers[0].keys
        return 0 if keys is None else keys.shape[2]

    def update(self, keys: Tensor, values: Tensor, layer_idx: int) -> tuple[Tensor, Tensor]:
        """Append [B, G, T, C] to a layer; what attention reads comes back in the given dtype."""
        layer = self.layers[layer_idx]
        stored = self.dtype or keys.dtype
        layer.keys = _append(layer.keys, keys.to(stored))
        layer.values = _append(layer.values, values.to(stored))
        return layer.keys.to(keys.dtype), layer.values.to(values.dtype)


def _append(held: Tensor | None, new: Tensor) -> Tensor:
    return new if held is None else torch.cat((held, new), dim=2)
