"""A region of a user's own script, recorded while it runs as it would."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelmeter import CallGraph, TraceOptions, build_weightless, record, trace
from modelmeter.callgraph.folding import fold
from modelmeter.errors import UsageError
from modelmeter.tracing.backends import HooksBackend
from own_models import Gan, ResNet, SharedTransformer
from test_own_modules import assert_unchanged, ids, state
from test_weightless_equals_real import differences, document


def test_a_forward_in_a_region_is_the_trace_of_it() -> None:
    module, x = ResNet().eval(), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = module(x)
        before = state(module)
        with record(module) as graph:
            y = module(x)
    assert_unchanged(before, state(module))
    assert torch.equal(y, expected), "the region runs for real"
    traced = trace(module, x)
    assert type(graph) is CallGraph and [forward.name for forward in graph.forwards] == ["forward 1"]
    for other in (graph, traced):
        other.forwards[0].name = "forward"
    assert graph.costs == traced.costs and graph.operators == traced.operators
    assert graph.call_counts == traced.call_counts and graph.data_edges == traced.data_edges
    assert fold(graph).families.keys() == fold(traced).families.keys()


def test_a_module_built_without_weights_is_recorded_without_them() -> None:
    module = build_weightless(lambda: SharedTransformer(width=4096, times=2, vocabulary=100_000))
    with torch.no_grad(), record(module) as graph:
        logits = module(ids(1, 64))
        chosen = logits[:, -1].argmax(-1)
    assert logits.shape == (1, 64, 100_000) and chosen.tolist() == [0]
    assert graph.costs["head"].total.matrix_flops == 2 * 64 * 4096 * 100_000


def test_weightlessly_on_request() -> None:
    module, x = ResNet(), torch.randn(2, 3, 32, 32)
    before = state(module)
    with record(module, options=TraceOptions(weightless=True, max_events=3)) as graph:
        module(x)
    assert_unchanged(before, state(module))
    assert len(graph.events) == 3 and graph.events_dropped > 0
    assert graph.total.matrix_flops == trace(module, x).total.matrix_flops


def test_a_training_step_of_a_gan_s_two_networks() -> None:
    gan, noise, real = Gan(), torch.randn(3, 16, 1, 1), torch.randn(3, 3, 16, 16)
    forward = trace(gan, noise)
    generator, discriminator = (forward.costs[name].total.matrix_flops for name in ("generator", "discriminator"))
    optimizers = [torch.optim.Adam(part.parameters()) for part in (gan.generator, gan.discriminator)]
    weights = [parameter.detach().clone() for parameter in gan.parameters()]
    with record(gan) as graph:
        fake = gan.generator(noise)
        optimizers[1].zero_grad()
        judged = gan.discriminator(real), gan.discriminator(fake.detach())
        (F.softplus(-judged[0]).mean() + F.softplus(judged[1]).mean()).backward()
        optimizers[1].step()
        optimizers[0].zero_grad()
        F.softplus(-gan.discriminator(fake)).mean().backward()
        optimizers[0].step()
    names = [entry.name for entry in graph.forwards]
    assert names == ["forward 1", "forward 2", "forward 3", "backward 1", "forward 4", "backward 2"]
    assert all(not torch.equal(a, b) for a, b in zip(weights, gan.parameters(), strict=True)), "the step was real"
    assert graph.call_counts["generator"] == 1 and graph.call_counts["discriminator"] == 3
    assert "Gan" not in graph.call_counts
    first_generator = forward.costs["generator.0"].total.matrix_flops
    first_discriminator = forward.costs["discriminator.0"].total.matrix_flops
    # A layer whose input needs no gradient multiplies once in its backward, others twice.
    of_discriminator = 2 * (2 * discriminator - first_discriminator) + 2 * discriminator
    assert graph.costs["discriminator"].total.matrix_flops == 3 * discriminator + of_discriminator
    assert graph.costs["generator"].total.matrix_flops == 3 * generator - first_generator
    assert graph.total.matrix_flops == sum(cost.own.matrix_flops for cost in graph.costs.values())


def test_optimizer_state_is_live_but_its_work_is_not_the_module_s() -> None:
    module, x = nn.Linear(8, 4), torch.randn(5, 8)
    optimizer = torch.optim.Adam(module.parameters())
    with record(module) as graph:
        for _ in range(2):
            optimizer.zero_grad()
            module(x).sum().backward()
            optimizer.step()
    first, second = (graph.forwards[index].costs["Linear"].total for index in (0, 2))
    assert first.peak_bytes is not None and second.peak_bytes is not None
    # Two moments of all parameters, and the number of steps, a float for each parameter.
    assert second.peak_bytes - first.peak_bytes == 2 * (8 * 4 + 4) * 4 + 2 * 4
    assert first.vector_flops == second.vector_flops == graph.forwards[0].costs["Linear"].own.vector_flops


def test_the_region_is_recorded_alike_twice(tmp_path: Path) -> None:
    texts = []
    for _ in range(2):
        module = Gan().eval()
        with record(module) as graph:
            module(torch.randn(3, 16, 1, 1)).mean().backward()
        texts.append(graph.to_json())
        graph.save(tmp_path / "callgraph.json", force=True)
        assert differences(document(CallGraph.load(tmp_path / "callgraph.json")), document(graph)) == []
    assert texts[0] == texts[1]


def test_a_graph_read_too_early_says_so() -> None:
    module = nn.Linear(2, 2)
    with record(module) as graph:
        module(torch.ones(1, 2))
        assert isinstance(graph, CallGraph) and repr(graph) == "<CallGraph of a recording that is not complete>"
        for read in (lambda: graph.total, lambda: graph.costs, lambda: graph.to_json(), lambda: graph.save("x")):
            with pytest.raises(UsageError, match=r"not complete.*; read the graph after the with block$"):
                read()
    assert graph.total.matrix_flops == 8


def test_an_error_in_the_region_passes_and_leaves_nothing() -> None:
    module = ResNet()
    before = state(module)
    graphs = []

    def script() -> None:
        with record(module) as graph:
            graphs.append(graph)
            module.conv1(torch.randn(1, 3, 8, 8))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        script()
    assert_unchanged(before, state(module))
    with pytest.raises(UsageError, match="not complete"):
        _ = graphs[0].costs


def test_an_error_in_a_forward_that_the_script_handles() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(4, 4))
    with record(module) as graph:
        with pytest.raises(RuntimeError, match="shapes"):
            module(torch.ones(2, 3))
        module[1](torch.ones(2, 4))
    assert graph.call_counts == {"Sequential": 1, "0": 1, "1": 2}


def test_what_would_record_nothing_or_something_else_is_refused() -> None:
    module = nn.Linear(2, 2)
    with pytest.raises(UsageError, match=r"^nothing of Linear ran while it was recorded; call the module"):
        with record(module):
            pass
    with pytest.raises(UsageError, match=r"^cannot record a list; .*ModuleDict$"):
        with record([module]):  # type: ignore[arg-type]
            pass
    for options in (TraceOptions(training=True), TraceOptions(backend=HooksBackend())):
        with pytest.raises(UsageError, match="leave out backend and training"):
            with record(module, options=options):
                pass


def test_forces_from_a_gradient_within_the_forward() -> None:
    """A molecule's energy and forces: the gradient is a part of the forward, and has a backward itself."""

    class Potential(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.energy = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))

        def forward(self, places: Tensor) -> Tensor:
            places = places.requires_grad_()
            return torch.autograd.grad(self.energy(places).sum(), places, create_graph=True)[0]

    module = Potential()
    with record(module) as graph:
        module(torch.randn(5, 3)).square().sum().backward()
    forward, backward = graph.forwards
    assert (forward.name, backward.name) == ("forward 1", "backward 1")
    # Within the forward: two layers' gradients of their inputs, which is the potential's own work.
    assert forward.costs["Potential"].own.matrix_flops == 2 * 5 * 3 * 8 + 2 * 5 * 8 * 1
    assert backward.costs["Potential"].total.matrix_flops > forward.costs["Potential"].total.matrix_flops
