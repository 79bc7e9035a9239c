"""The page: `python app.py [--host ADDRESS] [--port NUMBER]`. Research use only."""

import argparse
import os
import sys
from collections.abc import Sequence

from asap_viewer.privacy import keep_quiet
from asap_viewer.settings import Settings, read_settings
from asap_viewer.startup import without_stubs
from core.errors import ConfigError


def read_arguments(arguments: Sequence[str], settings: Settings) -> argparse.Namespace:
    """Command line over environment over defaults."""
    parser = argparse.ArgumentParser(description="ASAP Viewer: where in the scan each sentence of the report lives.")
    parser.add_argument("--host", default=settings.host, help="address to listen on (GRADIO_SERVER_NAME; %(default)s)")
    parser.add_argument("--port", type=int, default=settings.port, help="port (PORT, GRADIO_SERVER_PORT; %(default)s)")
    parser.add_argument("--path", default="/", help="address below which the page lies (%(default)s)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Serve the page until interrupted; 2 with one line on stderr for a setting that cannot be."""
    keep_quiet(os.environ)
    with without_stubs():
        from asap_viewer.page import build_page, page_looks
        from asap_viewer.server import ServerConfig, build_app, serve
    from asap_viewer.served import VolumeServer
    from asap_viewer.services import Services

    try:
        settings = read_settings()
        given = read_arguments(arguments, settings)
        config = ServerConfig(given.host, given.port, given.path, settings.limits.upload_bytes)
    except ConfigError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2
    served = VolumeServer()
    app = build_app(build_page(Services(settings, served)), served, config, **page_looks())
    shown = "127.0.0.1" if config.host in ("0.0.0.0", "::") else config.host
    print(f"ASAP Viewer on http://{shown}:{config.port}{config.path}", file=sys.stderr)  # noqa: T201
    serve(app, config)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
