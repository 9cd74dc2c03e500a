"""Chat templates: what they may do, what they are given, and what becomes of their errors."""

from datetime import datetime
from typing import Any

import pytest

from octavo.engine.chat_template import ChatTemplate, plain_messages
from octavo.engine.errors import BadRequestError, ConfigurationError

PLAIN = """{% for message in messages %}
<{{ message.role }}>{{ message.content | trim }}</{{ message.role }}>
{% endfor %}
{% if add_generation_prompt %}<assistant>{% endif %}"""
TALK = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello the"}]


def render(source: str, messages: list[dict[str, Any]] | None = None, **options: Any) -> str:
    template = ChatTemplate(source, bos_token="<s>", eos_token="</s>")
    return template.render(TALK if messages is None else messages, **options)


def test_messages_become_text_with_or_without_the_generation_prompt() -> None:
    text = "<user>Hi</user>\n<assistant>Hello the</assistant>\n"
    assert render(PLAIN) == text + "<assistant>"
    assert render(PLAIN, add_generation_prompt=False) == text


def test_special_tokens_are_given_and_absent_ones_are_empty() -> None:
    assert render("{{ bos_token }}|{{ eos_token }}") == "<s>|</s>"
    template = ChatTemplate("[{{ bos_token }}{{ eos_token }}]", None, None)
    assert template.render(TALK) == "[]"


def test_extra_variables_reach_the_template_but_cannot_replace_the_messages() -> None:
    extra = {"tone": "kind", "bos_token": "<b>", "messages": [], "add_generation_prompt": False}
    source = "{{ tone }} {{ bos_token }} {{ messages | length }} {{ add_generation_prompt }}"
    assert render(source, extra=extra) == "kind <b> 2 True"


def test_block_lines_leave_no_blank_lines_and_loops_can_be_left() -> None:
    source = "{% for m in messages %}\n  {% if loop.index == 2 %}{% break %}{% endif %}\n"
    assert render(source + "{{ m.role }}\n{% endfor %}") == "user\n"


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__ }}",
        "{{ ''['__class__'] }}",
        "{{ messages | attr('__class__') }}",
        "{{ '{0.__class__}'.format(messages) }}",
        "{{ raise_exception.__globals__ }}",
        "{{ strftime_now.__code__ }}",
    ],
)
def test_the_insides_of_python_objects_are_undefined(source: str) -> None:
    assert render(source) == ""


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages[0]['content'].__class__.__base__.__subclasses__() }}",
        "{{ self.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ raise_exception.__globals__['ConfigurationError'] }}",
    ],
)
def test_going_through_the_insides_of_python_objects_is_refused(source: str) -> None:
    with pytest.raises(BadRequestError, match="unsafe"):
        render(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.append(1) }}",
        "{{ messages[0].update({'role': 'x'}) }}",
        "{{ messages[0].pop('role') }}",
        "{{ messages.clear() }}",
    ],
)
def test_a_template_cannot_change_what_it_is_given(source: str) -> None:
    messages = [{"role": "user", "content": "Hi"}]
    with pytest.raises(BadRequestError):
        render(source, messages)
    assert messages == [{"role": "user", "content": "Hi"}]


def test_a_template_cannot_read_files() -> None:
    with pytest.raises(BadRequestError):
        render("{% include '/etc/passwd' %}")


def test_raise_exception_becomes_a_bad_request_with_the_templates_words() -> None:
    with pytest.raises(BadRequestError, match="roles must alternate") as caught:
        render("{{ raise_exception('roles must alternate') }}")
    assert caught.value.param == "messages"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{{ messages[0]['content'] + 1 }}", "TypeError"),
        ("{{ nothing.at.all }}", "refused the messages"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{% for i in range(10 ** 9) %}{% endfor %}", "OverflowError"),
        (
            "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
            "RecursionError",
        ),
    ],
)
def test_whatever_fails_inside_a_template_is_a_bad_request(source: str, words: str) -> None:
    with pytest.raises(BadRequestError, match=words):
        render(source)


def test_an_invalid_template_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="chat template is not valid"):
        ChatTemplate("{% for message in messages %}", None, None)


def test_strftime_now_gives_todays_date() -> None:
    before = datetime.now().strftime("%Y-%m-%d")
    text = render("{{ strftime_now('%Y-%m-%d') }}")
    assert text in (before, datetime.now().strftime("%Y-%m-%d"))


def test_tojson_keeps_characters_as_they_are() -> None:
    source = "{{ {'name': 'Zoë & <Zoé>', 'list': [1, none]} | tojson }}"
    assert render(source) == '{"name": "Zoë & <Zoé>", "list": [1, null]}'
    assert render("{{ [1] | tojson(indent=2) }}") == "[\n  1\n]"


def test_continue_final_message_cuts_what_follows_its_text() -> None:
    options = {"continue_final_message": True, "add_generation_prompt": False}
    assert render(PLAIN, **options) == "<user>Hi</user>\n<assistant>Hello the"


def test_continue_final_message_cuts_at_the_last_of_equal_texts() -> None:
    twice = [{"role": "user", "content": "so"}, {"role": "assistant", "content": "so"}]
    options = {"continue_final_message": True, "add_generation_prompt": False}
    assert render(PLAIN, twice, **options) == "<user>so</user>\n<assistant>so"


@pytest.mark.parametrize("final", ["ant", "s", "<", "</assistant>"])
def test_continue_final_message_is_not_misled_by_the_templates_own_words(final: str) -> None:
    messages = [{"role": "assistant", "content": final}]
    options = {"continue_final_message": True, "add_generation_prompt": False}
    assert render(PLAIN, messages, **options) == f"<assistant>{final}"
    assert messages == [{"role": "assistant", "content": final}]


@pytest.mark.parametrize(
    ("final", "options", "words"),
    [
        ("Hello", {"add_generation_prompt": True}, "Cannot set both"),
        ("  ", {"add_generation_prompt": False}, "needs a final message"),
    ],
)
def test_a_final_message_that_cannot_be_continued_is_refused(
    final: str, options: dict[str, bool], words: str
) -> None:
    messages = [{"role": "assistant", "content": final}]
    with pytest.raises(BadRequestError, match=words) as caught:
        render(PLAIN, messages, continue_final_message=True, **options)
    assert caught.value.param == "continue_final_message"


def test_a_final_message_that_the_template_leaves_out_cannot_be_continued() -> None:
    with pytest.raises(BadRequestError, match="needs a final message"):
        render("nothing", continue_final_message=True, add_generation_prompt=False)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("Hi", "Hi"),
        (None, ""),
        ([], ""),
        ([{"type": "text", "text": "one"}], "one"),
        ([{"type": "text", "text": "one"}, {"text": "two"}], "one\ntwo"),
    ],
)
def test_content_is_one_text_whether_string_or_parts(content: Any, text: str) -> None:
    (message,) = plain_messages([{"role": "user", "content": content}])
    assert message == {"role": "user", "content": text}


def test_further_members_of_a_message_reach_the_template() -> None:
    (message,) = plain_messages([{"role": "tool", "content": "4", "name": "add"}])
    assert message == {"role": "tool", "content": "4", "name": "add"}


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}},
        {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
        {"type": "text"},
        {"type": "text", "text": 5},
        {"type": 5, "text": "five"},
    ],
)
def test_a_part_that_is_not_text_is_refused_by_its_type(part: dict[str, Any]) -> None:
    with pytest.raises(BadRequestError, match=repr(part["type"])) as caught:
        plain_messages([{"role": "user", "content": [part]}])
    assert caught.value.param == "messages"
