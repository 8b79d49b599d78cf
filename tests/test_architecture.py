"""The imports that are allowed between packages and rooms.

The rules are the data at the top; the code below only reads import lines.
Rules name folders, so that a new file needs no new row.
"""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from service.protocols.v1.routes import PROCESS_MODULES

ROOT = Path(__file__).parent.parent

# A package or folder, and the packages of this project that it may import beside itself.
PACKAGES = {
    "model_store/vae": (),
    "model_store/taesd": ("model_store.vae",),
    "model_store/diffusers": ("model_store.vae", "model_store.errors"),
    "model_store": ("model_store",),
    "training": ("model_store",),
    "service": ("model_store",),
}

# A room of the service, and the other rooms that it may import. The rooms stand in the order in which a request
# travels; behind them come the leaves. An import that points up is not in this table.
ROOMS = {
    "__main__": ("app", "settings", "listening", "telemetry"),
    "app": (
        "protocols",
        "web",
        "http",
        "operations",
        "inference",
        "compute",
        "telemetry",
        "settings",
        "memory",
        "offload",
        "errors",
    ),
    "listening": ("http", "telemetry", "round_robin", "errors"),
    "protocols": ("http", "operations", "formats", "offload", "errors"),
    "web": ("http", "inference"),
    "http": ("inference", "formats", "offload", "telemetry", "memory", "round_robin", "errors"),
    "operations": ("inference", "compute", "formats", "telemetry", "offload", "memory", "errors"),
    "inference": ("compute", "errors"),
    "compute": ("errors",),
    "formats": ("errors",),
    "telemetry": (),
    "settings": (),
    "offload": ("round_robin", "errors"),
    "memory": ("errors",),
    "round_robin": (),
    "errors": (),
    "probe": (),
}

# A folder or file, and the libraries that it does not know.
IGNORANT = {
    "model_store/store.py": ("fcntl", "shutil", "tempfile", "model_store.importing"),
    "model_store/diffusers/config.py": ("torch", "diffusers"),
    "model_store/importing/command.py": ("safetensors", "diffusers", "huggingface_hub", "PIL"),
    "model_store/pictures.py": ("torch",),
    "model_store/taesd": ("numpy", "PIL", "safetensors"),
    "model_store/waiting_threads.py": ("torch",),
    "model_store/weights.py": ("model_store.importing",),
    "training": ("model_store.importing", "diffusers", "huggingface_hub"),
    "service": ("model_store.importing", "diffusers", "huggingface_hub"),
    "service/http": ("torch", "numpy", "PIL"),
    "service/operations": ("fastapi", "starlette", "PIL"),
    "service/inference": ("fastapi", "starlette", "PIL"),
    "service/inference/batcher.py": ("torch",),
    "service/inference/registry.py": ("torch",),
    "service/inference/work_queue.py": ("torch",),
    "service/compute": ("fastapi", "starlette", "PIL"),
    "service/formats": ("fastapi", "starlette"),
    "service/formats/pictures.py": ("torch",),
    "service/formats/picture_structure": ("torch", "numpy", "PIL"),
    "service/formats/target.py": ("torch", "PIL"),
    "service/offload": ("torch", "PIL", "fastapi", "starlette"),
}

