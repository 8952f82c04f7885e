"""The data types that both sides of ModelMeter meet in, and their strict codec."""

from modelmeter.schema.callgraph import (
    SCHEMA_VERSION,
    STAGES,
    ArgumentType,
    Assumption,
    CallGraph,
    Cost,
    Event,
    Forward,
    LiveTensor,
    ModuleCost,
    OperatorCost,
    ParameterInfo,
    PeakMoment,
    Signature,
    TensorSignature,
)
from modelmeter.schema.scenario import RESOLUTION_MODES, Page, Scenario

__all__ = [
    "RESOLUTION_MODES",
    "SCHEMA_VERSION",
    "STAGES",
    "ArgumentType",
    "Assumption",
    "CallGraph",
    "Cost",
    "Event",
    "Forward",
    "LiveTensor",
    "ModuleCost",
    "OperatorCost",
    "Page",
    "ParameterInfo",
    "PeakMoment",
    "Scenario",
    "Signature",
    "TensorSignature",
]
