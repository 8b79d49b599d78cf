"""uvicorn has the internals that `service.listening` uses; a new release may remove them."""

import ast
import inspect
import textwrap
from importlib.metadata import version
from types import ModuleType

import pytest
from uvicorn import Server
from uvicorn.lifespan.on import LifespanOn
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from service.listening import connection, server

# uvicorn's class, our module that uses it, and what that module calls, reads, sets or overrides.
USED = [
    (
        HttpToolsProtocol,
        connection,
        {
            "__init__",
            "client",
            "connection_made",
            "connection_lost",
            "eof_received",
            "resume_writing",
            "data_received",
            "on_message_begin",
            "on_url",
            "on_header",
            "on_headers_complete",
            "on_body",
            "on_message_complete",
            "on_response_complete",
            "_start_asgi_task",
            "_unset_keepalive_if_required",
            "cycle",
            "expect_100_continue",
            "flow",
            "headers",
            "loop",
            "parser",
            "pipeline",
            "transport",
            "url",
        },
    ),
    (
        RequestResponseCycle,
        connection,
        {
            "body",
            "disconnected",
            "keep_alive",
            "message_event",
            "more_body",
            "response_complete",
            "response_started",
            "waiting_for_100_continue",
        },
    ),
    (FlowControl, connection, {"__init__", "pause_reading", "read_paused", "resume_reading"}),
    (
        Server,
        server,
        {
            "__init__",
            "capture_signals",
            "run",
            "serve",
            "startup",
            "on_tick",
            "shutdown",
            "config",
            "force_exit",
            "lifespan",
            "server_state",
            "servers",
            "should_exit",
        },
    ),
    (ServerState, server, {"connections"}),
    (LifespanOn, server, {"state"}),
]

# Our classes that extend one of uvicorn's.
EXTENDED = [(connection.Connection, HttpToolsProtocol), (connection.Flow, FlowControl), (server.Server, Server)]


def names(of: type) -> tuple[set[str], set[str]]:
    """The names that a class defines (methods, and assignments to self), and all names that it uses of self."""
    nodes = list(ast.walk(ast.parse(textwrap.dedent(inspect.getsource(of)))))
    taken = [
        node for node in nodes if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("self", "super()")
    ]
    methods = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    return methods | {node.attr for node in taken if isinstance(node.ctx, ast.Store)}, {node.attr for node in taken}


@pytest.mark.parametrize(("theirs", "module", "used"), USED, ids=lambda value: getattr(value, "__name__", ""))
def test_uvicorn_has_the_names_that_we_use(theirs: type, module: ModuleType, used: set[str]) -> None:
    """A missing name is reported together with our file that uses it."""
    missing = sorted(used - names(theirs)[0])

    assert not missing, f"uvicorn {version('uvicorn')}: {theirs.__name__} has no {missing}; see {module.__file__}"


def test_uvicorn_has_a_status_line_for_each_error() -> None:
    """The connection writes them for requests that the app never sees."""
    lines = getattr(httptools_impl, "STATUS_LINE", {})

    assert lines.get(400) == b"HTTP/1.1 400 Bad Request\r\n", f"uvicorn has no STATUS_LINE; see {connection.__file__}"


@pytest.mark.parametrize(("ours", "theirs"), EXTENDED)
def test_table_names_everything_that_we_use_of_uvicorn(ours: type, theirs: type) -> None:
    """The table has each name of uvicorn's class that our class uses or overrides."""
    [named] = [used for base, _, used in USED if base is theirs]
    defined, taken = names(ours)

    assert (defined | taken) & names(theirs)[0] <= named
