"""Templates that would run for ever, fill the memory, or break what reads them."""

from typing import Any

TALK: list[dict[str, Any]] = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
]
NESTED_LOOPS = "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}"
DOUBLING = (
    "{% set n = namespace(x=START) %}{% for i in range(60) %}{% set n.x = STEP %}{% endfor %}"
)
TIMELESS = {
    "nested loops": NESTED_LOOPS,
    "loops over texts": "{% set t = 'a' * 10**7 %}{% for i in t %}{% for j in t %}"
    "{% endfor %}{% endfor %}",
    "macros that branch": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}"
    "{% endif %}{% endmacro %}{{ f(60) }}",
    "filters in a loop": "{% for i in range(100000) %}"
    "{{ range(100000) | map('string') | list | length }}{% endfor %}",
    "searching in a loop": "{% set all = range(100000) | list %}{% for i in range(100000) %}"
    "{% if -1 in all %}{% endif %}{% endfor %}",
}
BOUNDLESS = {
    "text times number": "{{ 'a' * 10**9 }}",
    "number times text": "{{ 10**9 * 'a' }}",
    "text times literal": "{{ 'a' * 1000000000 }}",
    "list times number": "{{ ([0] * 10**9) | length }}",
    "power": "{{ 9**(9**9) }}",
    "squares": DOUBLING.replace("START", "3").replace("STEP", "n.x * n.x"),
    "text joined to itself": DOUBLING.replace("START", "'a'").replace("STEP", "n.x ~ n.x"),
    "text added to itself": DOUBLING.replace("START", "'a'").replace("STEP", "n.x + n.x"),
    "list added to itself": DOUBLING.replace("START", "[1]").replace("STEP", "n.x + n.x"),
    "join as a filter": "{{ (['a' * 10**7] * 10**5) | join }}",
    "join as a method": "{{ ''.join(['a' * 10**7] * 10**5) }}",
    "join of an attribute": "{{ ([{'x': 'a' * 10**7}] * 10**5) | join(attribute='x') }}",
    "replace as a filter": "{% set t = 'a' * 10**5 %}{{ t | replace('a', t) }}",
    "replace as a method": "{% set t = 'a' * 10**5 %}{{ t.replace('a', t) }}",
    "centre": "{{ 'a' | center(10**9) }}",
    "centre by a literal": "{{ 'a' | center(1000000000) }}",
    "left": "{{ 'a'.ljust(10**9) }}",
    "zeros": "{{ 'a'.zfill(10**9) }}",
    "tabs": "{{ '\\t'.expandtabs(10**9) }}",
    "method by its name": "{{ ('a' | attr('center'))(10**9) }}",
    "percent": "{{ '%1000000000d' % 1 }}",
    "percent and a star": "{{ '%*d' % (10**9, 1) }}",
    "format as a filter": "{{ '%1000000000d' | format(1) }}",
    "format as a method": "{{ '{:1000000000}'.format(1) }}",
    "format and a nested width": "{{ '{:{}}'.format(1, 10**9) }}",
    "format of a mapping": "{{ '{a:1000000000}'.format_map({'a': 1}) }}",
    "indent": "{{ 'a\\nb' | indent(10**9) }}",
    "indent of json": "{{ [1] | tojson(indent=10**9) }}",
    "batch": "{{ [1] | batch(10**9, 0) | list }}",
    "slice": "{{ [1] | slice(10**9) | list | length }}",
    "round": "{{ 1.5 | round(10**9, 'ceil') }}",
    "sum of lists": "{{ ([[1]] * 1000) | sum(start=[]) }}",
    "much output": "{% for i in range(100000) %}{{ 'a' * 10**5 }}{% endfor %}",
    "much kept": "{% set n = namespace(x=[]) %}{% for i in range(100000) %}"
    "{% set n.x = n.x + ['a' * 10**7] %}{% endfor %}",
    "a large block": "{% set x %}{% for i in range(100000) %}{{ 'a' * 10**6 }}"
    "{% endfor %}{% endset %}",
}
FAILING = {
    "a long range": ("{% for i in range(10**9) %}{% endfor %}", "Range too big"),
    "endless recursion": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
    "a loop into itself": (
        "{% for i in range(9) recursive %}{{ loop(range(9)) }}{% endfor %}",
        "RecursionError",
    ),
    "filler text": ("{{ lipsum(n=100000) }}", "'lipsum' is undefined"),
}
UNCOMPILABLE = {
    "deep parentheses": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "deep loops": "{% for a in 'a' %}" * 30 + "{% endfor %}" * 30,
    "many negations": "{{ " + "not " * 100_000 + "1 }}",
}
SHARED_HALVES = (
    "{% set n = namespace(x=[0]) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}"
    "{{ n.x | string | length }}"
)
