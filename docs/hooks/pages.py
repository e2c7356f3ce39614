"""Pages of the site that are made while it is built: results, reference, and the texts that lie beside ``docs/``.

- Every tutorial becomes a page with what its cells print and draw, and a notebook to download: see ``notebooks.py``.
- Every table and picture of ``benchmarks/results`` becomes a page or file below ``results/``.
- Every name that a package offers at its top stands on a page below ``reference/``, sorted by the folder that defines it. One without a
  docstring is a warning, which ends a strict build.
- Links that lead out of ``docs/`` on a code host lead to these pages here; one to a source file becomes its name.
"""

from __future__ import annotations

import ast
import logging
import posixpath
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Navigation
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parent))

import notebooks

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
BESIDE = {"README.md": "overview.md", "CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md", "CHANGELOG.md": "changelog.md"}
"""Documents at the top of the project -> the pages that they are here."""
PACKAGES = {"steptool_env": ROOT / "steptool_env", "steptool_agents": ROOT / "agents"}
TITLES = {
    "steptool_env": {"env": "The environment", "types": "Types", "tasks": "Suites", "tools": "Tools", "rewards": "Rewards", "formats": "Call formats"},
    "steptool_agents": {"trajectory": "Trajectories", "rollouts": "Playing and measuring", "runs": "Runs", "config": "Settings", "algorithms": "Algorithms"},
}
"""Folders or files of a package whose page has another title than their name."""

SOURCES = Path(tempfile.mkdtemp(prefix="steptool-docs-"))
"""Both packages under the names by which they are imported: that of ``agents/`` is another one."""

log = logging.getLogger("mkdocs.hooks.pages")


# ---------------------------------------------------------------- files and navigation
@event_priority(100)  # before mkdocstrings reads its settings
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Show mkdocstrings where the sources are; nothing is imported."""
    for package, folder in PACKAGES.items():
        if not (SOURCES / package).exists():
            (SOURCES / package).symlink_to(folder, target_is_directory=True)
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [str(SOURCES)]
    return config


def on_shutdown() -> None:
    """Clear away."""
    shutil.rmtree(SOURCES, ignore_errors=True)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here, and their places in the navigation."""
    for name, place in BESIDE.items():
        files.append(_page(config, place, (ROOT / name).read_text(encoding="utf-8")))
    for path in sorted(path for path in RESULTS.rglob("*") if path.is_file()):
        place = path.relative_to(RESULTS.parent).as_posix()
        if path.suffix == ".md":
            files.append(_page(config, place, path.read_text(encoding="utf-8")))
        else:
            files.append(File.generated(config, place, abs_src_path=str(path)))
    tables = [(_title(path.read_text(encoding="utf-8")), f"results/{path.name}") for path in sorted(RESULTS.glob("*.md"))]
    files.append(_page(config, "results/index.md", _contents("Results", _ABOUT_RESULTS, ((title, place.removeprefix("results/")) for title, place in tables))))
    tutorials = list(_tutorials(files, config))
    pages = list(_reference())
    for _, place, text in pages:
        files.append(_page(config, place, text))
    names = [(f"`{place.split('/')[1]}`: {title}", place.removeprefix("reference/")) for title, place, _ in pages]
    files.append(_page(config, "reference/index.md", _contents("Reference", _ABOUT_REFERENCE, names)))
    by_package = {
        package: [{title: place} for title, place, _ in pages if place.startswith(f"reference/{package}/")] for package in PACKAGES
    }
    assert config.nav is not None
    config.nav = [_filled(entry, tables, by_package, tutorials) for entry in config.nav]
    return files


def _tutorials(files: Files, config: MkDocsConfig) -> Iterator[tuple[str, str]]:
    """Add the tutorials and yield their titles and places."""
    for tutorial in notebooks.executed_together(notebooks.names()):
        text, pictures = tutorial.page()
        files.append(_page(config, f"tutorials/{tutorial.name}.md", text))
        files.append(File.generated(config, f"tutorials/{tutorial.name}.ipynb", content=tutorial.download()))
        for picture, data in pictures.items():
            files.append(File.generated(config, f"tutorials/{picture}", content=data))
        yield tutorial.title, f"tutorials/{tutorial.name}.md"


def _filled(entry: Any, tables: Iterable[tuple[str, str]], reference: dict[str, list[dict[str, str]]], tutorials: Iterable[tuple[str, str]]) -> Any:
    if entry == {"Tutorials": "tutorials/"}:
        return {"Tutorials": ["tutorials/index.md", *({title: place} for title, place in tutorials)]}
    if entry == {"Results": "results/"}:
        return {"Results": ["results/index.md", *({title: place} for title, place in tables)]}
    if entry == {"Reference": "reference/"}:
        return {"Reference": ["reference/index.md", *({package: pages} for package, pages in reference.items())]}
    return entry


