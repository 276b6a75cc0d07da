"""Data Docs that load nothing: Great Expectations' own content, on pages without a script, a font or a remote picture.

Its default pages ask seven other hosts for fifteen scripts and style sheets, and one of them for a logo whose address
carries the context's id. These ask nobody, and tell the browser to let nothing through should a value try to.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from great_expectations.render.renderer.site_builder import SiteBuilder
from great_expectations.render.view.view import DefaultJinjaIndexPageView, DefaultJinjaPageView
from jinja2 import BaseLoader, ChoiceLoader, DictLoader

from .docs_pages import TEMPLATES

_SECTIONS = ("expectations", "validations", "profiling")


# Its own texts have these: line breaks, and spans to be styled.
_THEIR_TAGS = re.compile(r'&lt;(br|/span|span class="[\w -]*")&gt;')


class OfflinePageView(DefaultJinjaPageView):
    """A page of a suite or a validation result."""

    def __init__(self, **directories: Any) -> None:
        super().__init__(**directories)
        self.env.loader = _before(self.env.loader)

    def render_string_template(self, template: Any) -> Any:
        """As theirs, which escapes the parameters of a text and not the text itself: columns' names stand in those, and
        what an exception said.
        """
        if isinstance(template, dict) and "<" in str(template.get("template", "")):
            escaped = str(template["template"]).replace("<", "&lt;").replace(">", "&gt;")
            template = template | {"template": _THEIR_TAGS.sub(r"<\1>", escaped)}
        return super().render_string_template(template)  # type: ignore[no-untyped-call]


class OfflineIndexPageView(DefaultJinjaIndexPageView):
    """The index."""

    def __init__(self, **directories: Any) -> None:
        super().__init__(**directories)
        self.env.loader = _before(self.env.loader)


class OfflineSiteBuilder(SiteBuilder):
    """A site builder for `data_docs_sites`, with the views above for every section that names none."""

    def __init__(
        self,
        data_context: Any,
        store_backend: Any,
        site_name: str | None = None,
        site_index_builder: dict[str, Any] | None = None,
        site_section_builders: dict[str, Any] | None = None,
        runtime_environment: dict[str, Any] | None = None,
    ) -> None:
        sections: dict[str, Any] = {name: {} for name in _SECTIONS} | dict(site_section_builders or {})
        shown = {
            name: {"view": _view("OfflinePageView")} | config if isinstance(config, dict) else config
            for name, config in sections.items()
        }
        index = {"class_name": "DefaultSiteIndexBuilder", "view": _view("OfflineIndexPageView")}
        super().__init__(
            data_context,
            store_backend,
            site_index_builder=index | dict(site_index_builder or {}),
            site_section_builders=shown,
            site_name=site_name,
            show_how_to_buttons=False,
            runtime_environment=runtime_environment,
        )


def offline_docs(folder: str | Path) -> dict[str, Any]:
    """The configuration of a site in a folder: `context.add_data_docs_site("offline", offline_docs("docs/"))`."""
    return {
        "class_name": "OfflineSiteBuilder",
        "module_name": __name__,
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(Path(folder).absolute())},
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
    }


def _before(theirs: BaseLoader | None) -> BaseLoader:
    """Templates of ours where there are any, else Great Expectations'."""
    assert theirs is not None
    return ChoiceLoader([DictLoader(TEMPLATES), theirs])


def _view(name: str) -> dict[str, str]:
    return {"module_name": __name__, "class_name": name}
