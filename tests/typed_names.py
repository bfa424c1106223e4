"""The names of the hosts in `typings`, which the type checker reads in place of the hosts."""

import ast
from pathlib import Path

TYPINGS = Path(__file__).resolve().parent.parent / "typings"


def stub_modules() -> dict[str, list[str]]:
    """The names that each stub defines, by module; a name behind `__getattr__` is any name."""
    found = {}
    for path in sorted(TYPINGS.rglob("*.pyi")):
        parts = path.relative_to(TYPINGS).with_suffix("").parts
        names = [name for node in ast.parse(path.read_text("utf-8")).body for name in _defined(node)]
        if names:
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = names
    return found


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return [node.name] if node.name not in ("__getattr__", "T") else []
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [node.target.id]
    return []


def missing_names_script(modules: dict[str, list[str]]) -> str:
    """A script for the host's Python that prints what it lacks, one `module.name` a line."""
    return (
        "import importlib\n"
        "def find(module):\n"
        "    try:\n"
        "        return importlib.import_module(module)\n"
        "    except ModuleNotFoundError:  # it may be a name of the package around it\n"
        "        package, _, name = module.rpartition('.')\n"
        "        return getattr(importlib.import_module(package), name, None)\n"
        f"for module, names in {modules!r}.items():\n"
        "    for name in names:\n"
        "        if not hasattr(find(module), name):\n"
        "            print(f'missing: {module}.{name}')\n"
    )
