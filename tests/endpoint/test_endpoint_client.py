"""The client against a server that fails: what is asked again, what is an error, what is kept."""

import json
import socket

import pytest
from helpers import byte_tokenizer
from served_model import ToyModel, serving

from sentidistill_jax.endpoint.client import Endpoint
from sentidistill_jax.endpoint.journal import Journal
from sentidistill_jax.endpoint.protocol import Request
from sentidistill_jax.endpoint.settings import EndpointError, EndpointSettings

MODEL = ToyModel(byte_tokenizer(["positive", "negative"]))
KEY = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def server():
    with serving(MODEL) as server:
        yield server


def endpoint_of(server, journal=None, **settings):
    settings = {"retries": 1, "top_logprobs": 3, "timeout": 20.0} | settings
    journal = Journal() if journal is None else journal
    return Endpoint(EndpointSettings(server.url, **settings), journal)


def requests_for(count):
    return [Request(f"Text {index}\nOpinion:", 40, stop=("\n",)) for index in range(count)]


def expected(request):
    return MODEL.answer(request.prompt).rstrip("\n")


@pytest.mark.parametrize(
    "fault", [429, 500, 503, 408, "garbage", "page", "empty", "cut", "cut_chunks", "unfinished"]
)
def test_what_fails_is_asked_again(server, fault):
    server.faults.append(fault)
    endpoint = endpoint_of(server)
    (request,) = requests_for(1)
    (answer,) = endpoint.answers([request])
    assert answer.text == expected(request)
    assert answer.stopped
    assert [token.name for token in answer.tokens][:2] == list(answer.text)[:2]
    assert len(server.asked) == 2


def test_answers_come_in_order_with_so_many_at_a_time(server):
    server.pause = 0.02
    requests = requests_for(12)
    answers = endpoint_of(server, concurrency=3).answers(requests)
    assert [answer.text for answer in answers] == [expected(request) for request in requests]
    assert server.most_at_a_time <= 3


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        ([429] * 2, "answered 429 .*lower endpoint.concurrency, or run the same command again"),
        ([500] * 2, "answered 500 .*run the same command again once the server is well"),
        ([401], r"answered 401 .*check the key in OPENAI_API_KEY"),
        ([404], "answered 404 .*check endpoint.base_url and endpoint.model"),
        (["garbage"] * 2, 'no usable answer in 2 attempts.*begins \'{"choices": '),
        (["page"] * 2, "no usable answer in 2 attempts.*begins '<html>Welcome"),
        (["unfinished"] * 2, "no usable answer in 2 attempts: the answer was cut off"),
        (["cut"] * 2, "no connection to http://.* in 2 attempts"),
    ],
)
def test_what_keeps_failing_is_one_sentence_and_loses_nothing(server, tmp_path, faults, message):
    requests = requests_for(4)
    with Journal(tmp_path / "journal.jsonl") as journal:
        endpoint_of(server, journal, concurrency=1).answers(requests[:2])
        server.faults.extend(faults)
        with pytest.raises(EndpointError, match=message) as error:
            endpoint_of(server, journal, concurrency=1).answers(requests)
        assert f"2 answers are kept in {journal.path}" in str(error.value)
    asked = len(server.asked)
    with Journal(tmp_path / "journal.jsonl") as journal:
        answers = endpoint_of(server, journal).answers(requests)
    assert [answer.text for answer in answers] == [expected(request) for request in requests]
    assert len(server.asked) == asked + 2  # only what was missing


def test_others_under_way_are_kept_when_one_fails(server, tmp_path):
    server.pause = 0.05
    server.faults.append(404)
    journal = Journal(tmp_path / "journal.jsonl")
    with pytest.raises(EndpointError, match="answers are kept"):
        endpoint_of(server, journal, concurrency=4).answers(requests_for(8))
    assert 3 <= len(journal) < 8
    assert len(server.asked) == len(journal) + 1


