"""Documents on disk: JSON, YAML as its version 1.2 has it, and references to the files beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from echoing import Sent, echo
from servers import serving

from steptool_env import ToolCall
from steptool_env.errors import DataError
from steptool_env.tools.http import HttpClient
from steptool_env.tools.openapi import OpenApiSource, read_document

pytest.importorskip("httpx2")

MAIN = """
openapi: 3.0.3
paths:
  /users/{id}:
    $ref: paths/user.yaml
  /orders:
    post:
      operationId: order
      requestBody: {$ref: "bodies.json#/Order"}
  /out: {$ref: ../outside.yaml}
  /link: {$ref: link.yaml}
  /net: {get: {parameters: [{$ref: "http://127.0.0.1:1/p.yaml"}]}}
  /file: {get: {parameters: [{$ref: "file:///etc/hostname"}]}}
  /root: {get: {parameters: [{$ref: "/etc/hostname"}]}}
  /gone: {get: {parameters: [{$ref: "gone.yaml"}]}}
  /torn: {get: {parameters: [{$ref: "torn.json"}]}}
components:
  schemas:
    Text: {type: string, enum: [on, no, off, yes, 2024-01-02, 012]}
"""
USER = """
parameters:
  - {$ref: "../shared/parameters.yaml#/Id"}
get:
  operationId: user
  parameters:
    - {name: kind, in: query, schema: {$ref: "../main.yaml#/components/schemas/Text"}}
"""


def test_files_beside_a_document_and_nothing_else_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "api"
    (folder / "paths").mkdir(parents=True)
    (folder / "shared").mkdir()
    (folder / "main.yaml").write_text(MAIN, encoding="utf-8")
    (folder / "paths" / "user.yaml").write_text(USER, encoding="utf-8")
    (folder / "shared" / "parameters.yaml").write_text("Id: {name: id, in: path, required: true, schema: {$ref: types.yaml#/Id}}", encoding="utf-8")
    (folder / "shared" / "types.yaml").write_text("Id: {type: integer}", encoding="utf-8")
    order = {
        "Order": {"required": True, "content": {"application/json": {"schema": {"$ref": "#/Schema"}}}},
        "Schema": {"type": "object", "properties": {"item": {"type": "string"}}},
    }
    (folder / "bodies.json").write_text(json.dumps(order), encoding="utf-8")
    (folder / "torn.json").write_text("{", encoding="utf-8")
    (tmp_path / "outside.yaml").write_text("get: {operationId: outside}", encoding="utf-8")
    (folder / "link.yaml").symlink_to(tmp_path / "outside.yaml")
    with serving(echo) as here:
        client = HttpClient([here])
        source = OpenApiSource(folder / "main.yaml", client, server=f"http://{here}")
        assert list(source.tools) == ["user", "order"]
        kinds = source.tools["user"].parameters["properties"]["kind"]["enum"]
        assert kinds == ["on", "no", "off", "yes", "2024-01-02", 12]
        assert {name: reason.partition(";")[0] for name, reason in source.left_out.items()} == {
            "path_out": "the reference '../outside.yaml' leads out of the document's folder",
            "path_link": "the reference 'link.yaml' leads out of the document's folder",
            "get_net": "the reference 'http://127.0.0.1:1/p.yaml' leads away",
            "get_file": "the reference 'file:///etc/hostname' leads away",
            "get_root": "the reference '/etc/hostname' leads away",
            "get_gone": source.left_out["get_gone"],
            "get_torn": source.left_out["get_torn"],
        }
        assert "'gone.yaml' beside the document cannot be read" in source.left_out["get_gone"]
        assert "'torn.json' beside the document cannot be read" in source.left_out["get_torn"]
        toolkit = source.toolkit()
        assert Sent(toolkit.execute(ToolCall("user", {"id": 7, "kind": "no"})).content).target == "/users/7?kind=no"
        assert Sent(toolkit.execute(ToolCall("order", {"item": "x"})).content).body == '{"item": "x"}'
        client.close()


def test_yaml_is_read_as_its_version_1_2_has_it(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    text = "a: [yes, on, true, False, ~, null, 0755, 1_000, 1.5, 1e3, .5, 12:30:45, 2024-01-02, '7', -3, +4, 0x1F, .nan]\n"
    text += "200: ok\ntrue: yes\nbase: &b {x: 1}\nmore: {<<: *b, y: 2}\n"
    path.write_text("\ufeff" + text, encoding="utf-8")
    assert read_document(path) == {
        "a": ["yes", "on", True, False, None, None, 755, "1_000", 1.5, 1000.0, 0.5, "12:30:45", "2024-01-02", "7", -3, 4, "0x1F", ".nan"],
        "200": "ok",
        "true": "yes",
        "base": {"x": 1},
        "more": {"x": 1, "y": 2},
    }


@pytest.mark.parametrize(
    ("text", "line"), [("{", 1), ('{"a": 1,\n"b": }', 2), ("a: 1\nb: [", 2), ("- 1", 1), ("a: !!python/object:os.system x", 1), ('{"a":' * 5000, 1)]
)
def test_files_that_are_no_documents(tmp_path: Path, text: str, line: int) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=rf"a\.yaml, line [{line}-9]"):
        read_document(path)
