"""Changing any one number or sign of any formula makes ``verify`` find a difference.

Every mutant is evaluated over scenarios whose traces are made once, and must be told from the trace by a
named module, or fail. Those that cannot be told are listed here with the reason.
"""

from __future__ import annotations

import functools
import sys
import zlib
from typing import Any

import pytest
from attrs import evolve, frozen

import modelmeter.cost.operators.norms
from formula_mutants import COSTS, ENTRY, Mutant, file_of, formula_modules, functions_run, imported, mutants_of
from modelmeter.families.deepseek_ocr import DeepSeekOCRConfig, read_configuration
from modelmeter.families.deepseek_ocr.family import FAMILY
from modelmeter.families.deepseek_ocr.views import PageLayout
from modelmeter.schema.callgraph import CallGraph
from modelmeter.schema.scenario import Page, Scenario
from modelmeter.tracing import trace_family
from modelmeter.verify import Difference, compare
from modelmeter.verify.run import TRACED_STEPS
from modelmeter.verify.steps import compare_steps
from small import SMALL_SIZES, small_source


@frozen(eq=False)
class Prepared:
    """A scenario with its trace."""

    config: DeepSeekOCRConfig
    traced: Scenario
    whole: Scenario
    """With all of its decode steps."""
    layouts: list[PageLayout]
    document: CallGraph


def _config(sam: dict[str, Any], clip: dict[str, Any], decoder: dict[str, Any]) -> DeepSeekOCRConfig:
    source = small_source(**decoder)
    source["projector_config"] = {}
    towers = source["vision_config"]["width"]
    towers["sam_vit_b"] |= sam
    towers["clip-l-14-224"] |= clip
    towers["sam_vit_b"]["downsample_channels"] = [11, towers["clip-l-14-224"]["width"]]
    source["vision_config"]["image_size"] = towers["sam_vit_b"].pop("image_size", 128)
    return read_configuration(source)


def _grids(*grids: tuple[int, int]) -> tuple[Page, ...]:
    return tuple(Page(grid=grid) for grid in grids)


TWO_HEADS = {"num_attention_heads": 2, "num_key_value_heads": 2, "hidden_size": 20}
ONE_HEAD = {"num_attention_heads": 1, "num_key_value_heads": 1, "hidden_size": 14, "num_hidden_layers": 1}
GROUPED = {"num_attention_heads": 4, "num_key_value_heads": 2, "first_k_dense_replace": 2, "n_shared_experts": None}
FEW_COPIES = {"num_experts_per_tok": 1, "moe_intermediate_size": 10}
MANY_EXPERTS = {**TWO_HEADS, "n_routed_experts": 9, "num_experts_per_tok": 7}
"""With two tokens five experts have one copy more than the other four."""
NO_EXPERTS = dict.fromkeys(("n_routed_experts", "n_shared_experts", "num_experts_per_tok"))

