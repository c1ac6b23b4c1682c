"""A mail server that takes everything and keeps nothing, in a process of its own."""

import sys
import threading
from typing import Any

from aiosmtpd.controller import Controller


class Sink:
    """Takes mail."""

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        """Say yes."""
        return "250 OK"


if __name__ == "__main__":
    Controller(Sink(), hostname="127.0.0.1", port=int(sys.argv[1])).start()
    threading.Event().wait()
