"""Chat templates come with a model's file, from anyone: what they may do, and what comes of those that try more."""

import json
import re
import resource
import subprocess
import sys
from pathlib import Path

import jinja2.filters
import jinja2.tests
import psutil
import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment
from llama_cpp.llama_chat_format import Jinja2ChatFormatter
from running import until

from quantexp.engines.chat_template import ChatTemplate
from quantexp.engines.chat_template_process import LONGEST, MEMORY
from quantexp.util.errors import UserError

CHAT = [
    {"role": "user", "content": "One \N{SNOWMAN} \U0001f600 <b>&\n\n{{ 2 + 2 }}"},
    {"role": "assistant", "content": "two\\n\t\x00\x1b"},
    {"role": "user", "content": ""},
]

TEMPLATES = {
    "ChatML": "{% for m in messages %}\n<|im_start|>{{ m.role }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "white space": "  {%- for m in messages -%}  {{ m.content | trim }} {% endfor %}\n{% if tools %}no{% endif %}\n",
    "JSON": "{{ messages | tojson }} {{ messages[0] | tojson(indent=2) }} "
    "{{ {'b': 'é', 'a': 1} | tojson(sort_keys=true) }}",
    "loops": "{% for m in messages %}{% if loop.index0 == 1 %}{% continue %}{% endif %}{{ loop.first }}"
    "{% if loop.last %}{% break %}{% endif %}{% endfor %}",
    "namespace": "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + m.content | length %}"
    "{% endfor %}{{ ns.n }}{{ bos_token }}{{ eos_token }}{{ functions }}{{ tool_choice is none }}",
    "macro": "{% macro turn(m) %}[{{ m.role | upper }}]{{ caller() if caller else '' }}{% endmacro %}"
    "{% for m in messages %}{{ turn(m) }}{% endfor %}",
    "generation": "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
    "slices": "{{ messages[1:][0].content.split('o')[-1] }}{{ messages[::-1][0]['role'].startswith('u') }}",
}


@pytest.mark.parametrize("source", TEMPLATES.values(), ids=TEMPLATES)
def test_it_says_what_llama_cpp_pythons_own_says(source: str) -> None:
    theirs = Jinja2ChatFormatter(template=source, bos_token="<s>", eos_token="</s>")
    assert ChatTemplate(source, "<s>", "</s>").render(CHAT) == theirs(messages=list(CHAT)).prompt


ARGUMENTS = {
    "attr": "2 | attr('real')",
    "batch": "'abc' | batch(2) | list",
    "default": "nothing | default('d')",
    "d": "nothing | d('d')",
    "dictsort": "{'b': 1, 'a': 2} | dictsort",
    "format": "'%s %d' | format('a', 1)",
    "groupby": "[{'a': 1}] | groupby('a')",
    "items": "{'a': 1} | items | list",
    "join": "'abc' | join('-')",
    "map": "['a'] | map('upper') | list",
    "random": "['a'] | random",
    "reject": "[1, 2] | reject('odd') | list",
    "rejectattr": "[{'a': 1}] | rejectattr('a') | list",
    "replace": "'abc' | replace('a', 'b')",
    "reverse": "'abc' | reverse | list",
    "select": "[1, 2] | select('odd') | list",
    "selectattr": "[{'a': 1}] | selectattr('a') | list",
    "slice": "'abc' | slice(2) | list",
    "striptags": "'<b>a &eacute; &lt;</b>' | striptags",
    "sum": "[1, 2] | sum",
    "tojson": "[1, 'a'] | tojson",
    "truncate": "('a b c d' * 99) | truncate(9)",
    "unique": "'aba' | unique | list",
    "urlize": "'see http://example.org now' | urlize(9, true)",
    "wordwrap": "'a b c' | wordwrap(2)",
    "xmlattr": "{'a': 1} | xmlattr",
    **{name: f"-1234567 | {name}" for name in ("abs", "filesizeformat", "round")},
    "divisibleby": "4 is divisibleby 2",
    "filter": "'upper' is filter",
    "in": "1 is in [1]",
    "sameas": "none is sameas none",
    "test": "'odd' is test",
    **{name: f"3 is {name}" for name in ("even", "odd")},
}
"""An expression for each of Jinja's filters and tests that does not take a text alone."""

