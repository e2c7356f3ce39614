"""Tools from an OpenAPI 3 document: each operation is a tool, its schema derived, its calls sent over HTTP."""

from steptool_env.tools.openapi.document import read_document
from steptool_env.tools.openapi.source import OpenApiSource

__all__ = ["OpenApiSource", "read_document"]
