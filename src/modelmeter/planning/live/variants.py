"""What a report's keys leave fixed, as a choice: one graph for each attention kind and data type.

A traced run has one, its own.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from modelmeter.cost.arithmetic import Number
from modelmeter.cost.expression import evaluate_all, key
from modelmeter.errors import ScenarioError
from modelmeter.planning.live.ledger import Ledger
from modelmeter.planning.live.modules import module_roots
from modelmeter.planning.live.run import DEVICE_KEYS, run_roots
from modelmeter.planning.traced import TracedQuestion
from modelmeter.planning.what_if import Question, changed
from modelmeter.schema.scenario import ATTENTION_KINDS

DTYPES = ("bfloat16", "float16", "float8_e4m3fn", "float32")
"""Data types of weights that are offered besides the report's own."""

AS_REPORTED = ""
"""The choice that changes nothing, where the report has several kinds at once."""


@frozen
class Variant:
    """A choice of attention and data type, the question with it, and what its modules cost."""

    attention: str
    dtype: str
    question: Question | TracedQuestion
    ledger: Ledger
    sizes: Mapping[str, Number]
    """The scenario's keys with the values that it has for them."""

    @classmethod
    def of(cls, question: Question, attention: str, dtype: str) -> Variant:
        """Of a closed form. Raises ScenarioError for what the model cannot have."""
        costs = question.family.costs(question.config, question.scenario)
        return cls(attention, dtype, question, Ledger.of_form(costs.form), costs.values)

    @property
    def needs(self) -> list[str]:
        """What a device must have: peaks by data type, and a connection to others where layers are shared."""
        return [*self.ledger.dtypes, *([INTERCONNECT] if self.ledger.communicates else [])]

    def roots(self) -> dict[str, Number]:
        """All figures as expressions of the scenario's keys and the device's."""
        question = self.question
        modules = module_roots(self.ledger, question.efficiency)
        if isinstance(question, TracedQuestion):
            return modules | run_roots(self.ledger, question.scenario, self.sizes, modules)
        named = modules | run_roots(self.ledger, question.scenario.resolve(), self.sizes, modules)
        _, derived = question.family.scenario_keys(question.config, question.scenario)
        rules = {name: rule for name, rule in derived.items() if not name.startswith(PAGE_KEYS)}
        if not rules:
            return named
        keys = [*self.sizes, *self.ledger.machine().named(), *DEVICE_KEYS]
        values = evaluate_all(list(named.values()), {name: rules.get(name, key(name)) for name in keys})
        return dict(zip(named, values, strict=True))


PAGE_KEYS = ("page_columns.", "page_rows.")
"""Keys of a crop grid: they stay keys, so that a page can be given by its grid as well as by its size."""


INTERCONNECT = "interconnect"
"""What devices need that share layers."""


def variants_of(question: Question | TracedQuestion) -> list[Variant]:
    """The report's own choice first, then every other that the model takes."""
    if isinstance(question, TracedQuestion):
        return [Variant(AS_REPORTED, AS_REPORTED, question, Ledger.of_tree(question.run.tree), {})]
    scenario = question.scenario.resolve()
    kinds = {scenario.vision_attention, scenario.decoder_attention}
    widths = {scenario.dtype, scenario.activation_dtype, scenario.kv_dtype}
    attentions = [next(iter(kinds)) or AS_REPORTED if len(kinds) == 1 else AS_REPORTED]
    dtypes = [scenario.dtype if len(widths) == 1 else AS_REPORTED]
    attentions += [kind for kind in ATTENTION_KINDS if kind not in attentions]
    dtypes += [dtype for dtype in DTYPES if dtype not in dtypes]
    found = []
    for attention in attentions:
        for dtype in dtypes:
            changes = {}
            if attention != attentions[0]:
                changes["attention"] = attention
            if dtype != dtypes[0]:
                changes["dtype"] = dtype
            asked = changed(question, changes)
            try:
                found.append(Variant.of(asked, attention, dtype))
            except ScenarioError:
                continue
    return found
