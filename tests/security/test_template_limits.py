"""What a template may take in this process: time, and the size of what it makes."""

import asyncio
from typing import Any

import pytest
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from octavo.engine.chat_prompts import ChatPrompts
from octavo.engine.chat_template import ChatTemplate
from octavo.engine.errors import BadRequestError, ConfigurationError
from octavo.engine.template_input import TemplateInput
from octavo.engine.template_limits import TemplateLimitError, TemplateTimeError

from .hostile_templates import BOUNDLESS, FAILING, TALK, TIMELESS, UNCOMPILABLE


def render(source: str, seconds: float = 5.0) -> str:
    return ChatTemplate(source, "<s>", "</s>").render(TALK, seconds=seconds)


@pytest.mark.parametrize("source", TIMELESS.values(), ids=TIMELESS.keys())
def test_what_does_not_end_is_stopped_by_the_clock(source: str) -> None:
    with pytest.raises(TemplateTimeError, match=r"more than 0\.2 s"):
        render(source, 0.2)


@pytest.mark.parametrize("source", BOUNDLESS.values(), ids=BOUNDLESS.keys())
def test_what_would_grow_is_stopped_before_it_has(source: str) -> None:
    with pytest.raises(TemplateLimitError) as caught:
        render(source, 60.0)
    assert not isinstance(caught.value, TemplateTimeError)
    assert len(str(caught.value)) < 100


@pytest.mark.parametrize(("source", "words"), FAILING.values(), ids=FAILING.keys())
def test_what_jinja_itself_stops_is_a_bad_request(source: str, words: str) -> None:
    with pytest.raises(BadRequestError, match=words):
        render(source)


@pytest.mark.parametrize("source", UNCOMPILABLE.values(), ids=UNCOMPILABLE.keys())
def test_what_python_cannot_compile_is_an_invalid_template(source: str) -> None:
    with pytest.raises(ConfigurationError, match="not valid"):
        render(source)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ 'ab' * 3 }}{{ 3 * 'ab' }}{{ ([1] * 3) | length }}", "abababababab3"),
        ("{{ 2**10 }} {{ 7 * 6 }} {{ 1.5 * 2 }} {{ 'a' + 'b' }} {{ [1] + [2] }}", None),
        ("{{ 'a' ~ 1 ~ none ~ [2] }}", "a1None[2]"),
        ("{{ [1, 'b', none] | join(', ') }} {{ '-'.join(['a', 'b']) }}", "1, b, None a-b"),
        ("{{ messages | map(attribute='role') | join('|') }}", "user|assistant"),
        ("{{ messages | join('|', attribute='role') }}", "user|assistant"),
        ("{{ 'aXbX' | replace('X', '--') }}{{ 'aXbX'.replace('X', '', 1) }}", "a--b--abX"),
        ("{{ '%5d|%s' % (7, 'x') }}{{ '%-3s|' | format('a') }}{{ '{:>4}'.format(1) }}", None),
        ("{{ 128000 | round }} {{ 128000 | center(8) }} {{ 128000 | tojson }}", None),
        ("{{ [1, 2, 3] | sum }}{{ [0.5] | sum }}", None),
        ("{% for a in 'ab' %}{{ loop.index }}/{{ loop.length }}{{ loop.last }} {% endfor %}", None),
        (
            "{% for m in messages %}{{ loop.previtem is defined }}{{ loop.last }}{% endfor %}",
            None,
        ),
        ("{% for x in nothing %}x{% else %}none{% endfor %}", "none"),
        ("{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}", "a1"),
        (
            "{% for a in [1, [2, [3]]] recursive %}{% if a is iterable %}({{ loop(a) }}){% else %}"
            "{{ a }}{% endif %}{% endfor %}",
            "1(2(3))",
        ),
        ("{% macro f(x) %}<{{ x }}>{% endmacro %}{{ f('a') ~ f(1) }}", "<a><1>"),
        ("{% set x %}a{{ 1 }}{% endset %}{{ x }}{% filter upper %}b{% endfilter %}", "a1B"),
    ],
)
def test_everything_else_reads_as_in_jinjas_own_sandbox(source: str, text: str | None) -> None:
    plain = ImmutableSandboxedEnvironment(extensions=[loopcontrols]).from_string(source)
    expected = plain.render(messages=TALK)
    assert render(source) == expected
    assert text is None or expected == text


class StubTokenizer:
    """What `ChatPrompts` asks of a tokenizer."""

    bos_token = eos_token = None

    def __init__(self, chat_template: str) -> None:
        self.chat_template = chat_template


def prompts_with(source: str) -> ChatPrompts:
    tokenizer: Any = StubTokenizer(source)
    return ChatPrompts(tokenizer, trusts_requests=False)


def test_what_takes_a_while_is_finished_apart() -> None:
    working = "{% set x = range(20000) | list %}"
    prompts = prompts_with("{% for i in range(3000) %}" + working + "{{ 'a' * 4000 }}{% endfor %}b")
    text = asyncio.run(prompts.render_served(TemplateInput(TALK)))
    assert text == "a" * 4000 * 3000 + "b"
    prompts.close()


def test_offline_a_limit_is_a_bad_request_too() -> None:
    prompts = prompts_with(BOUNDLESS["text times number"])
    with pytest.raises(BadRequestError, match="the chat template was stopped: it makes a text"):
        prompts.render(TemplateInput(TALK))
    prompts.close()
