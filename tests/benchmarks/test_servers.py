"""The places of servers, and the requests that they get."""

import base64
from pathlib import Path

import pytest

from benchmarks import environments
from benchmarks.serving import pictures, servers
from benchmarks.serving.cases import Operation
from benchmarks.serving.place import here
from benchmarks.serving.servers import LATENTD, SERVERS, our_settings, somewhere

from ..conftest import GREY, make_model


def test_our_service_is_given_only_settings_that_it_has() -> None:
    """A setting that this version does not have is left out, because it would be an error at start."""
    assert our_settings({"port": 8001, "workers": 2}, known=["port"]) == {"LATENTD_PORT": "8001"}
    assert our_settings({"workers": 2}, known=["workers"]) == {"LATENTD_WORKERS": "2"}


def test_a_place_survives_the_environment(tmp_path: Path) -> None:
    """The workers of a peer read the place from the environment."""
    place = somewhere(tmp_path / "store", "mnist", tmp_path)

    assert here(place.environment()) == place
    assert len({place.port, *place.other_ports}) == 1 + servers.OTHER_PORTS


@pytest.mark.parametrize("server", SERVERS, ids=lambda server: server.name)
def test_every_server_is_sent_every_picture(server: servers.Server) -> None:
    """The same pictures in the same order, each in the server's wrapping."""
    material = pictures.material(make_model(GREY).eval(), None, 4)

    sent = server.request(Operation.ENCODE, material)

    assert len(sent.bodies) == len(material.pngs) == 4
    for body, png in zip(sent.bodies, material.pngs, strict=True):
        assert png in body or base64.b64encode(png) in body


@pytest.mark.parametrize("server", [server for server in SERVERS if not server.is_ours], ids=lambda server: server.name)
def test_every_peer_has_pinned_versions_and_a_server(server: servers.Server) -> None:
    """Each line of a requirements file pins one package; torch comes from the common pin."""
    folder = environments.SERVERS / server.name
    lines = (folder / "requirements.txt").read_text(encoding="utf-8").splitlines()

    assert (folder / "serve.py").is_file()
    assert environments.TORCH in lines
    assert all("==" in line for line in lines if not line.startswith("#"))
    assert server.version()


def test_reasons_name_no_addresses_and_folders() -> None:
    """The reason is the last line that names an error, without paths."""
    text = "Looking in https://example.org/simple\nERROR: No matching distribution for x at /tmp/y\nhint: try z\n"

    assert environments.reason(text) == "ERROR: No matching distribution for x at …"


def test_ours_is_measured_in_both_networks() -> None:
    """Every peer is asked for all operations."""
    assert set(LATENTD.routes) == set(Operation)
