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
    ModuleCost,
    OperatorCost,
    ParameterInfo,
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
    "ModuleCost",
    "OperatorCost",
    "Page",
    "ParameterInfo",
    "Scenario",
    "Signature",
    "TensorSignature",
]
