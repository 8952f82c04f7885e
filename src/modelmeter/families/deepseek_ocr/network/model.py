"""DeepSeek-OCR: two vision towers, a projector, and the decoder that reads what they saw.

Axes: B requests, T positions, P positions with the cache, D hidden size, q image tokens of a side.
Source: DeepSeek-OCR: Contexts Optical Compression (2025), and the published configuration.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from attrs import define
from torch import Tensor, nn

from modelmeter.families.deepseek_ocr.config import DeepSeekOCRConfig
from modelmeter.families.deepseek_ocr.network.cache import KeyValueCache
from modelmeter.families.deepseek_ocr.network.clip import VitModel
from modelmeter.families.deepseek_ocr.network.decoder import DeepseekV2DecoderLayer, DeepseekV2RMSNorm
from modelmeter.families.deepseek_ocr.network.sam import ImageEncoderViT

PageImages = tuple[Tensor, Tensor]
"""Crops [w*h, 3, s, s] (none: a first dimension of 0) and the global view [1, 3, S, S] of one page."""


@define
class ModelOutput:
    """Logits [B, T or 1, vocabulary] in float32, and the cache after the forward."""

    logits: Tensor
    past_key_values: KeyValueCache


class MlpProjector(nn.Module):
    """Vision features [B, T, 2048] to the decoder's width."""

    def __init__(self, input_dim: int, n_embed: int) -> None:
        super().__init__()
        self.layers = nn.Linear(input_dim, n_embed)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class DeepseekOCRModel(nn.Module):
    """Token and image embeddings through the decoder layers: hidden states [B, T, D]."""

    def __init__(self, config: DeepSeekOCRConfig, *, vision_attention: str, decoder_attention: str) -> None:
        super().__init__()
        decoder = config.decoder
        self.embed_tokens = nn.Embedding(decoder.vocab_size, decoder.hidden_size)
        self.layers = nn.ModuleList(
            DeepseekV2DecoderLayer(decoder, index, decoder_attention) for index in range(decoder.num_hidden_layers)
        )
        self.norm = DeepseekV2RMSNorm(decoder.hidden_size, decoder.rms_norm_eps)
        self.sam_model = ImageEncoderViT(config.sam, vision_attention)
        self.vision_model = VitModel(config.clip, vision_attention)
        self.projector = MlpProjector(config.feature_size, decoder.hidden_size)
        self.image_newline = nn.Parameter(torch.zeros(decoder.hidden_size))
        # The name, misspelt, is the checkpoint's.
        self.view_seperator = nn.Parameter(torch.zeros(decoder.hidden_size))

    def forward(
        self,
        input_ids: Tensor,
        past_key_values: KeyValueCache,
        attention_mask: Tensor | None = None,
        images: Sequence[PageImages] = (),
        images_seq_mask: Tensor | None = None,
        images_spatial_crop: Tensor | None = None,
    ) -> Tensor:
        hidden = self.embed_tokens(input_ids)
        past = past_key_values.get_seq_length()
        if len(images) and images_spatial_crop is not None and images_seq_mask is not None and past == 0:
            features = torch.cat(self.see(images, images_spatial_crop))
            hidden = hidden.masked_scatter(images_seq_mask.unsqueeze(-1), features)
        positions, bias = positions_and_mask(input_ids, attention_mask, past, hidden.dtype)
        for layer in self.layers:
            hidden = layer(hidden, bias, positions, past_key_values)
        return self.norm(hidden)

    def see(self, images: Sequence[PageImages], images_spatial_crop: Tensor) -> list[Tensor]:
        """Image tokens of every page, [tokens, D] each: crops, then the global view, then a separator."""
        pages = []
        for (crops, global_view), grid in zip(images, images_spatial_crop.tolist(), strict=True):
            parts = []
            if crops.shape[0]:
                parts.append(self._with_newlines(self._view_features(crops), *grid))
            parts.append(self._with_newlines(self._view_features(global_view), 1, 1))
            parts.append(self.view_seperator[None])
            pages.append(torch.cat(parts))
        return pages

    def _view_features(self, views: Tensor) -> Tensor:
        """Pixels [B, 3, s, s] to image tokens [B, q*q, D]."""
        sam = self.sam_model(views)
        clip = self.vision_model(views, sam)
        return self.projector(torch.cat((clip[:, 1:], sam.flatten(2).transpose(1, 2)), dim=-1))

    def _with_newlines(self, features: Tensor, columns: int, rows: int) -> Tensor:
        """Views of a grid [rows*columns, q*q, D] as one picture, each of its rows ended by a newline."""
        _, tokens, depth = features.shape
        side = int(tokens**0.5)
        picture = features.view(rows, columns, side, side, depth).transpose(1, 2)
        picture = picture.reshape(rows * side, columns * side, depth)
        newline = self.image_newline.expand(rows * side, 1, depth)
        return torch.cat((picture, newline), dim=1).flatten(0, 1)


def positions_and_mask(
    input_ids: Tensor, attention_mask: Tensor | None, past: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Position ids [B, T] and the additive causal mask [B, 1, T, P].

    ``attention_mask`` [B, P] is 0 where a shorter prompt was padded on the left; such positions are
    not attended to and not counted.
    """
    batch, length = input_ids.shape
    total = past + length
    if attention_mask is None:
        attention_mask = torch.ones(batch, total, dtype=torch.int64, device=input_ids.device)
    positions = (attention_mask.cumsum(-1) - 1).clamp(min=0)[:, past:]
    index = torch.arange(total, device=input_ids.device)
    visible = (index[None, :] <= index[past:, None])[None] & (attention_mask[:, None, :] != 0)
    lowest = torch.finfo(dtype).min
    bias = torch.zeros(batch, 1, length, total, dtype=dtype, device=input_ids.device)
    return positions, bias.masked_fill(~visible[:, None], lowest)


class DeepseekOCRForCausalLM(nn.Module):
    """The whole model: ids, pages and a cache to logits."""

    def __init__(
        self,
        config: DeepSeekOCRConfig,
        *,
        vision_attention: str = "sdpa",
        decoder_attention: str = "sdpa",
        head: str = "all",
        kv_dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        decoder = config.decoder
        self.head = head
        self.kv_dtype = kv_dtype
        self.model = DeepseekOCRModel(config, vision_attention=vision_attention, decoder_attention=decoder_attention)
        self.lm_head = nn.Linear(decoder.hidden_size, decoder.vocab_size, bias=False)

    def forward(
        self,
        input_ids: Tensor,
        past_key_values: KeyValueCache | None = None,
        attention_mask: Tensor | None = None,
        images: Sequence[PageImages] = (),
        images_seq_mask: Tensor | None = None,
        images_spatial_crop: Tensor | None = None,
    ) -> ModelOutput:
        """One forward.

        ``input_ids`` [B, T]; ``images`` all pages of all requests in order, with their grids
        ``images_spatial_crop`` [pages, 2] (columns, rows) and ``images_seq_mask`` [B, T], true where an
        image token stands. With a cache that holds positions the images are not looked at again.
        """
        if past_key_values is None:
            past_key_values = KeyValueCache(len(self.model.layers), self.kv_dtype)
        hidden = self.model(input_ids, past_key_values, attention_mask, images, images_seq_mask, images_spatial_crop)
        if self.head == "last":
            hidden = hidden[:, -1:]
        return ModelOutput(self.lm_head(hidden).float(), past_key_values)
