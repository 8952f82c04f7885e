"""What can be asked of a call graph without running it again."""

from modelmeter.callgraph.filters import keep_modules, only_heavy, only_prefix, only_stage
from modelmeter.callgraph.outline import OutlineRow, outline

__all__ = ["OutlineRow", "keep_modules", "only_heavy", "only_prefix", "only_stage", "outline"]
