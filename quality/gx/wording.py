"""How reclake's own expectations read in Data Docs: a sentence, where Great Expectations would print the arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from great_expectations.expectations.row_conditions import PassThroughCondition, deserialize_row_condition
from great_expectations.render import LegacyRendererType, RenderedStringTemplateContent
from great_expectations.render.renderer.renderer import renderer
from great_expectations.render.util import num_to_str


class Worded:
    """`said` is what must hold of the column, with `$name` for arguments."""

    said: ClassVar[str]

    @classmethod
    def sentence(cls, given: Mapping[str, Any]) -> str:
        return cls.said

    @classmethod
    @renderer(renderer_type=LegacyRendererType.PRESCRIPTIVE)
    def _prescriptive_renderer(
        cls, configuration: Any = None, result: Any = None, runtime_configuration: Any = None, **_: Any
    ) -> list[RenderedStringTemplateContent]:
        given = dict((configuration or result.expectation_config).kwargs)
        options = runtime_configuration or {}
        named = options.get("include_column_name") is not False
        text = ("$column " if named else "") + cls.sentence(given)
        mostly, condition = given.get("mostly"), given.get("row_condition")
        if isinstance(mostly, int | float) and mostly < 1:
            given["mostly_pct"] = num_to_str(mostly * 100, no_scientific=True)
            text += ", at least $mostly_pct % of the time"
        if condition is not None:
            given["condition"] = _said(condition)
            text = f"If $condition, then {text}"
        shown = {name: _listed(value) for name, value in given.items()}
        template = {"template": f"{text}.", "params": shown, "styling": options.get("styling")}
        return [RenderedStringTemplateContent(content_block_type="string_template", string_template=template)]


def _said(condition: Any) -> str:
    found = deserialize_row_condition(condition)
    return str(found.pass_through_filter if isinstance(found, PassThroughCondition) else found)


def _listed(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, list) else value
