"""What published chat templates use of Jinja, in templates of our own: each renders as transformers would."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from runtime_svc.template import ChatTemplate
from tests.runtime_svc.requests import message, tool
from treni.errors import Code, TreniError
from treni.v1 import common_pb2


def render(
    tmp_path: Path,
    source: object,
    messages: Iterable[common_pb2.Message],
    tools: Iterable[common_pb2.ToolSpec] = (),
    **config: object,
) -> str:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": source, **config}))
    return ChatTemplate(tmp_path).render(messages, tools)


def call(name: str, arguments_json: str) -> common_pb2.ToolCall:
    return common_pb2.ToolCall(name=name, arguments_json=arguments_json)


TALK = [
    message("be brief", role="system"),
    message("add", name="Ada"),
    message("", role="assistant", tool_calls=[call("sum", '{"x":1}')]),
    message("3", role="tool", tool_name="sum"),
    message("<think>\nhm\n</think>\n\nthree", role="assistant"),
    message("again"),
]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        # A namespace that a loop writes to, over the messages reversed, both ways.
        (
            "{%- set ns = namespace(found=false, at=0) %}{% for m in messages[::-1] %}"
            "{%- if not ns.found and m.role == 'tool' %}{% set ns.found = true %}"
            "{% set ns.at = messages|length - 1 - loop.index0 %}{% endif %}{% endfor %}{{ ns.at }}",
            "3",
        ),
        ("{% for m in messages | reverse %}{{ m.role[0] }}{% endfor %}", "uatau" + "s"),
        # Loop controls.
        ("{% for m in messages %}{% if m.role == 'tool' %}{% break %}{% endif %}{{ loop.index }}{% endfor %}", "123"),
        ("{% for m in messages %}{% if m.role != 'user' %}{% continue %}{% endif %}{{ m.content }};{% endfor %}",
         "add;again;"),
        # Neighbours, first and last.
        ("{% for m in messages %}{% if not loop.last and messages[loop.index0 + 1].role == 'tool' %}"
         "{{ loop.index0 }}{% endif %}{% endfor %}", "2"),
        ("{{ messages[-1].content }}{{ messages[0]['role'] }}", "againsystem"),
        # String methods, and reasoning cut out of a turn.
        ("{{ messages[4].content.split('</think>')[-1].lstrip('\\n') }}", "three"),
        ("{{ messages[4].content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].strip('\\n') }}", "hm"),
        ("{{ messages[1].content.startswith('a') and not messages[1].content.endswith('x') }}", "True"),
        ("{{ messages[0].content | trim | upper }}", "BE BRIEF"),
        ("{{ messages[0].content.replace('be', 'is') ~ '!' }}", "is brief!"),
        # Tests, and what is not there.
        ("{{ messages[1].content is string }}{{ messages[1].reasoning_content is defined }}", "TrueFalse"),
        ("{{ messages[1].tool_calls is none }}{{ tools is none }}", "FalseTrue"),
        ("{% if messages[1].tool_calls %}x{% endif %}{{ messages[1].reasoning_content }}", ""),
        ("{{ enable_thinking is defined and enable_thinking is false }}", "True"),
        ("{{ add_generation_prompt }}", "True"),
        # A tool call, with its arguments as they were written, whether the template encodes them or not.
        ("{%- for c in messages[2].tool_calls %}{% if c.function %}{% set c = c.function %}{% endif %}"
         "{{ c.name }} {{ c.arguments }} {{ c.arguments | tojson }}"
         "{% endfor %}", 'sum {"x":1} {"x":1}'),
        # Who speaks, where somebody says so.
        ("{% for m in messages %}{{ m.role }}{% if m.name %} {{ m.name }}{% endif %};{% endfor %}",
         "system;user Ada;assistant;tool sum;assistant;user;"),
        # Macros, filters over attributes, and variables set for the rest of the template.
        ("{%- macro turn(m) %}[{{ m.role }}]{% endmacro %}{{ turn(messages[0]) }}", "[system]"),
        ("{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | join('|') }}", "add|again"),
        ("{% if messages[0].role == 'system' %}{% set loop_messages = messages[1:] %}{% endif %}"
         "{{ loop_messages | length }}", "5"),
        ("{{ {'b': 'é', 'a': [1]} | tojson }}", '{"b": "é", "a": [1]}'),
        ("{{ {'b': 1, 'a': 2} | tojson(separators=(',', ':'), sort_keys=true) }}", '{"a":2,"b":1}'),
        ("{{ {'a': 1} | tojson(indent=2) }}", '{\n  "a": 1\n}'),
        ("{{ bos_token }}{{ eos_token }}{{ strftime_now('%Y')[:2] }}", "<end>20"),
        # Blocks leave neither their line nor the blanks before them.
        ("a\n  {% if true %}\nb\n  {% endif %}\nc", "a\nb\nc"),
    ],
)  # fmt: skip
def test_a_feature(tmp_path: Path, source: str, expected: str) -> None:
    rendered = render(tmp_path, source, TALK, bos_token=None, eos_token={"content": "<end>"})
    assert rendered == expected


NAMED = [
    {"name": "default", "template": "plain {{ messages[0].content }}"},
    {"name": "tool_use", "template": "with {{ tools[0].function.name }}"},
]


def test_a_list_of_templates(tmp_path: Path) -> None:
    assert render(tmp_path, NAMED, [message("x")]) == "plain x"
    assert render(tmp_path, NAMED, [message("x")], [tool(name="sum")]) == "with sum"
    assert render(tmp_path, NAMED[:1], [message("x")], [tool(name="sum")]) == "plain x"


def test_files_of_their_own_go_first(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("file")
    assert render(tmp_path, NAMED, [message("x")], [tool()]) == "file"
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "tool_use.jinja").write_text("file {{ tools | length }}")
    assert render(tmp_path, NAMED, [message("x")], [tool()]) == "file 1"
    assert render(tmp_path, NAMED, [message("x")]) == "file"


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (7, "7"),
        ([], "default"),
        ([{"name": "tool_use", "template": "x"}], "default"),
        ([{"name": "default"}], "name and template"),
        (["x"], "name and template"),
        ("{% endfor %}", "endfor"),
        ("{{ 'x' * }}", "Jinja"),
    ],
)
def test_what_is_no_template(tmp_path: Path, given: object, word: str) -> None:
    with pytest.raises(TreniError, match=word) as caught:
        render(tmp_path, given, [message("x")])
    assert caught.value.kind == "checkpoint_damaged"
    assert "tokenizer_config.json" in str(caught.value)


def test_a_template_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(TreniError, match=r"chat_template\.jinja") as caught:
        ChatTemplate(tmp_path)
    assert caught.value.kind == "checkpoint_damaged"


@pytest.mark.parametrize("settings", ["[]", "{", "7"])
def test_settings_that_are_no_object(tmp_path: Path, settings: str) -> None:
    (tmp_path / "chat_template.jinja").write_text("x")
    (tmp_path / "tokenizer_config.json").write_text(settings)
    with pytest.raises(TreniError, match=r"tokenizer_config\.json"):
        ChatTemplate(tmp_path)


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages[0].content + 1 }}",
        "{{ 1 / 0 }}",
        "{{ messages[99].content }}",
        "{{ none | length }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% for i in range(10000000) %}x{% endfor %}",
    ],
)
def test_whatever_a_template_raises_is_a_refusal(tmp_path: Path, source: str) -> None:
    with pytest.raises(TreniError) as caught:
        render(tmp_path, source, [message("x")])
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.kind == "conversation_refused"


IDS = (
    "{% for m in messages %}{% for c in m.tool_calls or [] %}"
    "{% if c.id is not defined or c.id | length != 9 %}{{ raise_exception('an id of 9') }}{% endif %}{{ c.id }};"
    "{% endfor %}{% if m.role == 'tool' %}"
    "{% if m.tool_call_id is not defined %}{{ raise_exception('no id') }}{% endif %}={{ m.tool_call_id }};"
    "{% endif %}{% endfor %}"
)


def test_calls_get_ids_where_a_template_insists_on_them(tmp_path: Path) -> None:
    calls = [call("a", "{}"), call("b", "{}")]
    talk = [
        message("x"),
        message("", role="assistant", tool_calls=calls),
        message("1", role="tool"),
        message("2", role="tool"),
        message("", role="assistant", tool_calls=calls[:1]),
        message("3", role="tool"),
    ]
    assert render(tmp_path, IDS, talk) == ("call00000;call00001;=call00000;=call00001;call00002;=call00002;")
    everything = "{% for m in messages %}{{ m | tojson }}{% endfor %}"
    assert "call0" not in render(tmp_path, everything, talk)


def test_what_a_template_refuses_with_ids_too_is_refused_as_it_was_without(tmp_path: Path) -> None:
    source = "{{ raise_exception('with' if messages[1].tool_calls[0].id else 'without') }}"
    with pytest.raises(TreniError, match="got without"):
        render(tmp_path, source, [message("x"), message("", role="assistant", tool_calls=[call("a", "{}")])])
    with pytest.raises(TreniError, match="no id"):
        render(tmp_path, IDS, [message("x"), message("1", role="tool")])
