"""``modelmeter serve``: reports over HTTP."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path

from modelmeter.cli.arguments import Whole
from modelmeter.cli.devices import DeviceFiles
from modelmeter.errors import UsageError, require_extra

_HOST, _PORT, _STORE = "127.0.0.1", 8000, Path("runs/store")

_BACKLOG = 2048


def serve(
    *,
    host: str = _HOST,
    port: Whole = _PORT,
    store: Path = _STORE,
    device_file: DeviceFiles = (),
    workers: Whole = 2,
    queue_length: Whole = 64,
    run_seconds: float = 60.0,
    request_seconds: float = 30.0,
    body_bytes: Whole = 1 << 20,
) -> None:
    """Serve reports over HTTP: requests are accepted, worked out in the background and kept in a store.

    Examples:

        modelmeter serve

        modelmeter serve --port 0 --store runs/store --workers 4

    Parameters
    ----------
    host
        Address to listen on. Only this machine reaches the usual one; the service asks nobody who they are.
    port
        Port to listen on, 0 for one that is free.
    store
        Folder of the reports; it is made if it is not there.
    device_file
        Your own device file, JSON or YAML, or a folder of them; repeatable.
    workers
        Runs at once.
    queue_length
        Runs that wait; more are refused with 503.
    run_seconds
        Seconds that a run may take.
    request_seconds
        Seconds that a request may take.
    body_bytes
        Bytes that the body of a request may have.
    """
    try:
        import uvicorn

        from modelmeter.service.app import create_app
        from modelmeter.service.options import ServiceOptions
    except ModuleNotFoundError as error:
        if error.name not in ("uvicorn", "litestar"):
            raise
        raise require_extra("serve", error.name) from None

    options = ServiceOptions(
        workers=workers,
        queue_length=queue_length,
        run_seconds=run_seconds,
        request_seconds=request_seconds,
        body_bytes=body_bytes,
    )
    with _listening(host, port) as listener:
        config = uvicorn.Config(
            create_app(store, options, device_file), log_level="warning", access_log=False, server_header=False
        )
        shown = f"[{host}]" if ":" in host else host
        print(f"Serving {store} on http://{shown}:{listener.getsockname()[1]} (Ctrl-C ends it)", flush=True)
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises UsageError if it cannot."""
    try:
        (family, kind, protocol, _, address), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)  # who connects now waits until the service takes it
        except BaseException:
            listener.close()
            raise
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"cannot listen on {host} port {port}: {reason}", remedy="choose others with --host and --port"
        ) from None
    return listener
