"""Writes small tokenizers as Hugging Face folders hold them, with chat templates of the constructs that families use.

The templates are written for these tests: they use what the templates of Qwen2.5, Qwen3 and Llama 3 use (tools
branches, namespaces, slices, splits, trims, tests, refusals, dates), and are not those.
"""

import json
import random
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from rl_reasoning.types import Message
from tests.models.gguf_fixture import TEMPLATE as SMOLLM2

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin|>", "<|head|>", "<|tail|>")
WORDS = ("<think>", "</think>")  # added, and not special, as Qwen3 has them
_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
          r"\s+(?!\S)|\s+")

_TOOLS = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- endif %}
    {{- '\\n# Tools\\n' }}
    {%- for tool in tools %}
        {{- tool | tojson }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nYou are helpful.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first)
            or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

_THINKING = """{%- set ns = namespace(last=-1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.last == -1 and message.role == "user" and message.content is string %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content %}
    {%- if message.role == "assistant" and '</think>' in content %}
        {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- if loop.index0 > ns.last %}
            {%- set content = '<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content %}
        {%- endif %}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""

_HEADS = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = "1 Jan 2020" %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system = "" %}
{%- endif %}
{{- "<|head|>system<|tail|>\\n\\nToday: " + date_string + "\\n\\n" + system + "<|im_end|>" }}
{% for message in messages %}
    {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception("turns must alternate") }}
    {% endif %}
    {% generation %}
    {{- "<|head|>" ~ message['role'] ~ "<|tail|>\\n\\n" ~ message['content'] | trim ~ "<|im_end|>" }}
    {% endgeneration %}
{% endfor %}
{%- if add_generation_prompt %}
    {{- '<|head|>assistant<|tail|>\\n\\n' }}
{%- endif %}
"""

TEMPLATES = {"tools": _TOOLS, "thinking": _THINKING, "heads": _HEADS, "smollm2": SMOLLM2}
CHATS = {
    "question": (Message("user", "What is 2 + 2?"),),
    "system": (Message("system", "  Be brief. "), Message("user", "Hi\nthere ")),
    "turns": (Message("user", "a?"), Message("assistant", "<think>\nhm\n</think>\n\n b"),
              Message("user", " 日本 🙂 ½\t")),
}


def corpus(lines: int = 300, seed: int = 0) -> list[str]:
    """Lines in several scripts, of code and of mathematics."""
    rng = random.Random(seed)
    words = ("the proof follows since every number greater than one has a prime factor Größe für naïve café señor "
             "число простое делится 数学 証明 素数です 정수 αβγ ∑ ∫ ≤ \\frac{a}{b} x^2 e^{i\\pi} \\boxed{42} 3.14159 "
             "1,000 def return lambda: self.x += 1; if(x!=0){y=x/2;} \"quoted\" don't we'll 🙂 👩‍👩‍👧 ½ ² ٣٤ \t   ")
    words = words.split(" ")
    return ["".join(rng.choice(words) + rng.choice((" ", " ", " ", "  ", "\n", "", ", ")) for _ in range(12))
            for _ in range(lines)]


def pipeline() -> Tokenizer:
    """A byte-level BPE tokenizer of Qwen's kind, trained on `corpus`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=500, special_tokens=[], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in WORDS])
    return tokenizer


def write(folder: Path, template: str | None = "tools", *, bos: bool = False) -> Path:
    """Writes tokenizer.json and tokenizer_config.json. template: a name of `TEMPLATES`, or a template's text."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = pipeline()
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|begin|> $A", special_tokens=[("<|begin|>", tokenizer.token_to_id("<|begin|>"))])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"eos_token": {"__type": "AddedToken", "content": "<|im_end|>", "special": True},
                "bos_token": "<|begin|>", "tokenizer_class": "PreTrainedTokenizerFast"}
    if template:
        settings["chat_template"] = TEMPLATES.get(template, template)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder
