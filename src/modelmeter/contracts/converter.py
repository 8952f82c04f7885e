"""The contract's one converter: strict both ways, with the place of whatever is wrong.

``converter.structure(data, AnalyticModelReport)`` refuses unknown keys, wrong types, numbers that are negative
or not finite, names that do not exist, ids that stand twice or name nothing, and modules that are no tree.
``converter.unstructure(report, unstructure_as=DeepSeekOCRAnalyticReportSummary)`` gives the summary, and with
``DeepSeekOCRAnalyticModel`` the model view.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import cattrs

from modelmeter.contracts.checks import Problem, model_problems, report_problems
from modelmeter.contracts.report import AnalyticModelReport
from modelmeter.contracts.requests import DeepSeekOCRAnalyticModel, DeepSeekOCRAnalyticReportSummary
from modelmeter.contracts.summary import model_of, summary_of
from modelmeter.errors import DocumentError
from modelmeter.schema.codec import explain, make_strict, sparse_class, strict_class
from modelmeter.schema.constraints import misplaced

T = TypeVar("T")


class ContractConverter(cattrs.Converter):
    """A converter whose refusal is a DocumentError that names the field, with cattrs's own error as its cause."""

    def structure(self, obj: Any, cl: type[T]) -> T:
        """An object of plain data. Raises DocumentError."""
        try:
            return super().structure(obj, cl)
        except (cattrs.BaseValidationError, ValueError) as error:
            name = getattr(cl, "__name__", str(cl))
            raise DocumentError(
                f"this is no {name}: {explain(error)}", remedy="mend it, or give a document that ModelMeter wrote"
            ) from error


def _plain_float(value: Any) -> Any:
    """Floats that are whole stay floats, so that what is read back is written with the same bytes."""
    return float(value) if type(value) is int else value


def _make() -> ContractConverter:
    made = make_strict(ContractConverter(forbid_extra_keys=True))
    made.register_unstructure_hook(float, _plain_float)
    _check(made, AnalyticModelReport, report_problems)
    _check(made, DeepSeekOCRAnalyticModel, model_problems)
    _view(made, DeepSeekOCRAnalyticReportSummary, summary_of)
    _view(made, DeepSeekOCRAnalyticModel, model_of)
    return made


def _check(made: ContractConverter, cls: type, problems: Callable[[Any], Iterator[Problem]]) -> None:
    @made.register_structure_hook_factory(lambda kind: kind is cls)
    def _checked(of: Any) -> Any:
        plain = strict_class(of, made)

        def structure(value: Any, _: Any) -> Any:
            found = plain(value, of)
            wrong = list(problems(found))
            if wrong:
                raise misplaced(wrong, cls)
            return found

        return structure


def _view(made: ContractConverter, cls: type, view: Callable[[AnalyticModelReport], Any]) -> None:
    @made.register_unstructure_hook_factory(lambda kind: kind is cls)
    def _viewed(of: Any) -> Any:
        plain = sparse_class(of, made)

        def unstructure(value: Any) -> Any:
            return plain(view(value) if isinstance(value, AnalyticModelReport) else value)

        return unstructure


converter = _make()