# A library, and the only files that know it: there its errors are translated.
ONLY_KNOWN_TO = {
    "PIL": (
        "model_store/importing/trial_pictures.py",
        "model_store/pictures.py",
        "service/formats/pictures.py",
        "training/evaluate/figures.py",
        "training/sources/folder.py",
    ),
    "safetensors": ("model_store/weights.py", "service/formats/tensors.py"),
    "prometheus_client": (
        "service/http/health.py",
        "service/telemetry/metrics.py",
        "service/telemetry/shared_values.py",
    ),
    "diffusers": (
        "model_store/diffusers/in_place.py",
        "model_store/diffusers/model.py",
    ),
    "huggingface_hub": ("model_store/importing/hub.py",),
    "onnx": ("service/compute/onnx_graph.py", "service/compute/onnx_runtime.py"),
    "onnxruntime": ("service/compute/onnx_runtime.py",),
    "matplotlib": ("training/curves.py",),
    # it can run code: only between the service and its own processes, and where it is refused in files of strangers
    "pickle": ("model_store/importing/taesd_files.py", "service/offload/messages.py"),
    "torch.load": ("model_store/importing/taesd_files.py", "training/checkpoint.py"),
    "os.environ": (
        "model_store/store.py",
        "model_store/waiting_threads.py",  # sets how long torch's threads wait awake
        "service/__main__.py",
        "service/compute/device.py",  # names the variables by which libraries choose their kernels
        "service/compute/onnx_runtime.py",  # tells ONNX Runtime to send no telemetry
        "service/offload/forked_process.py",  # gives its processes an environment without keys
        "service/listening/workers.py",  # tells MKL not to keep memory of its own, which a fork would break
        "service/probe.py",
        "service/telemetry/metrics.py",  # keeps prometheus_client from sharing counts in files
        "training/__main__.py",
        "training/fit_prior.py",
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
            names |= {f"{module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names.add(f"{node.value.id}.{node.attr}")
    return names


def is_within(name: str, module: str) -> bool:
    """Whether a name is a module's own, or that of something in it."""
    return name == module or name.startswith(f"{module}.")


def files_of(place: str) -> list[Path]:
    """The file, or all files of the folder."""
    path = ROOT / place
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


def knowing(library: str, files: list[Path] = FILES) -> set[str]:
    """The files that import a library, or use a member of it."""
    return {
        str(path.relative_to(ROOT)) for path in files if any(is_within(name, library) for name in imported_by(path))
    }


def room_of(module: str) -> str:
    """The folder or file directly below `service` to which a module belongs."""
    return module.split(".")[1]


def rooms_imported_by(room: str) -> set[str]:
    """The other rooms that the files of a room import."""
    place = f"service/{room}" if (ROOT / "service" / room).is_dir() else f"service/{room}.py"
    names = {name for file in files_of(place) for name in imported_by(file) if name.startswith("service.")}
    return {room_of(name) for name in names} - {room}


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_lies_below(package: str) -> None:
    """Both commands know the store, the store knows its networks, and neither command knows the other."""
    allowed = (package.replace("/", "."), *PACKAGES[package])
    imported = {name for file in files_of(package) for name in imported_by(file)}
    ours = {name for name in imported if any(is_within(name, own) for own in ("model_store", "training", "service"))}

    assert {name for name in ours if not any(is_within(name, module) for module in allowed)} == set()


def test_every_room_of_the_service_has_a_row() -> None:
    """Each room has a row, and each row has a room."""
    service = ROOT / "service"
    rooms = {path.parent.name for path in service.glob("*/__init__.py")}
    files = {path.stem for path in service.glob("*.py")} - {"__init__"}

    assert rooms | files == ROOMS.keys()


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_the_rooms_of_their_row(room: str) -> None:
    """No file imports a room that is missing in the row of its own room."""
    assert rooms_imported_by(room) - set(ROOMS[room]) == set()


def test_no_rooms_import_each_other_in_a_circle() -> None:
    """`TopologicalSorter` raises CycleError where the allowed imports lead back to where they began."""
    order = list(TopologicalSorter(ROOMS).static_order())

    assert order[-1] == "__main__"


def test_one_protocol_does_not_import_another() -> None:
    """Code that two protocols share lies in a room below both."""
    protocols = [path.parent.name for path in (ROOT / "service" / "protocols").glob("*/__init__.py")]
    others = {
        (protocol, name)
        for protocol in protocols
        for file in files_of(f"service/protocols/{protocol}")
        for name in imported_by(file)
        if is_within(name, "service.protocols") and not is_within(name, f"service.protocols.{protocol}")
    }

    assert protocols
    assert others == set()


@pytest.mark.parametrize("place", IGNORANT)
def test_place_does_not_know_what_its_docstring_disclaims(place: str) -> None:
    """The batcher knows no torch, operations know no HTTP."""
    assert {library: found for library in IGNORANT[place] if (found := knowing(library, files_of(place)))} == {}


@pytest.mark.parametrize("library", ONLY_KNOWN_TO)
def test_library_is_known_to_few_files(library: str) -> None:
    """A foreign library is met in one place of each package, where its errors are translated."""
    assert knowing(library) == set(ONLY_KNOWN_TO[library])


@pytest.mark.parametrize("module", ["model_store.version", "model_store.pictures", *PROCESS_MODULES])
def test_module_is_imported_without_torch(module: str) -> None:
    """The processes that read pictures are small and quick to start: torch takes 200 MB and a second."""
    print_torch = f"import sys, {module}; print([name for name in sys.modules if name == 'torch'])"

    assert subprocess.check_output([sys.executable, "-c", print_torch], text=True, cwd=ROOT) == "[]\n"


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
