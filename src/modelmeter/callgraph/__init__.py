"""What can be asked of a call graph without running it again."""

from modelmeter.callgraph.contract import keep_modules, of_forwards
from modelmeter.callgraph.filters import only_heavy, only_prefix, only_stage
from modelmeter.callgraph.outline import OutlineRow, outline

__all__ = ["OutlineRow", "keep_modules", "of_forwards", "only_heavy", "only_prefix", "only_stage", "outline"]
