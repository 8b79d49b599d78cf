"""TorchServe: HTTP in Java, batches in Python workers.

Setting: two workers, batches of up to 16 that wait for at most 2 ms, one thread of torch a worker, no tokens, logs off.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from ...place import Place, here

BATCH, DELAY_MS = 16, 2
NAME = "vae"


def main(place: Place) -> None:
    """Pack the handler, write the configuration, and become TorchServe."""
    models = place.scratch / "models"
    models.mkdir(exist_ok=True)
    archive(models)
    (place.scratch / "config.properties").write_text(configuration(place), encoding="utf-8")
    (place.scratch / "log4j2.xml").write_text('<Configuration><Loggers><Root level="off"/></Loggers></Configuration>')
    options = ["--foreground", "--ncs", "--disable-token-auth", "--enable-model-api", "--model-store", str(models)]
    options += ["--ts-config", str(place.scratch / "config.properties")]
    options += ["--log-config", str(place.scratch / "log4j2.xml")]
    command = [str(tool("torchserve")), "--start", *options]
    os.chdir(place.scratch)  # it writes its logs and keys where it stands
    os.execve(command[0], command, os.environ | {"TMPDIR": str(place.scratch), "TEMP": str(place.scratch)})  # noqa: S606


def archive(models: Path) -> None:
    """The model archive: the handler alone, since weights come from our store."""
    options = ["--model-name", NAME, "--version", "1", "--handler", str(Path(__file__).with_name("handler.py"))]
    subprocess.run([tool("torch-model-archiver"), *options, "--export-path", models, "--force"], check=True)


def configuration(place: Place) -> str:
    """Addresses on loopback alone, and the model with its workers and batches."""
    management, metrics, grpc_inference, grpc_management = place.other_ports
    model = {
        "minWorkers": place.workers,
        "maxWorkers": place.workers,
        "batchSize": BATCH,
        "maxBatchDelay": DELAY_MS,
        "marName": f"{NAME}.mar",
    }
    lines = {
        "inference_address": f"http://127.0.0.1:{place.port}",
        "management_address": f"http://127.0.0.1:{management}",
        "metrics_address": f"http://127.0.0.1:{metrics}",
        "grpc_inference_port": grpc_inference,
        "grpc_management_port": grpc_management,
        "load_models": "all",
        "models": json.dumps({NAME: {"1": model}}),
        "number_of_netty_threads": place.workers,
        "job_queue_size": 1024,
        "enable_metrics_api": "false",
    }
    return "".join(f"{key}={value}\n" for key, value in lines.items())


def tool(name: str) -> Path:
    """A command of this environment."""
    return Path(sys.executable).with_name(name)


if __name__ == "__main__":
    main(here())
