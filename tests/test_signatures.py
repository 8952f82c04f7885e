"""Details of signatures on request."""

from __future__ import annotations

import torch
from torch import nn

from modelmeter import TraceOptions, trace


def test_device_and_requires_grad_are_written_on_request() -> None:
    module = nn.Sequential(nn.Linear(4, 4))
    plain = trace(module, torch.zeros(1, 4)).input_metadata["0"][0].tensors[0]
    assert (plain.device, plain.requires_grad) == (None, None)
    assert '"device"' not in trace(module, torch.zeros(1, 4)).to_json()

    wanted = torch.zeros(1, 4, requires_grad=True)
    graph = trace(module, wanted, options=TraceOptions(tensor_details=True))
    given = graph.input_metadata["0"][0].tensors[0]
    assert (given.device, given.requires_grad) == ("cpu", True)
    made = graph.output_metadata["0"][0].tensors[0]
    assert (made.device, made.requires_grad) == ("cpu", False)
