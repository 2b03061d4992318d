"""`python -m app.sandbox --port 0 --state FILE --shop DOMAIN:TOKEN`: the sandbox as a process of its own."""

from __future__ import annotations

import argparse
from pathlib import Path

from app.sandbox.server import MODEL_KEY, serve
from app.sandbox.state import Shop, new_shop


def _shop(text: str) -> Shop:
    domain, _, token = text.partition(":")
    if not domain or not token:
        raise argparse.ArgumentTypeError(f"{text!r} is not DOMAIN:TOKEN")
    return new_shop(domain, token)


def main() -> None:
    """Read the arguments and serve until killed."""
    parser = argparse.ArgumentParser(prog="python -m app.sandbox", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--state", type=Path, help="the file that survives; without it nothing does")
    parser.add_argument("--shop", type=_shop, action="append", default=[], metavar="DOMAIN:TOKEN")
    parser.add_argument("--model-key", default=MODEL_KEY, help="the bearer key the model stand-in takes")
    chosen = parser.parse_args()
    serve(port=chosen.port, state_path=chosen.state, shops=chosen.shop, model_key=chosen.model_key)


main()
