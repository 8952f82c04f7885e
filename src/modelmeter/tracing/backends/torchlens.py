"""TorchLens: its own record of every module pass, turned into the document; its drawings on request.

TorchLens wraps torch's functions to see every tensor. Module passes come from its event stream, which
unlike its finished graph also holds those that nothing of the output depends on.
"""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import Any

from torch import nn

from modelmeter.errors import MissingDependencyError, TracingError, require_extra
from modelmeter.families.protocol import ForwardCall
from modelmeter.schema.callgraph import CallGraph
from modelmeter.tracing.backends.base import Job, check_device, run_forwards
from modelmeter.tracing.backends.calls import CallLog
from modelmeter.tracing.backends.report import call_graph
from modelmeter.tracing.backends.torchlens_passes import log_passes
from modelmeter.tracing.modules import ModuleIds
from modelmeter.tracing.signatures import SignatureReader, argument_names, read_output

DRAWINGS = ("rolled", "unrolled")


class TorchLensBackend:
    """Counts, edges, shapes and events; no costs, cache sizes or types of arguments that are no tensors."""

    name = "torchlens"

    def __init__(self, *, run_on: str | None = None, drawings: bool = False) -> None:
        if importlib.util.find_spec("torchlens") is None:
            raise require_extra("torchlens", "torchlens")
        if drawings and shutil.which("dot") is None:
            raise MissingDependencyError(
                "TorchLens draws with the program 'dot', which is not there", remedy="install graphviz"
            )
        self.run_on = check_device(run_on) if run_on is not None else ""
        self._drawings = drawings
        self.files: dict[str, str] = {}

    def run(self, job: Job) -> CallGraph:
        """Run the job's forwards under TorchLens."""
        import torchlens
        from torchlens import _state
        from torchlens.backends.torch.wrappers import wrapped

        log = CallLog(job.stage_of, job.max_events)
        reader = SignatureReader(argument_names(job.module.forward))

        def run(call: ForwardCall) -> Any:
            returned: list[Any] = []

            def keep(output: Any) -> Any:
                returned.append(output)
                return output

            capture = torchlens.options.CaptureOptions(
                layers_to_save="none",
                inference_only=True,
                random_seed=0,
                output_transform=keep,
            )
            log.begin_forward(call.name)
            # What goes into the root and comes out of it is in our hands; the rest is TorchLens' to say.
            log.enter(job.ids.root, reader.read(call.args, call.kwargs)[0])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    with wrapped():  # its own unwrap_when_done leaves torch wrapped after an exception
                        trace = torchlens.trace(job.module, call.args, dict(call.kwargs), capture=capture)
                except Exception as error:
                    raise _refused(error, job.ids) from error
                log_passes(trace.event_stream, log, job.ids)
                if self._drawings:
                    self._draw(trace, call.name)
            log.exit(job.ids.root, read_output(returned[-1])[0])
            return returned[-1]

        events = run_forwards(job, log, self.run_on or None, run, pause=_state.pause_logging)
        return call_graph(job, log, backend=self.name, runtime_events=events, tool={"torchlens": torchlens.__version__})

    def _draw(self, trace: Any, forward: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for kind in DRAWINGS:
                name = f"torchlens-{forward.replace(' ', '-')}-{kind}"
                target = str(Path(folder) / name)
                trace.draw(vis_mode=kind, vis_outpath=target, vis_save_only=True, vis_fileformat="svg")
                self.files[f"{name}.svg"] = Path(f"{target}.svg").read_text(encoding="utf-8")


def _refused(error: Exception, ids: ModuleIds) -> TracingError:
    """Where the model raised, read off the traceback; or that TorchLens would not run it."""
    text = " ".join(str(error).split())[:200] or "no message"
    what = f"{type(error).__name__}: {text}"
    inside = None
    own = False
    for frame, _ in traceback.walk_tb(error.__traceback__):
        module = frame.f_locals.get("self")
        if isinstance(module, nn.Module) and frame.f_code.co_name == "forward" and id(module) in ids.by_identity:
            inside = ids.by_identity[id(module)]
        own = "torchlens" in Path(frame.f_code.co_filename).parts
    if inside is None or (own and type(error).__module__.startswith("torchlens")):
        return TracingError(f"TorchLens does not run this model: {what}", remedy="use another --backend")
    return TracingError(
        f"module {inside} ({type(ids.modules[inside]).__name__}) raised {what}",
        remedy="check the module and its inputs; the original error is attached",
    )
