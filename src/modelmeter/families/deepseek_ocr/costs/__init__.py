"""What DeepSeek-OCR costs, in closed form."""

from modelmeter.families.deepseek_ocr.costs.parallel import check_shares
from modelmeter.families.deepseek_ocr.costs.scenario import closed_form, closed_form_values, cost_tree, written_out
from modelmeter.families.deepseek_ocr.costs.symbolic_views import scenario_keys

__all__ = ["check_shares", "closed_form", "closed_form_values", "cost_tree", "scenario_keys", "written_out"]
