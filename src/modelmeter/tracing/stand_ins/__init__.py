"""Stand-ins for optional GPU kernels (flash-attn, xformers, causal-conv1d, mamba-ssm) in a model's own code.

Each kernel is one operator with the shapes, results and FLOPs of the real one; on real tensors it computes
them in plain torch. The packages that hold them are importable by the code that is traced, and by no other.
"""

from modelmeter.tracing.stand_ins.importing import Import, standing_in
from modelmeter.tracing.stand_ins.registry import STAND_INS, StandIn

__all__ = ["STAND_INS", "Import", "StandIn", "standing_in"]
