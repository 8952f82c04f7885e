"""DeepSeek-OCR as a family: ties configuration, views, network and inputs together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import evolve

from modelmeter.cost.closed_form import Costs
from modelmeter.errors import ScenarioError
from modelmeter.families.deepseek_ocr import config as configuration
from modelmeter.families.deepseek_ocr.class_names import QUALIFIED
from modelmeter.families.deepseek_ocr.config import DeepSeekOCRConfig
from modelmeter.families.deepseek_ocr.costs import check_shares, closed_form, closed_form_values, scenario_keys
from modelmeter.families.deepseek_ocr.views import PageLayout, page_layouts, sequence_length
from modelmeter.families.protocol import Forwards, RuntimeProbe
from modelmeter.schema.scenario import Scenario

if TYPE_CHECKING:
    from torch import nn

    from modelmeter.families.deepseek_ocr.bench import DeepSeekOCRBench

_STAGES = {"sam_model": "vision", "vision_model": "vision", "projector": "projector"}


class DeepSeekOCRFamily:
    """SAM and CLIP towers, a linear projector, and a mixture-of-experts decoder."""

    name = "deepseek-ocr"
    core = "model"

    def default_configuration(self) -> DeepSeekOCRConfig:
        return configuration.published_config()

    def small_configuration(self) -> DeepSeekOCRConfig:
        return configuration.small_config()

    def read_configuration(self, source: Mapping[str, Any]) -> DeepSeekOCRConfig:
        return configuration.read_configuration(source)

    def restore_configuration(self, data: Mapping[str, Any]) -> DeepSeekOCRConfig:
        return configuration.restore(data)

    def model_facts(self, config: DeepSeekOCRConfig) -> dict[str, Any]:
        decoder = config.decoder
        return {
            "hidden_size": decoder.hidden_size,
            "intermediate_size": decoder.intermediate_size,
            "notes": "Two vision towers: SAM ViT-B, whose output is the patch embedding of CLIP-L.",
            "num_attention_heads": decoder.num_attention_heads,
            "num_layers": decoder.num_hidden_layers,
            "uses_moe": bool(decoder.n_routed_experts),
            "vision_backbone": "clip_vit_l",
        }

    def qualified_class_name(self, class_name: str) -> str:
        return QUALIFIED.get(class_name, class_name)

    def recognises(self, source: Mapping[str, Any]) -> bool:
        vision = source.get("vision_config")
        width = vision.get("width") if isinstance(vision, Mapping) else None
        return isinstance(width, Mapping) and "sam_vit_b" in width and "clip-l-14-224" in width

    def layouts(self, config: DeepSeekOCRConfig, scenario: Scenario) -> list[PageLayout]:
        """Views of each page of one request."""
        return page_layouts(scenario, patch_size=config.sam.patch_size)

    def resolve(self, config: DeepSeekOCRConfig, scenario: Scenario) -> Scenario:
        """The scenario with everything derived filled in, also text tokens and sequence length.

        Raises ScenarioError for what the model cannot have.
        """
        scenario = scenario.resolve()
        decoder = config.decoder
        if not scenario.pages:
            raise ScenarioError("there is no page", remedy="give a page file, --page WxH or --grid WxH")
        text_tokens, seq_len = sequence_length(
            scenario, self.layouts(config, scenario), decoder.max_position_embeddings
        )
        check_shares(decoder, scenario)
        return evolve(scenario, text_tokens=text_tokens, seq_len=seq_len)

    def describe(self, config: DeepSeekOCRConfig, scenario: Scenario) -> dict[str, Any]:
        resolved = self.resolve(config, scenario)
        pages = []
        for page, layout in zip(resolved.pages, self.layouts(config, resolved), strict=True):
            entry: dict[str, Any] = {"grid": list(layout.grid), "image_tokens": layout.image_tokens}
            if page.grid is None:
                entry |= {"width": page.width, "height": page.height}
            if page.name is not None:
                entry["name"] = page.name
            pages.append(entry)
        return {"pages": pages, "text_tokens": resolved.text_tokens, "seq_len": resolved.seq_len}

    def costs(self, config: DeepSeekOCRConfig, scenario: Scenario) -> Costs:
        resolved = self.resolve(config, scenario)
        layouts = self.layouts(config, resolved)
        return Costs(closed_form(config, resolved, layouts), closed_form_values(config, resolved, layouts))

    def scenario_keys(self, config: DeepSeekOCRConfig, scenario: Scenario) -> tuple[dict[str, Any], dict[str, Any]]:
        return scenario_keys(self.resolve(config, scenario))

    def build(self, config: DeepSeekOCRConfig, scenario: Scenario) -> nn.Module:
        from modelmeter.families.deepseek_ocr.inputs import build_network

        return build_network(config, scenario.resolve())

    def forwards(self, module: nn.Module, config: DeepSeekOCRConfig, scenario: Scenario) -> Forwards:
        from modelmeter.families.deepseek_ocr.inputs import run_forwards

        resolved = self.resolve(config, scenario)
        requests = [self.layouts(config, resolved)] * resolved.batch
        assert resolved.text_tokens is not None
        return run_forwards(config, resolved, requests, [resolved.text_tokens] * resolved.batch)

    def stage_of(self, module_id: str) -> str | None:
        return _STAGES.get(module_id.partition(".")[0])

    def runtime_probes(self, module: nn.Module) -> Sequence[RuntimeProbe]:
        from modelmeter.families.deepseek_ocr.probes import runtime_probes

        return runtime_probes(module)

    def bench(self) -> DeepSeekOCRBench:
        """What it takes to measure this family; imports torch."""
        from modelmeter.families.deepseek_ocr.bench import DeepSeekOCRBench

        return DeepSeekOCRBench()


FAMILY = DeepSeekOCRFamily()
