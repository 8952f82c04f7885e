"""Any Hugging Face architecture as a model to trace: built without weights, with inputs made from its own forward.

No closed form belongs to such a model; the trace alone says what it runs.
"""

from modelmeter.tracing.hugging_face.building import build_hugging_face
from modelmeter.tracing.hugging_face.configuration import read_hugging_face
from modelmeter.tracing.hugging_face.inputs import make_inputs
from modelmeter.tracing.hugging_face.own_inputs import OwnInput, read_own_inputs
from modelmeter.tracing.hugging_face.run import trace_hugging_face

__all__ = [
    "OwnInput",
    "build_hugging_face",
    "make_inputs",
    "read_hugging_face",
    "read_own_inputs",
    "trace_hugging_face",
]