COMPARISONS = frozenset({"eq", "equalto", "ne", "gt", "greaterthan", "ge", "lt", "lessthan", "le"})


def test_every_filter_and_test_works_where_no_file_can_be_opened() -> None:
    ours = ImmutableSandboxedEnvironment()
    filters = [ARGUMENTS.get(name, f"'12 a' | {name}") for name in jinja2.filters.FILTERS]
    tests = [ARGUMENTS.get(name, f"'a' is {name}") for name in jinja2.tests.TESTS if name.isidentifier()]
    tests = [f"{each} 4".replace("'a'", "3") if each.rpartition(" ")[2] in COMPARISONS else each for each in tests]
    for expression in [*filters, *tests, "'\\N{SNOWMAN}'", "lipsum(1) | length > 9", "cycler(1).next()"]:
        source = f"{{{{ {expression} }}}}"
        assert ChatTemplate(source, "", "").render(CHAT) == ours.from_string(source).render(), source


LOSSES = {
    "": ["user", "assistant"],
    "# A README\n\n```\nmake demo\n```\n": ["user", "assistant"],
    "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}": ["assistant"],
    "{{ messages[-1].content }}": ["user", "assistant"],  # the first of the user's turns
    "{% for m in messages %}{{ m.content }}{% endfor %}": [],
    "{{ messages | tojson }}": [],
    "{% for m in messages %}{{ m.content | upper }}{% endfor %}": [],
    "{% for m in messages %}{{ m.content | trim | wordwrap(40) }}{% endfor %}": [],
}


@pytest.mark.parametrize(("source", "lost"), LOSSES.items())
def test_it_tells_whose_words_are_lost(source: str, lost: list[str]) -> None:
    assert ChatTemplate(source, "", "").find_lost(["user", "assistant", "user"]) == lost


ESCAPES = (
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__class__.__base__.__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ self.__init__.__globals__ }}",
    "{{ raise_exception.__globals__['__builtins__']['open']('/etc/passwd').read() }}",
    "{{ strftime_now.__self__.__class__.__mro__ }}",
    "{{ ('{0.__class__.__base__}' | attr('format'))(messages) }}",
    "{{ messages | attr('__class__') | attr('__base__') }}",
    "{{ messages.append({'role': 'system'}) }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}{{ os.environ }}",
    "{% extends '/etc/passwd' %}",
)


@pytest.mark.parametrize("source", ESCAPES)
def test_it_sees_nothing_but_the_chat(source: str) -> None:
    try:
        said = ChatTemplate(source, "", "").render(CHAT)
    except UserError as error:
        said = str(error)
        assert re.fullmatch(r"The model's chat template refuses the prompt \(.+\); give another with .+", said)
    assert not re.search("<class|uid=|root:|HOME|<function|<built-in", said)


SECONDS = 1
"""Of computing, where a template would take more of them; the product's own limit is as good, and takes longer."""

GREED = {
    "a long loop": ("{% for i in range(10**12) %}{% endfor %}", "Range too big"),
    "loops in loops": (
        "{% for i in range(99999) %}{% for j in range(99999) %}{% for k in range(99999) %}{% endfor %}{% endfor %}"
        "{% endfor %}",
        f"had not ended after {SECONDS} seconds",
    ),
    "one operation": ("{{ 9 ** (9 ** 9) }}", f"had not ended after {SECONDS} seconds|MB of memory"),
    "a wide field": ("{{ '%999999999999s' % 'a' }}", "MB of memory"),
    "a long text": ("{{ 'a' * 10**10 }}", f"more than {MEMORY >> 20} MB of memory"),
    "a text that fits": ("{{ 'a' * 10**8 }}", f"makes 100,000,000 characters of it, and {LONGEST:,} are the most"),
    "many small texts": ("{% for i in range(99999) %}{{ 'a' * 10**5 }}{% endfor %}", "MB of memory"),
    "doubling": (
        "{% set ns = namespace(t='ab') %}{% for i in range(60) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}",
        "MB of memory",
    ),
    "recursion": ("{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}", "without an end"),
}


MORE_GREED = {"one operation", "a wide field", "many small texts", "doubling"}