CASES: dict[str, tuple[tuple[dict[str, Any], dict[str, Any], dict[str, Any]], dict[str, Any]]] = {
    "crops": (({}, {}, {}), {"pages": _grids((3, 2)), "batch": 2, "decode_steps": 7}),
    "written out, several pages": (
        ({"window_size": 5}, {"image_size": 14}, TWO_HEADS),
        {
            "pages": _grids((2, 2), (2, 2), (1, 1)),
            "image_size": 80,
            "attention": "eager",
            "routing": "worst",
            "batch": 2,
            "decode_steps": 5,
        },
    ),
    "one head, tables of the right size": (
        ({"heads": 1, "window_size": 4}, {"heads": 1, "image_size": 28, "layers": 1}, ONE_HEAD),
        {"pages": _grids((1, 1)), "attention": "eager", "dtype": "float32", "batch": 3, "head": "last"},
    ),
    "narrow cache, grouped, uneven experts": (
        ({"global_attn_indexes": [], "image_size": 96}, {}, {**GROUPED, **FEW_COPIES}),
        {"kv_dtype": "float8_e4m3fn", "routing": "zipf:4", "batch": 2, "decode_steps": 2, "pages": _grids((2, 1))},
    ),
    "wide cache, grouped, written out": (
        ({"global_attn_indexes": [0, 1, 2]}, {}, {**GROUPED, **NO_EXPERTS}),
        {"kv_dtype": "float32", "attention": "eager", "batch": 2, "decode_steps": 1, "pages": _grids((1, 3), (2, 1))},
    ),
    "one view of one patch, random experts": (
        ({}, {}, {"first_k_dense_replace": 0}),
        {"image_size": 16, "crop_mode": False, "routing": "random:3", "decode_steps": 2, "pages": (Page(9, 9),)},
    ),
    "two patches, windows of two": (
        ({"heads": 3, "window_size": 2}, {}, {"num_experts_per_tok": 1}),
        {"base_size": 32, "image_size": 48, "attention": "eager", "pages": _grids((2, 2)), "decode_steps": 1},
    ),
    "windows of one patch": (
        ({"window_size": 1}, {}, {**MANY_EXPERTS, "moe_intermediate_size": 30}),
        {"pages": _grids((1, 1)), "text_tokens": 1, "batch": 2, "decode_steps": 1},
    ),
    "one expert with one copy more": (
        ({}, {}, {**TWO_HEADS, "n_routed_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 64}),
        {"pages": _grids((1, 1)), "batch": 2, "decode_steps": 1},
    ),
    "views of one patch": (
        ({"window_size": 2}, {}, {**MANY_EXPERTS, "moe_intermediate_size": 64}),
        {"base_size": 160, "image_size": 16, "pages": _grids((2, 1)), "batch": 2, "decode_steps": 1},
    ),
}


NEVER_LIVE = "stands for a tensor that there is none of: it is never live and nothing reads it"
NO_SINGLE_CROP = "a page has no crops, or at least two"
DEFAULT = "a default that DeepSeek-OCR's closed form does not take"

EQUIVALENT = {
    "cost/arithmetic.py:largest: result: Number = 0 -> result: Number = 1": "of no numbers; every peak is above 1",
    "cost/operators/positions.py:resize_table: Tensor(0) -> Tensor(1)": NEVER_LIVE,
    "cost/layers/expert_load.py:balanced_load: decisions=1 -> decisions=2": DEFAULT,
    "cost/layers/expert_load.py:worst_load: decisions=1 -> decisions=2": DEFAULT,
    "families/deepseek_ocr/costs/sam.py:_block: Tensor(0) -> Tensor(1)": NEVER_LIVE,
    "families/deepseek_ocr/costs/sam.py:_attention: Tensor(0) -> Tensor(1)": NEVER_LIVE,
    "families/deepseek_ocr/costs/sam.py:_position_biases: Tensor(0) -> Tensor(1)": NEVER_LIVE,
    "families/deepseek_ocr/costs/clip.py:_attention: Tensor(0) -> Tensor(1)": NEVER_LIVE,
    "families/deepseek_ocr/costs/model.py:Pages: count: Number = 1 -> count: Number = 2": "of one view nobody asks it",
    "families/deepseek_ocr/costs/model.py:Workload.image_tokens: less(0, pages.crops) -> less(1, pages.crops)": (
        NO_SINGLE_CROP
    ),
    "families/deepseek_ocr/costs/model.py:<module>: Load(0, 0, 0) -> Load(0, 0, 1)": (
        "matters to a peak, of which it has none"
    ),
    "families/deepseek_ocr/costs/model.py:_hidden_states: Tensor(0) -> Tensor(1)": NEVER_LIVE,
    "families/deepseek_ocr/costs/model.py:_see: len(work.pages) - 1 -> len(work.pages) + 1": (
        "frees the last page's parts sooner, when they are less than what is live after"
    ),
    "families/deepseek_ocr/costs/model.py:_see: less(0, pages.crops) -> less(1, pages.crops)": NO_SINGLE_CROP,
    "families/deepseek_ocr/costs/model.py:_see: less(0, pages.crops) -> less(1, pages.crops) (no. 2)": NO_SINGLE_CROP,
    "families/deepseek_ocr/costs/scenario.py:_closed_form: decoder.num_experts_per_tok or 0 -> "
    "decoder.num_experts_per_tok or 1": "without experts no layer takes it",
}
"""Mutants that are no other formula, with the reason."""

SAMPLED_OF = 11
"""One of so many mutants is tried in every run of the tests, all of them in the slow one."""

WRITTEN_OUT = Difference("DeepseekOCRForCausalLM", "all", "written out", "compiled", "plain integers")


@functools.cache
def prepared(name: str) -> Prepared:
    """A case, traced once."""
    parts, values = CASES[name]
    config = _config(*parts)
    scenario = Scenario(**{**SMALL_SIZES, **values})
    whole = FAMILY.resolve(config, scenario)
    traced = evolve(whole, decode_steps=min(whole.decode_steps, TRACED_STEPS))
    document = trace_family(FAMILY, traced, config)
    return Prepared(config, traced, whole, FAMILY.layouts(config, whole), document)


def differences(forms: Any, case: Prepared) -> list[Difference]:
    """What ``verify`` finds with these closed forms."""
    from modelmeter.cost.expression import evaluate  # the one that these forms are written with

    trees = []
    for scenario in (case.traced, case.whole):
        form = forms.closed_form(case.config, scenario, case.layouts)
        values = forms.closed_form_values(case.config, scenario, case.layouts)
        trees.append(form.tree(values))
        # No cost: plans compare it with what the model has.
        assert evaluate(form.positions, values) == (scenario.seq_len or 0) + scenario.decode_steps
    later, _ = compare_steps(trees[1], case.document, case.whole.decode_steps, case.whole.routing)
    # The closed forms taken with plain integers have a few lines of their own.
    plain = [] if forms.written_out(case.config, case.traced, case.layouts) == trees[0] else [WRITTEN_OUT]
    return [*compare(trees[0], case.document).unexplained, *later, *plain]


def caught_by(mutant: Mutant) -> str | None:
    """The first case that tells a mutant from the trace, with the module it names; None if none does."""
    for name in CASES:
        case = prepared(name)
        try:
            with imported(mutant) as forms:
                found = differences(forms, case)
        except Exception as error:
            return f"{name}: {type(error).__name__}"
        named = [difference.module for difference in found if difference.module]
        assert bool(named) == bool(found)
        if named:
            return f"{name}: {named[0]}"
    return None


@functools.cache
def run_functions() -> frozenset[tuple[str, str]]:
    """The functions that the cases enter."""

    def run() -> None:
        for name in CASES:
            with imported(None) as forms:
                assert differences(forms, prepared(name)) == []

    return frozenset(functions_run(run))


@functools.cache
def all_mutants() -> list[Mutant]:
    """Mutants of formulas that DeepSeek-OCR takes."""
    found = [mutant for module in formula_modules() for mutant in mutants_of(module)]
    return [mutant for mutant in found if (file_of(mutant.module), mutant.function) in run_functions()]


def survivors(mutants: list[Mutant]) -> set[str]:
    return {mutant.key for mutant in mutants if caught_by(mutant) is None}


def test_every_function_of_the_family_is_run() -> None:
    for module in formula_modules():
        if module.startswith(
            (COSTS, "modelmeter.cost.layers.decoder", "modelmeter.cost.layers.feed", "modelmeter.cost.t")
        ):
            assert {mutant.function for mutant in mutants_of(module)} <= {
                function for file, function in run_functions() if file == file_of(module)
            }


def test_there_are_hundreds_of_mutants_with_a_name_each() -> None:
    keys = [mutant.key for mutant in all_mutants()]
    assert len(set(keys)) == len(keys) > 600
    assert "cost/operators/norms.py:<module>: LAYER_NORM_FLOPS = 8 -> LAYER_NORM_FLOPS = 9" in keys
    assert "cost/precision.py:<module>: WIDE_BYTES = DTYPE_BYTES[WIDE] -> WIDE_BYTES = DTYPE_BYTES[WIDE] + 1" in keys
    assert EQUIVALENT.keys() <= set(keys)


def test_a_mutant_leaves_nothing_behind() -> None:
    before = dict(sys.modules)
    mutant = next(mutant for mutant in all_mutants() if "LAYER_NORM_FLOPS = 9" in mutant.key)
    with imported(mutant) as forms:
        assert sys.modules["modelmeter.cost.operators.norms"].LAYER_NORM_FLOPS == 9
        assert forms is not before[ENTRY]
    assert {name: module for name, module in sys.modules.items() if name in before} == before
    assert modelmeter.cost.operators.norms.LAYER_NORM_FLOPS == 8
    assert caught_by(mutant) == "crops: sam_model.blocks.[0-2].norm1"


def test_a_sample_of_mutants_is_caught() -> None:
    chosen = [mutant for mutant in all_mutants() if zlib.crc32(mutant.key.encode()) % SAMPLED_OF == 0]
    assert len(chosen) > 40
    assert survivors(chosen) <= EQUIVALENT.keys()


@pytest.mark.slow
def test_every_mutant_is_caught() -> None:
    assert survivors(all_mutants()) == EQUIVALENT.keys()
