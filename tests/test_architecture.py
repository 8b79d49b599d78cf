"""Who may import whom. The rules are the data at the top; the code below only reads import lines."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# A folder or file, what it may not import, and what of that it may.
FORBIDDEN = {
    "model_store/vae": (("model_store", "training", "service"), ("model_store.vae",)),
    "model_store": (("training", "service"), ()),
    "training": (("service",), ()),
    "service": (("training",), ()),
    "service/inference": (("service",), ("service.inference", "service.errors", "service.timings", "service.aside")),
    "service/inference/devices.py": (
        ("service",),
        ("service.errors", "service.inference.device_thread", "service.inference.runtimes"),
    ),
    "service/inference/device_thread.py": (("service",), ()),
    "service/inference/runtimes.py": (("service",), ()),
    "service/inference/rows.py": (("service",), ()),
    "service/inference/operations.py": (("service",), ("service.inference.rows",)),
    "service/inference/graph.py": (("service",), ()),
    "service/inference/cuda_operations.py": (("service",), ("service.inference.operations", "service.inference.rows")),
    "service/inference/onnx_operations.py": (
        ("service",),
        ("service.inference.graph", "service.inference.operations", "service.inference.rows"),
    ),
    "service/inference/sizes.py": (("service",), ("service.inference.rows",)),
    "service/inference/warm_up_cache.py": (("service",), ("service.inference.sizes",)),
    "service/inference/batcher.py": (("service",), ("service.errors",)),
    "service/inference/runner.py": (
        ("service",),
        (
            "service.errors",
            "service.inference.rows",
            "service.inference.sizes",
            "service.inference.devices",
            "service.inference.capabilities",
            "service.inference.operations",
            "service.inference.runtimes",
            "service.inference.graph",
            "service.inference.onnx_operations",
            "service.inference.cuda_operations",
        ),
    ),
    "service/inference/capabilities.py": (("service",), ("service.errors", "service.inference.operations")),
    "service/inference/paths.py": (("service",), ()),
    "service/errors.py": (("service",), ()),
    "service/keys.py": (("service",), ()),
    "service/png.py": (("service",), ()),
    "service/body_memory.py": (("service",), ("service.errors",)),
    "service/settings.py": (("service",), ()),
    "service/timings.py": (("service",), ()),
}

# A file, and the libraries that it does not know.
IGNORANT = {
    "service/inference/batcher.py": ("torch", "fastapi", "starlette"),
    "service/inference/engine.py": ("fastapi", "starlette", "PIL"),
    "service/inference/scoring.py": ("fastapi", "starlette", "PIL"),
    "service/inference/exploring.py": ("fastapi", "starlette", "PIL"),
    "service/inference/runner.py": ("fastapi", "starlette", "PIL"),
    "service/inference/loader.py": ("fastapi", "starlette", "PIL"),
    "service/inference/registry.py": ("torch", "fastapi", "starlette", "PIL"),
    "service/routes/operations.py": ("torch", "PIL", "numpy"),
}

# A library, and the only files that know it.
ONLY_KNOWN_TO = {
    "PIL": ("model_store/pictures.py", "service/images.py", "training/figures.py", "training/sources/folder.py"),
    "safetensors": ("model_store/weights.py", "service/tensors.py"),
    "prometheus_client": ("service/metrics.py", "service/routes/health.py"),
    "onnx": ("service/inference/graph.py", "service/inference/onnx_operations.py"),
    "onnxruntime": ("service/inference/onnx_operations.py",),
    "matplotlib": ("training/figures.py",),
    "os.environ": (
        "model_store/store.py",  # LATENTD_STORE, the default of every command
        "service/__main__.py",
        "service/inference/devices.py",  # reads which kernels libraries were told to use, for the warm-up's cache
        "service/inference/onnx_operations.py",  # tells ONNX Runtime to keep its use to itself
        "service/metrics.py",  # tells prometheus_client, which knows no other way, where processes share their counts
        "service/probe.py",
        "service/listening/workers.py",  # tells MKL, which is told in no other way
        "training/__main__.py",
    ),
}

FILES = sorted(path for package in ("model_store", "training", "service") for path in (ROOT / package).rglob("*.py"))


def imported_by(path: Path) -> set[str]:
    """Every module that a file imports, by its absolute name, and the members it takes from them."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parent = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*parent, *([node.module] if node.module else [])))
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names.add(f"{node.value.id}.{node.attr}")
    return names


def is_within(name: str, modules: tuple[str, ...]) -> bool:
    """Whether a module, or a member of it, belongs to one of these."""
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def offences(path: Path, modules: tuple[str, ...], allowed: tuple[str, ...] = ()) -> set[str]:
    """What a file imports of these modules, but for what is allowed."""
    parents = {module.rpartition(".")[0] for module in allowed}
    found = {name for name in imported_by(path) if is_within(name, modules)}
    return {name for name in found if not is_within(name, allowed) and name not in parents}


@pytest.mark.parametrize("place", FORBIDDEN)
def test_imports_point_down(place: str) -> None:
    """Routes to engine to runner to devices, both commands to the store, the store to its networks."""
    path = ROOT / place
    files = [path] if path.is_file() else sorted(path.rglob("*.py"))
    found = {file.name: offences(file, *FORBIDDEN[place]) for file in files}

    assert files
    assert {name: modules for name, modules in found.items() if modules} == {}


@pytest.mark.parametrize("file", IGNORANT)
def test_file_does_not_know_what_its_docstring_disclaims(file: str) -> None:
    """The batcher knows no torch, the engine knows no HTTP, the routes know no tensors."""
    assert offences(ROOT / file, IGNORANT[file]) == set()


@pytest.mark.parametrize("library", ONLY_KNOWN_TO)
def test_library_is_known_to_few_files(library: str) -> None:
    """A foreign library is met in one place of each package, where its errors are translated."""
    knowing = {str(path.relative_to(ROOT)) for path in FILES if offences(path, (library,))}

    assert knowing == set(ONLY_KNOWN_TO[library])


def test_app_is_imported_by_nobody_but_main() -> None:
    """The composition root is on top."""
    knowing = {str(path.relative_to(ROOT)) for path in FILES if offences(path, ("service.app",))}

    assert knowing == {"service/__main__.py"}


def test_relative_imports_stay_inside_their_package() -> None:
    """A leading dot inside a package, none across: the border shows in the import line."""
    own = {path: path.relative_to(ROOT).parts[0] for path in FILES}
    absolute = {
        f"{path.relative_to(ROOT)} imports {node.module}"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == own[path]
    }

    assert absolute == set()