def computed() -> float:
    """Seconds of processor that processes have taken which this one started and which have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        pytest.param(*case, id=name, marks=pytest.mark.slow if name in MORE_GREED else ())
        for name, case in GREED.items()
    ],
)
def test_it_ends_within_seconds_and_bounded_memory(source: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "seconds" in reason:
        monkeypatch.setattr("quantexp.engines.chat_template.SECONDS", SECONDS)
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    before = computed()
    # What does not depend on the chat, Jinja computes while it reads the template.
    wrong = r"^The model's chat template (?:refuses the prompt|is not valid Jinja) "
    with pytest.raises(UserError, match=rf"{wrong}\(.*(?:{reason})"):
        ChatTemplate(source, "", "").render(CHAT)
    assert computed() - before < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - own < 500_000  # kB; the text itself is not sent
    # The next template finds everything as it should be.
    assert ChatTemplate("{{ messages[0].role }}", "", "").render(CHAT) == "user"


@pytest.mark.parametrize(
    "source", ["{{ " + "(" * 100_000, "{% if 1 %}" * 20_000, "{{ " + "-" * 200_000 + "1 }}", "\x00{%"]
)
def test_it_is_no_template(source: str) -> None:
    with pytest.raises(UserError, match=r"^The model's chat template is not valid Jinja \(.+\); give another with "):
        ChatTemplate(source, "", "")


def test_what_it_says_reaches_the_terminal_as_text() -> None:
    template = ChatTemplate("{{ raise_exception('\x1b[2J\u202e' ~ '\n' * 9 ~ 'x' * 9999) }}", "", "")
    with pytest.raises(UserError) as raised:
        template.render(CHAT)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 400


def renderers() -> list[psutil.Process]:
    return [each for each in psutil.Process().children() if "template_process.py" in " ".join(each.cmdline())]


def test_its_process_can_open_nothing_and_knows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    ChatTemplate("a", "", "").render(CHAT)
    [process] = renderers()
    process.kill()  # as somebody may; the next one is started here, with a secret that it must not be given
    process.wait(10)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with pytest.raises(UserError, match="broke down"):
        ChatTemplate("a", "", "").render(CHAT)
    assert ChatTemplate("a", "", "").render(CHAT) == "a"
    [process] = renderers()
    assert "HF_TOKEN" not in process.environ()
    assert process.num_fds() == 3
    limits = {
        line[:26].strip(): line[26:].split()[:2]
        for line in Path(f"/proc/{process.pid}/limits").read_text().splitlines()
    }
    assert limits["Max open files"] == ["0", "0"]
    assert limits["Max address space"] == [str(MEMORY), str(MEMORY)]


def test_it_ends_with_the_process_that_asked(tmp_path: Path) -> None:
    script = (
        "import os, sys\n"
        "from quantexp.engines.chat_template import ChatTemplate\n"
        "assert ChatTemplate('{{ messages }}', '', '').render([]) == '[]'\n"
        "child = os.fork()\n"
        "assert ChatTemplate('{{ messages }}', '', '').render([]) == '[]'\n"
        "os.waitpid(child, 0) if child else sys.exit()\n"
        "print(open(f'/proc/self/task/{os.getpid()}/children').read(), flush=True)\n"
        "sys.stdin.read()\n"
    )
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=tmp_path) as process:
        assert process.stdout is not None
        [renderer] = map(int, process.stdout.readline().split())
        process.kill()

    def is_gone() -> bool:
        return not psutil.pid_exists(renderer) or psutil.Process(renderer).status() == psutil.STATUS_ZOMBIE

    until("the renderer's end", is_gone)


TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
TELLS = "{% if tools %}[{{ tools | tojson }}]{% endif %}{% for m in messages %}{{ m.content }}{% endfor %}"


def test_it_is_given_functions_if_it_tells_of_them() -> None:
    chat = [{"role": "user", "content": "Hi"}]
    tells, silent = ChatTemplate(TELLS, "", ""), ChatTemplate(TEMPLATES["white space"], "", "")
    assert (tells.takes_tools, silent.takes_tools) == (True, False)  # the other one only looks if there are any
    assert tells.render(chat, [TOOL]) == f"[[{json.dumps(TOOL)}]]Hi"
    assert tells.render(chat) == "Hi"
    assert not ChatTemplate("{{ raise_exception('no') if tools }}{{ messages[0].content }}", "", "").takes_tools
