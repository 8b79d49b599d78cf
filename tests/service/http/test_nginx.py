"""The nginx configuration of docs/how-to/run-behind-a-proxy.md works as written."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from model_store import Store

from ...process import Process, free_port

PAGE = (Path(__file__).parents[3] / "docs" / "how-to" / "run-behind-a-proxy.md").read_text(encoding="utf-8")
FOLDERS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")

pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")


@pytest.fixture
def url(store: Store, tmp_path: Path) -> Iterator[str]:
    """The address of nginx, with a service behind it that has the settings of the page."""
    (location,) = re.findall(r"^```nginx\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    settings = dict(re.findall(r"(LATENTD_\w+)=(\S+)", PAGE.split("```")[1]))
    service, port = Process(store.root, **settings), free_port()
    temporary = " ".join(f"{name}_temp_path {tmp_path}/{name};" for name in FOLDERS)
    server = f"server {{ listen 127.0.0.1:{port}; {location.replace('127.0.0.1:8000', service.url.split('//')[1])} }}"
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {tmp_path}/pid; error_log stderr;\nevents {{}}\n"
        f"http {{ access_log off; {temporary} {server} }}"
    )
    nginx = subprocess.Popen(["nginx", "-c", f"{tmp_path}/nginx.conf", "-p", str(tmp_path)])  # noqa: S607
    try:
        service.wait_until_ready()
        yield f"http://127.0.0.1:{port}/latentd"
    finally:
        nginx.terminate()
        nginx.wait(10)
        service.kill()


def test_page_and_samples_are_below_the_prefix(url: str) -> None:
    """The page names the address that its client used; a body may be larger than nginx allows by default."""
    with httpx.Client(transport=httpx.HTTPTransport(retries=5)) as client:
        assert f"{url}</span>/v1/sample" in client.get(f"{url}/").text
        assert client.get(f"{url}/v1/sample?seed=7").headers["content-type"] == "image/png"
        refused = client.post(f"{url}/v1/encode", content=bytes(2**21), headers={"Content-Type": "image/png"})
        assert refused.status_code == 422, "read whole by the service, which says that it is not a picture"


def test_refusal_of_an_unread_body_is_passed_on(url: str) -> None:
    """nginx sends the body to its end, and a service that closed before would make it answer 502."""
    with httpx.Client(transport=httpx.HTTPTransport(retries=5)) as client:
        refused = [
            client.post(f"{url}/v1/encode", content=bytes(2**23), headers={"Content-Type": "text/csv"}).status_code
            for _ in range(20)
        ]

    assert refused == [415] * 20
