"""Rotary positions, computed anew in every layer, in float32 whatever autocast says."""

import torch


def rotate(states, position_ids):
    """States [batch, length, heads, size] turned by their positions [batch, length]."""
    size = states.shape[-1]
    with torch.autocast("cuda", enabled=False):
        frequencies = 10000.0 ** (-torch.arange(0, size, 2, device="cuda", dtype=torch.float32) / size)
        angles = position_ids[:, :, None, None].cuda().float() * frequencies
    cos, sin = angles.cos().to(states.dtype), angles.sin().to(states.dtype)
    first, second = states.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
