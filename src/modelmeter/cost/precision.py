"""Data types of weights, activations and cache."""

from __future__ import annotations

from attrs import frozen

from modelmeter.units import DTYPE_BYTES

WIDE = "float32"
"""What norms, softmax, rotary angles and gates are computed in."""

WIDE_BYTES = DTYPE_BYTES[WIDE]
INDEX_BYTES = DTYPE_BYTES["int64"]
BOOL_BYTES = DTYPE_BYTES["bool"]


@frozen
class Precision:
    """Names of data types, without ``torch.``. Products are taken in the activations' type."""

    weights: str = "bfloat16"
    activations: str = "bfloat16"
    kv: str = "bfloat16"

    @property
    def weight_bytes(self) -> int:
        """Bytes of one element of a weight."""
        return DTYPE_BYTES[self.weights]

    @property
    def activation_bytes(self) -> int:
        """Bytes of one element of an activation."""
        return DTYPE_BYTES[self.activations]

    @property
    def kv_bytes(self) -> int:
        """Bytes of one element of the cache."""
        return DTYPE_BYTES[self.kv]

    @property
    def widens(self) -> bool:
        """Whether activations are converted where float32 is asked for."""
        return self.activations != WIDE
