"""The analytic report: names and units are a contract that other tools read.

``_tb`` is 10**12 bytes, ``_gb`` 10**9 bytes, ``_tflops`` 10**12 floating-point operations, ``_ms``
milliseconds. A metric covers the whole request batch (all pages, instances, calls and decode steps),
with everything below the module.
"""

from __future__ import annotations

from attrs import field, frozen

from modelmeter.contracts.fields import (
    Amount,
    Bound,
    Count,
    DocKind,
    FreeData,
    Identifier,
    Name,
    RelativePath,
    Repetition,
    Stage,
    VisionBackbone,
)


@frozen(kw_only=True)
class DeepSeekOCRModelSpec:
    """The model that a report is about. ``config_path`` is relative to the report."""

    model_id: Name
    model_variant: Name
    hf_revision: str | None = None
    config_path: RelativePath
    hidden_size: Count
    intermediate_size: Count
    num_layers: Count
    num_attention_heads: Count
    vision_backbone: VisionBackbone
    uses_moe: bool
    notes: str = ""


@frozen(kw_only=True)
class OCRWorkloadProfile:
    """The workload that a report is about, in the contract's keys; ``scenario`` of the report has all of it."""

    profile_id: Name
    description: str
    seq_len: Count
    base_size: Count
    image_size: Count
    crop_mode: bool
    max_new_tokens: Count
    doc_kind: DocKind
    num_pages: Count


@frozen(kw_only=True)
class AnalyticModuleNode:
    """A family of equal modules, by the id of the folded call graph. The nodes are a tree."""

    module_id: Name
    name: str
    qualified_class_name: str
    stage: Stage
    parent_id: str | None = None
    children: tuple[str, ...] = ()
    repetition: Repetition = "none"
    repetition_count: Count | None = None
    constructor_params: FreeData = field(factory=dict)


@frozen(kw_only=True)
class OperatorCategory:
    """A kind of operator, and the classes whose operators are of it."""

    category_id: Name
    display_name: str
    description: str
    match_classes: tuple[str, ...] = ()


@frozen(kw_only=True)
class OperatorMetrics:
    """What the operators of one category cost in one module, with what is below it."""

    category_id: Name
    calls: Count
    flops_tflops: Amount
    io_tb: Amount
    share_of_module_flops: Amount


@frozen(kw_only=True)
class ModuleMetricsSnapshot:
    """What one module costs. Weights are what is resident, activations the peak of live bytes while it runs."""

    module_id: Name
    profile_id: Name
    calls: Count
    total_time_ms: Amount
    total_flops_tflops: Amount
    total_io_tb: Amount
    memory_weights_gb: Amount
    memory_activations_gb: Amount
    memory_kvcache_gb: Amount
    share_of_model_time: Amount
    operator_breakdown: tuple[OperatorMetrics, ...] = ()


@frozen(kw_only=True)
class StageModuleMetrics:
    """One module in one stage: decoder modules run in prefill and in decode. Stages add up to the total."""

    stage: Stage
    module_id: Name
    calls: Count
    total_time_ms: Amount
    total_flops_tflops: Amount
    total_io_tb: Amount
    bound: Bound
    share_of_stage_time: Amount


@frozen(kw_only=True)
class ExactCosts:
    """The integers behind rounded figures, of one device: of several the busiest.

    Bytes are ideal ones, eager bytes those that kernels move one by one.
    """

    matrix_flops: Count
    vector_flops: Count
    bytes_read: Count
    bytes_written: Count
    eager_bytes_read: Count
    eager_bytes_written: Count
    launches: Count
    weight_bytes_read: Count
    wire_bytes: Count | None = None
    """What a device sends to others, where they share the layers."""
    wire_steps: Count | None = None


@frozen(kw_only=True)
class Interval:
    """An estimate between the shortest and the longest that is plausible, and the stage that binds it."""

    low: Amount
    estimate: Amount
    high: Amount
    bound_by: Stage | None = None


@frozen(kw_only=True)
class StageTotals:
    """One stage: exact costs, its time as an interval, and what it is bound by."""

    costs: ExactCosts
    time_s: Interval
    bound: Bound


@frozen(kw_only=True)
class ReportTotals:
    """Exact totals of the run and of every stage. ``matrix_flops`` by dtype are of the whole run."""

    costs: ExactCosts
    stages: dict[Stage, StageTotals]
    matrix_flops_by_dtype: dict[str, Count]
    parameters: Count
    weight_bytes: Count
    kv_cache_bytes: Count
    peak_live_bytes: Count
    peak_module: str


@frozen(kw_only=True)
class Capacity:
    """What the run means for service. Rates are per second of the whole run; prices in dollars.

    A run without pages has no rates and no price of pages.
    """

    time_to_first_token_s: Interval
    time_per_output_token_s: Interval | None = None
    total_time_s: Interval
    tokens_per_s: Interval | None = None
    pages_per_s: Interval | None = None
    pages_per_s_and_device: Interval | None = None
    price_per_1000_pages_usd: Interval | None = None
    memory_bytes: Count
    memory_capacity_bytes: Count
    headroom_bytes: Count
    largest_batch: Count | None = None
    """Requests of one replica. None where it would take other traces to say."""
    devices: Count | None = None
    """All of them, where there are several; rates and the price count all, memory is that of one."""
    replicas: Count | None = None
    """Copies of the model beside each other, where there are several devices."""


@frozen(kw_only=True)
class AnalyticModelReport:
    """One model, one workload, one device: modules, what each costs, totals, and what is needed to ask again."""

    report_id: Identifier
    model: DeepSeekOCRModelSpec
    workload: OCRWorkloadProfile
    modules: tuple[AnalyticModuleNode, ...]
    operator_categories: tuple[OperatorCategory, ...]
    module_metrics: tuple[ModuleMetricsSnapshot, ...]
    profile_run_id: str | None = None
    predicted_total_time_ms: Amount
    measured_total_time_ms: Amount | None = None
    predicted_vs_measured_ratio: Amount | None = None
    notes: str = ""
    layer_docs_dir: RelativePath
    scenario: FreeData | None = None
    """All that determines the content: configuration, scenario, and the device's own figures and efficiencies."""
    stage_metrics: tuple[StageModuleMetrics, ...] | None = None
    totals: ReportTotals | None = None
    capacity: Capacity | None = None
    expressions: FreeData | None = None

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from modelmeter.contracts.notebook import report_table

        return report_table(self)
