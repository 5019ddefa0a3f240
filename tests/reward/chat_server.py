"""A small server that speaks the OpenAI protocol, and misbehaves as it is told to."""

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Answer = Callable[[int, str], Any]  # (number of the request, prompt) to a reply's text, or one of the below


class Status:
    """Another status than 200."""

    def __init__(self, code: int, retry_after: str | None = None):
        self.code, self.retry_after = code, retry_after


class Raw:
    """Bytes as the body of a reply; `drip`: one every tenth of a second, without an end."""

    def __init__(self, body: bytes, drip: bool = False):
        self.body, self.drip = body, drip


class Hang:
    """Nothing at all, until the server is closed."""


class Drop:
    """The connection is closed without a word."""


class ChatServer:
    """A context manager. `prompts`, `bodies` and `keys` have what was asked, in order of arrival."""

    def __init__(self, answer: Answer):
        self._answer, self.closing = answer, threading.Event()
        self.prompts: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.busiest = self.busy = 0
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def take(self, body: dict[str, Any], key: str | None) -> Any:
        with self._lock:
            number = len(self.prompts)
            self.prompts.append(body["messages"][0]["content"])
            self.bodies.append(body)
            self.keys.append(key)
            self.busy += 1
            self.busiest = max(self.busy, self.busiest)
        try:
            return self._answer(number, body["messages"][0]["content"])
        finally:
            with self._lock:
                self.busy -= 1

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/chat/completions", self.path
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                _send(self, server.take(body, self.headers["Authorization"]), server.closing)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        return Handler


def _send(handler: BaseHTTPRequestHandler, answer: Any, closing: threading.Event) -> None:
    match answer:
        case Hang():
            closing.wait(30)
        case Drop():
            handler.close_connection = True
        case Status():
            handler.send_response(answer.code)
            if answer.retry_after is not None:
                handler.send_header("Retry-After", answer.retry_after)
            handler.send_header("Content-Length", "5")
            handler.end_headers()
            handler.wfile.write(b"sorry")
        case Raw(drip=True):
            handler.send_response(200)
            handler.end_headers()
            while not closing.is_set():
                try:
                    handler.wfile.write(b" ")
                except OSError:
                    return
                time.sleep(0.1)
        case _:
            body = answer.body if isinstance(answer, Raw) else json.dumps(
                {"choices": [{"message": {"role": "assistant", "content": answer}}]}).encode()
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)
