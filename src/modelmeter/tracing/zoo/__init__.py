"""The zoo: every architecture that transformers maps to a model, traced at its default full size."""

from modelmeter.tracing.zoo.entry import Entry, trace_entry, zoo_names
from modelmeter.tracing.zoo.table import zoo_table

__all__ = ["Entry", "trace_entry", "zoo_names", "zoo_table"]
