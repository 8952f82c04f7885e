"""What the releases of transformers call differently, from 4.46 on."""

from __future__ import annotations

from typing import Any

import torch

from modelmeter.errors import UsageError


def building_options(dtype: torch.dtype, attention: str, experts: str | None) -> dict[str, Any]:
    """Keyword arguments of ``from_config`` in the release that is there.

    Raises UsageError for ``experts`` in a release that runs experts as their module is written.
    """
    from transformers import PretrainedConfig, __version__

    # The keyword is named after the configuration's key, which was torch_dtype before 4.56.
    given: dict[str, Any] = {
        "dtype" if hasattr(PretrainedConfig(), "dtype") else "torch_dtype": dtype,
        "attn_implementation": attention,
    }
    if experts is None:
        return given
    if not hasattr(PretrainedConfig(), "_experts_implementation"):
        raise UsageError(
            f"transformers {__version__} has no choice of --experts {experts}", remedy="leave it out, or update it"
        )
    return {**given, "experts_implementation": experts}
