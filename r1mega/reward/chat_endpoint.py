"""A model behind an OpenAI-compatible endpoint: prompts in, replies out, over HTTP."""

import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from r1mega.config.error import UserError
from r1mega.config.rejection import HttpModel

AGAIN = frozenset({408, 409, 425, 429, *range(500, 600)})  # a status that may be another one later
LARGEST_REPLY = 16 << 20  # bytes
LONGEST_WAIT_S = 60.0
GIVE_UP_AFTER = 8  # requests in a row that failed for good


class EndpointError(UserError):
    """The endpoint refuses what it is asked, or does not answer at all."""


class _TryAgainError(Exception):
    """A request that failed in a way that may pass; `wait_s` is what the endpoint asked for."""

    def __init__(self, text: str, wait_s: float | None = None):
        super().__init__(text)
        self.wait_s = wait_s


class ChatEndpoint:
    """Asks one prompt a request, several at a time. `pause` is what waits between attempts (seconds)."""

    def __init__(self, config: HttpModel, pause: Callable[[float], Any] = time.sleep):
        """Raises UserError where the recipe names an environment variable that is not set."""
        self._config, self._pause = config, pause
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if config.key_variable is not None:
            key = os.environ.get(config.key_variable, "").strip()
            if not key or not key.isprintable() or not key.isascii():
                raise UserError(f"key_variable=\"{config.key_variable}\": the environment has no such variable with a "
                                f"key in it; export {config.key_variable}=…, or take key_variable out")
            self._headers["Authorization"] = f"Bearer {key}"
        self._lock = threading.Lock()
        self._failed_in_a_row = 0
        self._fatal: str | None = None

    def ask(self, prompts: Sequence[str], on_reply: Callable[[int, str], None] | None = None) -> list[str | None]:
        """Replies in the order of the prompts; None where every attempt failed. `on_reply(number, reply)` is called
        for each as it comes, one at a time.

        Raises EndpointError where the endpoint refuses (a wrong key, an unknown model), or where GIVE_UP_AFTER requests
        in a row have failed: replies that came have been handed to `on_reply` by then.
        """
        self._failed_in_a_row, self._fatal = 0, None

        def one(number: int) -> str | None:
            reply = self._one(prompts[number])
            if reply is not None and on_reply is not None:
                with self._lock:
                    on_reply(number, reply)
            return reply

        with ThreadPoolExecutor(self._config.concurrency) as pool:
            replies = list(pool.map(one, range(len(prompts))))
        if self._fatal is not None:
            raise EndpointError(self._fatal)
        return replies

    def _one(self, prompt: str) -> str | None:
        problem = ""
        for attempt in range(self._config.retries + 1):
            if self._fatal is not None:
                return None
            try:
                reply = self._request(prompt)
                with self._lock:
                    self._failed_in_a_row = 0
                return reply
            except _TryAgainError as error:
                problem = str(error)
                if attempt < self._config.retries:
                    self._pause(min(LONGEST_WAIT_S, 0.5 * 2**attempt if error.wait_s is None else error.wait_s))
            except EndpointError as error:
                self._give_up(str(error))
                return None
        with self._lock:
            self._failed_in_a_row += 1
            too_many = self._failed_in_a_row >= GIVE_UP_AFTER
        if too_many:
            self._give_up(f"{self._config.base_url}: {GIVE_UP_AFTER} requests in a row failed, the last with "
                          f"{problem}; what is finished is kept, and the same command goes on: see that the endpoint "
                          "answers, or raise timeout_s or retries")
        return None

    def _give_up(self, text: str) -> None:
        with self._lock:
            self._fatal = self._fatal or text

    def _request(self, prompt: str) -> str:
        """One attempt, with one deadline for all of it."""
        config = self._config
        deadline = time.monotonic() + config.timeout_s
        body = json.dumps({"model": config.model, "messages": [{"role": "user", "content": prompt}],
                           "temperature": config.temperature, "max_tokens": config.max_new_tokens}).encode()
        address = urlsplit(config.base_url)
        kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
        connection = kind(address.hostname or "", address.port, timeout=config.timeout_s)
        try:
            connection.connect()
            with _Alarm(connection.sock, deadline):  # the library's own time-out starts again with every byte
                connection.request("POST", f"{address.path.rstrip('/')}/chat/completions", body, self._headers)
                response = connection.getresponse()
                content = response.read(LARGEST_REPLY + 1)
        except (OSError, http.client.HTTPException) as error:
            late = time.monotonic() >= deadline or isinstance(error, TimeoutError)
            raise _TryAgainError(f"no reply within timeout_s={config.timeout_s:g}" if late else
                                 f"{type(error).__name__}: {error}") from None
        finally:
            connection.close()
        if time.monotonic() >= deadline:
            raise _TryAgainError(f"no whole reply within timeout_s={config.timeout_s:g}")
        return self._read(response, content)

    def _read(self, response: http.client.HTTPResponse, content: bytes) -> str:
        config = self._config
        if response.status in AGAIN:
            raise _TryAgainError(f"status {response.status}", _seconds(response.headers.get("Retry-After")))
        if response.status != 200:
            said = " ".join(content[:300].decode("utf-8", "replace").split())
            raise EndpointError(f"{config.base_url}: model=\"{config.model}\": the endpoint refuses with status "
                                f"{response.status} ({ascii(said)[:200]}); see base_url, model and key_variable")
        try:
            reply = json.loads(content)["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError, RecursionError):
            reply = None
        if not isinstance(reply, str):
            raise _TryAgainError("a reply that is no chat completion")
        return reply.encode("utf-8", "replace").decode()  # half a surrogate pair is no character


class _Alarm:
    """Closes a connection at its deadline, whatever it is waiting for."""

    def __init__(self, sock: socket.socket, deadline: float):
        self._timer = threading.Timer(max(0.0, deadline - time.monotonic()), self._ring, [sock])
        self._timer.daemon = True

    @staticmethod
    def _ring(sock: socket.socket) -> None:
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # closed already

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()


def _seconds(text: str | None) -> float | None:
    """Of a Retry-After header; None where it is missing, a date, or nonsense."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 <= value < 1e6 else None