def on_nav(nav: Navigation, config: MkDocsConfig, files: Files) -> Navigation:
    """Say which pages of ``docs/`` are in no menu."""
    listed = {page.file.src_uri for page in nav.pages}
    for file in files.documentation_pages():
        if file.src_uri not in listed:
            log.warning("%s is not in the navigation of mkdocs.yml", file.src_uri)
    return nav


def _page(config: MkDocsConfig, place: str, text: str) -> File:
    return File.generated(config, place, content=text)


def _title(text: str) -> str:
    found = re.search(r"^# (.+)$", text, re.MULTILINE)
    return found[1].replace("`", "") if found else "?"


_ABOUT_RESULTS = "Every figure in the guide comes from one of these pages, and each page says which command made it."
_ABOUT_REFERENCE = (
    "What `import steptool_env` and `import steptool_agents` offer. The pages are made from the docstrings: `help(steptool_env.StepToolEnv)` says the same."
)


def _contents(title: str, about: str, entries: Iterable[tuple[str, str]]) -> str:
    return "\n".join([f"# {title}", "", about, "", *(f"- [{name}]({place})" for name, place in entries), ""])


# ---------------------------------------------------------------- reference
def _reference() -> Iterator[tuple[str, str, str]]:
    """Yield title, place and text of every page of the reference."""
    for package, folder in PACKAGES.items():
        loaded = griffe.load(package, search_paths=[str(SOURCES)])
        groups: dict[str, list[str]] = {}
        for name, module in sorted(_offered(package, folder)):
            groups.setdefault(module.split(".")[1] if "." in module else module, []).append(f"{module}.{name}" if name else module)
        for group, names in sorted(groups.items()):
            title = TITLES[package].get(group, group.replace("_", " ").capitalize())
            for name in names:
                _check_documented(loaded, name)
            yield title, f"reference/{package}/{group}.md", "\n".join([f"# {title}", "", *(f"::: {name}\n" for name in names)])


def _offered(package: str, folder: Path) -> Iterator[tuple[str, str]]:
    """Yield each name that a package offers, with the module that it is imported from; of a module that is offered itself, the name is empty."""
    for node in ast.walk(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module != "__future__":
            module = f"{package}.{node.module}" if node.level and node.module else (node.module or package)
            for alias in node.names:
                if module == package:
                    yield "", f"{package}.{alias.name}"
                elif module.startswith(package) and alias.name[0] != "_":
                    yield alias.name, module


def _check_documented(package: Any, name: str) -> None:
    found = package
    for part in name.split(".")[1:]:
        found = found[part]
        if found.is_alias:
            found = found.final_target
    if not found.has_docstring:
        log.warning("%s has no docstring", name)
    for member in found.members.values() if found.is_class else ():
        own = member.is_function and not member.is_alias and not member.name.startswith("_")
        if own and not member.has_docstring and not any(member.name in base.members for base in found.mro()):
            log.warning("%s.%s has no docstring", name, member.name)


# ---------------------------------------------------------------- links
def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links out of ``docs/`` to the pages of the site."""
    source = page.file.src_uri
    written = _where(source)

    def led(found: re.Match[str]) -> str:
        text, target, anchor = found[1], found[2], found[3] or ""
        if re.match(r"\w+:", target):
            return found[0]
        place = posixpath.normpath(posixpath.join(posixpath.dirname(written), target))
        there = _place(place)
        if there is None:
            return f"`{place}`" if found[0][0] != "!" else found[0]
        relative = posixpath.relpath(there, posixpath.dirname(source) or ".")
        return f"{text}({relative}{anchor})"

    return re.sub(r"(!?\[[^\]\n]*(?:\][^\]\n(]*\[[^\]\n]*)*\])\(([^)#\s]+)(#[^)\s]*)?\)", led, markdown)


def _where(source: str) -> str:
    """Return where a page of the site lies in the project."""
    beside = next((name for name, place in BESIDE.items() if place == source), None)
    if beside is not None:
        return beside
    return f"benchmarks/{source}" if source.startswith("results/") else f"docs/{source}"


def _place(path: str) -> str | None:
    """Return where a file of the project lies on the site; None: nowhere."""
    if path in BESIDE:
        return BESIDE[path]
    if path.startswith("docs/tutorials/") and path.endswith(".py"):
        return path.removeprefix("docs/").removesuffix(".py") + ".md"
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return path.removeprefix("benchmarks/") if path.startswith("benchmarks/results/") else None
