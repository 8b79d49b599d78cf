"""The service runs from a read-only root, without a network, as a user without a name and a home."""

import json
import subprocess
import sys

import pytest

from model_store import Store

UP = "import fcntl,socket,struct;fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh14x', b'lo', 0x41))"
LOCK = f"""mount -o remount,bind,ro / && '{sys.executable}' -c "{UP}" &&
exec unshare --user --map-user=65532 --map-group=65532 -- "$@" """


def locked_down(*command: str) -> subprocess.CompletedProcess[str]:
    """Run in namespaces of its own, in which the root is read-only, and there is no network but the loopback."""
    namespaces = ["unshare", "--map-root-user", "--net", "--mount", "sh", "-c", LOCK, "sh"]
    return subprocess.run([*namespaces, *command], capture_output=True, text=True, check=False)


@pytest.fixture
def lock() -> None:
    """Not everywhere may everybody have namespaces."""
    try:
        tried = locked_down("true")
    except FileNotFoundError:
        pytest.skip("there is no unshare here")
    if tried.returncode:
        pytest.skip(f"namespaces cannot be made here: {tried.stderr.strip()}")


@pytest.mark.usefixtures("lock")
@pytest.mark.parametrize("flags", [(), ("--workers=2",)], ids=["one process", "two workers"])
def test_service_needs_nothing_to_write_to_and_nobody_to_talk_to(store: Store, flags: tuple[str, ...]) -> None:
    """The service runs as in its container: from a read-only root, without a network."""
    told = locked_down(sys.executable, "-m", "tests.service.locked_down", str(store.root), *flags)

    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout) == {
        "statuses": [200] * 4, "may write": [], "name": False, "networks": ["lo"], "harm": [], "status": 0,
    }  # fmt: skip
