"""Asking a model over real HTTP, from a server that answers, refuses, stutters and hangs."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from r1mega.config.error import UserError
from r1mega.config.rejection import HttpModel
from r1mega.reward.chat_endpoint import GIVE_UP_AFTER, ChatEndpoint, EndpointError
from tests.reward.chat_server import Answer, ChatServer, Drop, Hang, Raw, Status


@contextmanager
def endpoint(answer: Answer, **settings: Any) -> Iterator[tuple[ChatEndpoint, ChatServer, list[float]]]:
    """An endpoint on a server, and how long it paused between attempts (it does not really wait)."""
    pauses: list[float] = []
    with ChatServer(answer) as server:
        settings = {"model": "m", "timeout_s": 5.0, "retries": 2, "concurrency": 1} | settings
        yield ChatEndpoint(HttpModel(base_url=server.base_url, **settings), pauses.append), server, pauses


def test_replies_come_in_the_order_of_the_prompts_several_at_a_time_and_are_handed_over_as_they_come():
    def answer(number: int, prompt: str) -> str:
        time.sleep(0.05 if prompt.endswith("0") else 0.01)
        return f"reply to {prompt}"

    came: dict[int, str] = {}
    with endpoint(answer, concurrency=4, temperature=0.5, max_new_tokens=7) as (asked, server, _):
        prompts = [f"é {number}" for number in range(12)]
        replies = asked.ask(prompts, came.__setitem__)
    assert replies == [f"reply to {prompt}" for prompt in prompts] and came == dict(enumerate(replies))
    assert 1 < server.busiest <= 4 and set(server.keys) == {None}
    assert server.bodies[0] == {"model": "m", "messages": [{"role": "user", "content": server.prompts[0]}],
                                "temperature": 0.5, "max_tokens": 7}


def test_the_key_comes_from_the_environment_and_only_from_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SOME_KEY", "secret-1")
    with endpoint(lambda *_: "x", key_variable="SOME_KEY") as (asked, server, _):
        assert asked.ask(["a"]) == ["x"] and server.keys == ["Bearer secret-1"]
    for value in ("", "two\nlines"):
        monkeypatch.setenv("SOME_KEY", value)
        with pytest.raises(UserError, match="no such variable with a key in it") as raised:
            ChatEndpoint(HttpModel(base_url="http://localhost", model="m", key_variable="SOME_KEY"))
        assert "lines" not in str(raised.value)


@pytest.mark.parametrize("failure", [
    Status(429), Status(500), Status(503), Drop(), Raw(b"<html>"), Raw(b"[]"), Raw(b'{"choices": []}'),
    Raw(b'{"choices": [{"message": {"content": null}}]}'), Raw(b"\xff\xfe"), Raw(b"[" * 100_000),
], ids=lambda failure: getattr(failure, "body", None) and repr(failure.body[:20]) or type(failure).__name__)
def test_what_may_pass_is_tried_again_and_a_prompt_that_never_gets_through_has_no_reply(failure: Any):
    with endpoint(lambda number, _: failure if number == 0 else "at last") as (asked, server, pauses):
        assert asked.ask(["a"]) == ["at last"] and len(server.prompts) == 2 and pauses == [0.5]
    with endpoint(lambda _, prompt: failure if prompt == "b" else prompt) as (asked, server, pauses):
        assert asked.ask(["a", "b", "c"]) == ["a", None, "c"] and server.prompts.count("b") == 3
        assert pauses == [0.5, 1.0]


def test_the_endpoint_says_how_long_to_wait_within_reason():
    waits = ["7", "100000", "soon", "-1", "nan"]
    with endpoint(lambda number, _: Status(429, waits[number]), retries=4) as (asked, _, pauses):
        assert asked.ask(["a"]) == [None]
    assert pauses == [7.0, 60.0, 2.0, 4.0]


@pytest.mark.parametrize("failure", [Hang(), Raw(b"", drip=True)], ids=["silent", "a byte at a time"])
def test_a_connection_that_hangs_costs_its_time_limit_and_nobody_elses(failure: Any):
    begun = time.monotonic()
    with endpoint(lambda _, prompt: failure if prompt == "b" else prompt, timeout_s=0.4, retries=1,
                  concurrency=3) as (asked, server, _):
        assert asked.ask(["a", "b", "c"]) == ["a", None, "c"]
        assert server.prompts.count("b") == 2
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("code", [400, 401, 403, 404, 302])
def test_a_refusal_ends_it_at_once_and_names_the_keys_to_look_at(code: int):
    came: list[int] = []
    with endpoint(lambda number, _: "x" if number < 2 else Status(code)) as (asked, server, pauses), \
            pytest.raises(EndpointError, match=rf"status {code} \('sorry'\); see base_url, model and key_variable"):
        asked.ask(list("abcdefgh"), lambda number, _: came.append(number))
    assert came == [0, 1] and len(server.prompts) == 3 and pauses == []


def test_an_endpoint_that_is_not_there_is_given_up_and_what_came_before_is_kept():
    came: list[int] = []
    with endpoint(lambda number, _: "x" if number < 2 else Drop(), retries=0) as (asked, server, _), \
            pytest.raises(EndpointError, match="8 requests in a row failed, .* the same command goes on"):
        asked.ask(["a"] * 50, lambda number, _: came.append(number))
    assert came == [0, 1] and len(server.prompts) == 2 + GIVE_UP_AFTER
    nobody = ChatEndpoint(HttpModel(base_url="http://127.0.0.1:9", model="m", retries=0), lambda _: None)
    with pytest.raises(EndpointError, match=r"http://127\.0\.0\.1:9: 8 requests in a row failed"):
        nobody.ask(["a"] * 20)


def test_half_a_surrogate_pair_in_a_reply_or_a_prompt_breaks_nothing():
    body = b'{"choices": [{"message": {"content": "a\\ud800b"}}]}'
    with endpoint(lambda *_: Raw(body)) as (asked, server, _):
        assert asked.ask(["p\ud800"]) == ["a?b"] and server.prompts == ["p\ud800"]
