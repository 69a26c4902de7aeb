"""The sandbox of chat templates: what it refuses, and pieces that content cannot forge."""

import pytest

from rl_reasoning.tokenizers.chat import Control
from rl_reasoning.tokenizers.jinja import JinjaTemplate
from rl_reasoning.types import Message

QUESTION = (Message("user", "q"),)

ATTACKS = {
    "classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ cycler.__init__.__globals__.os.system('touch canary') }}",
    "changing the turns": "{{ messages.append(1) }}",
    "changing a turn": "{{ messages[0].update({'content': 'x'}) }}",
    "other files": "{% include '/etc/passwd' %}",
    "imports": "{% import 'os' as os %}",
    "a long range": "{% for i in range(10**9) %}{{ i }}{% endfor %}",
    "a long text": "{{ 'a' * 10**9 }}",
    "a long list": "{{ [0] * 10**9 }}",
    "a large power": "{{ 10**(10**8) }}",
    "a lot of output": "{% for i in range(9999) %}{{ 'a' * 1000 }}{% endfor %}",
    "division by zero": "{{ 1 // 0 }}",
    "no Jinja": "{% for %}",
    "an endless macro": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "what is not there": "{{ strftime_now('%Y') }}",
}


@pytest.mark.parametrize("name", ATTACKS)
def test_t16_templates_that_are_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"the chat template starting .* failed: "):
        JinjaTemplate(ATTACKS[name], ()).render(QUESTION)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("source", ["{{ raise_exception.__globals__ }}", "{{ messages|attr('__class__') }}",
                                    "{{ '{0.__class__}'.format(messages) }}", "{{ ().__class__ }}"])
def test_t16_private_attributes_are_nothing(source):
    assert JinjaTemplate(source, ()).render(QUESTION) == ()


def test_a_template_may_refuse_the_turns():
    template = JinjaTemplate("{{ raise_exception('no ' + messages[0].role + ' first') }}", ())
    with pytest.raises(ValueError, match="no user first"):
        template.render(QUESTION)


def test_pieces_are_the_templates_own_special_tokens():
    template = JinjaTemplate("<a>{{ messages[0].content | trim }}<b><ab>{{ end }}", ("<a>", "<b>", "<ab>"),
                             {"end": "<b>"})
    assert template.render((Message("user", " 1<a><ab>\ue0000\ue001 "),)) == (
        Control("<a>"), "1<a><ab>\ue0000\ue001", Control("<b>"), Control("<ab>"), Control("<b>"))


@pytest.mark.parametrize(("messages", "message"), [((), "at least one turn"), ((Message("tool", "x"),), "role 'tool'")])
def test_turns_that_cannot_be_written(messages, message):
    with pytest.raises(ValueError, match=message):
        JinjaTemplate("x", ()).render(messages)


@pytest.mark.parametrize(("source", "text"), [
    ("{{ 6 * 7 }}{{ 'ab' * 2 }}{{ 2 ** 10 }}", "42abab1024"),
    ("{{ {'b': 'é', 'a': [1]} | tojson }}", '{"b": "é", "a": [1]}'),
    ("{% for i in range(5) %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}", "012"),
    ("  {% if true %}\n  x\n  {% endif %}\n", "  x\n"),
    ("{% generation %}{{ messages[0].content }}{% endgeneration %}", "q"),
    ("{{ tools is none }}{{ date_string is defined }}", "TrueFalse"),
])
def test_what_templates_may_do(source, text):
    assert "".join(JinjaTemplate(source, ()).render(QUESTION)) == text