def test_a_server_that_is_down_and_comes_back(tmp_path):
    requests = requests_for(3)
    journal = Journal(tmp_path / "journal.jsonl")
    with serving(MODEL) as server:
        port = server.server_address[1]
        endpoint = endpoint_of(server, journal, retries=0)
        endpoint.answers(requests[:1])
    with pytest.raises(EndpointError, match=f"no connection to http://127.0.0.1:{port}/v1"):
        endpoint.answers(requests)
    with serving(MODEL, port) as server:
        answers = endpoint.answers(requests)
        assert len(server.asked) == 2
    assert [answer.text for answer in answers] == [expected(request) for request in requests]


def test_no_answer_in_time_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never says anything
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        settings = EndpointSettings(url, model="m", timeout=0.2, retries=0)
        with pytest.raises(EndpointError, match="no answer within 0.2 s"):
            Endpoint(settings, Journal()).ask(requests_for(1))


def test_the_key_is_sent_and_never_told(server, tmp_path, capfd):
    server.fault_text = "Incorrect API key provided: {key}"
    with Journal(tmp_path / "journal.jsonl") as journal:
        endpoint_of(server, journal).ask(requests_for(2), progress="ask")
        server.faults.append(401)
        with pytest.raises(EndpointError, match=r"provided: \[key\]") as error:
            endpoint_of(server, journal).ask(requests_for(3), progress="ask")
    assert server.keys == {KEY}
    assert KEY not in str(error.value) + repr(EndpointSettings(server.url))
    assert KEY not in (tmp_path / "journal.jsonl").read_text()
    assert KEY not in "".join(capfd.readouterr())


def test_without_a_key_only_where_none_is_wanted(server, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(EndpointError, match="'OPENAI_API_KEY' is not set.*api_key_env=''"):
        endpoint_of(server)
    endpoint_of(server, api_key_env="").ask(requests_for(1))
    assert server.keys == {"none"}


def test_the_only_model_is_found_and_several_are_not_guessed(server):
    endpoint_of(server).ask(requests_for(1))
    assert server.asked[0]["model"] == "toy"
    server.names = ["a", "b"]
    with pytest.raises(EndpointError, match=r"serves \['a', 'b'\], expected one model; choose"):
        endpoint_of(server).ask(requests_for(1))


def test_further_fields_are_sent_and_none_leaves_one_out(server):
    further = {"repetition_penalty": 1.0, "top_p": None}
    endpoint_of(server, extra_body=further).ask(requests_for(1))
    (body,) = server.asked
    assert body["repetition_penalty"] == 1.0
    assert "top_p" not in body and body["logprobs"] == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base_url": "localhost:8000"}, "must be an address such as"),
        ({"base_url": "http://me:password@host/v1"}, "must carry no user, password or query"),
        ({"base_url": "http://host/v1?key=abc"}, "must carry no user, password or query"),
        ({"api": "responses"}, "endpoint.api='responses' must be one of"),
        ({"concurrency": 0}, "endpoint.concurrency=0 must be at least 1"),
        ({"timeout": 0.0}, "endpoint.timeout=0.0 must be more than 0"),
    ],
)
def test_bad_settings_are_refused_without_repeating_secrets(settings, message):
    with pytest.raises(ValueError, match=message) as error:
        EndpointSettings(**{"base_url": "http://host/v1"} | settings)
    assert "password@" not in str(error.value) and "abc" not in str(error.value)


def test_where_it_runs_is_no_part_of_a_request(tmp_path):
    with Journal(tmp_path / "journal.jsonl") as journal:
        for _ in range(2):
            with serving(MODEL) as server:  # on another port each time
                endpoint_of(server, journal).ask(requests_for(2))
    lines = (tmp_path / "journal.jsonl").read_text().splitlines()
    assert len(lines) == 2
    assert all("127.0.0.1" not in line for line in lines)
    assert {json.loads(line)["answer"]["model"] for line in lines} == {"toy-v1"}
