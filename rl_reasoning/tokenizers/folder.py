"""Tokenizers of Hugging Face folders: tokenizer.json, or a sentencepiece .model, with the chat template.

Only JSON, Jinja and protobuf data are read, by the `tokenizers` and `sentencepiece` packages; no code of a folder
is imported.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rl_reasoning.json_file import read_json, read_text
from rl_reasoning.tokenizers.chat import Control
from rl_reasoning.tokenizers.jinja import JinjaTemplate
from rl_reasoning.tokenizers.prompts import PromptTokenizer, Template

JSON, SENTENCEPIECE = "tokenizer.json", "tokenizer.model"
FILES = (JSON, SENTENCEPIECE, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
         "merges.txt", "chat_template.jinja", "generation_config.json")
_TEMPLATE_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")


class JsonTokenizer(PromptTokenizer):
    """The pipeline of a tokenizer.json, as the `tokenizers` package runs it.

    Args:
      pipeline: a `tokenizers.Tokenizer`.
      eos_id: the token that ends an answer.
      template: how chat turns are written, or None.

    Attributes:
      vocabulary_size: one more than the largest id.
      eos_id: the token that ends an answer.

    Raises ValueError when an id is not in the vocabulary, or the template's special tokens are not.
    """

    def __init__(self, pipeline: Any, *, eos_id: int, template: Template | None = None):
        added = pipeline.get_added_tokens_decoder()
        super().__init__({token.content: i for i, token in added.items() if token.special}, template)
        pipeline.no_truncation()
        pipeline.no_padding()
        self._pipeline = pipeline
        self.vocabulary_size = max(pipeline.get_vocab(with_added_tokens=True).values()) + 1
        self.eos_id = _checked_id(eos_id, self.vocabulary_size)

    def encode(self, text: str) -> list[int]:
        """Ids of a text; nothing is added, and no special token is recognised in it."""
        return self._encode(text, add=False, special=False)

    def encode_text_prompt(self, text: str) -> list[int]:
        """Ids of a prompt without turns, with the first token that the tokenizer's own post-processor puts there."""
        return self._encode(text, add=True, special=False)

    def encode_pieces(self, pieces: Sequence[Control | str]) -> list[int]:
        """Ids of special tokens and texts; as one text where no text spells a special token, as models were trained."""
        words = [piece for piece in pieces if isinstance(piece, str)]
        if any(token in word for word in words for token in self._special):
            return super().encode_pieces(pieces)
        whole = "".join(piece if isinstance(piece, str) else piece.token for piece in pieces)
        return self._encode(whole, add=False, special=True)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of some ids, special tokens left out; so are ids of the model's spare rows, which are no tokens.

        Raises ValueError on a negative id.
        """
        ids = [int(i) for i in ids]
        if min(ids, default=0) < 0:
            raise ValueError(f"token id {min(ids)} is negative")
        return self._pipeline.decode([i for i in ids if i < self.vocabulary_size], skip_special_tokens=True)

    def _encode(self, text: str, *, add: bool, special: bool) -> list[int]:
        self._pipeline.encode_special_tokens = not special
        return self._pipeline.encode(text, add_special_tokens=add).ids


class SentencePieceTokenizer(PromptTokenizer):
    """A sentencepiece model. Its control symbols are never recognised in a text.

    Args:
      path: the .model file.
      bos: whether a prompt without turns starts with the model's first token.
      template: how chat turns are written, or None.

    Attributes:
      vocabulary_size: number of ids. eos_id: the token that ends an answer.

    Raises:
      ValueError: no sentencepiece model, or one without an end of sequence.
      ImportError: the sentencepiece package is not installed.
    """

    def __init__(self, path: str | Path, *, bos: bool = False, template: Template | None = None):
        self._model = _sentencepiece(Path(path))
        self.vocabulary_size, self.eos_id = self._model.vocab_size(), self._model.eos_id()
        if self.eos_id < 0:
            raise ValueError(f"{path} has no end of sequence; train it with one")
        self._bos = [self._model.bos_id()] if bos and self._model.bos_id() >= 0 else []
        special = [i for i in range(self.vocabulary_size) if self._model.is_control(i)]
        super().__init__({self._model.id_to_piece(i): i for i in special}, template)

    def encode(self, text: str) -> list[int]:
        """Ids of a text; nothing is added."""
        return self._model.encode(text)

    def encode_text_prompt(self, text: str) -> list[int]:
        """Ids of a prompt without turns, after the first token where the model expects one."""
        return [*self._bos, *self.encode(text)]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of some ids, special tokens and ids of the model's spare rows left out."""
        return self._model.decode([int(i) for i in ids if i < self.vocabulary_size and i not in self._special_ids])


def read_tokenizer(folder: str | Path) -> JsonTokenizer | SentencePieceTokenizer:
    """The tokenizer of a Hugging Face folder.

    Answers end with tokenizer_config.json's eos_token, else with the first eos_token_id of generation_config.json
    or config.json.

    Raises:
      FileNotFoundError: the folder holds no tokenizer.
      ValueError: a damaged file, no end of sequence, or a template that needs what is not there; names the file.
      ImportError: the package that reads it is not installed.
    """
    folder = Path(folder)
    settings = _optional(folder / "tokenizer_config.json")
    if (folder / JSON).is_file():
        return _json_tokenizer(folder, settings)
    if not (folder / SENTENCEPIECE).is_file():
        raise FileNotFoundError(f"{folder} holds neither {JSON} nor {SENTENCEPIECE}")
    path = folder / SENTENCEPIECE
    tokenizer = SentencePieceTokenizer(path, bos=settings.get("add_bos_token") is not False)
    source = _template_source(folder, settings)
    return tokenizer.with_template(_template(source, tokenizer.special_tokens, settings)) if source else tokenizer


def _json_tokenizer(folder: Path, settings: Mapping[str, Any]) -> JsonTokenizer:
    try:
        import tokenizers
    except ImportError as error:
        raise ImportError("tokenizer.json needs the tokenizers package: pip install -e '.[lm]'") from error
    path = folder / JSON
    text = read_text(path)
    try:
        pipeline = tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the package raises Exception itself
        raise ValueError(f"{path} is no readable tokenizer: {error}") from error
    special = tuple(token.content for token in pipeline.get_added_tokens_decoder().values() if token.special)
    source = _template_source(folder, settings)
    try:
        return JsonTokenizer(pipeline, eos_id=_eos(folder, settings, pipeline),
                             template=_template(source, special, settings) if source else None)
    except ValueError as error:
        raise ValueError(str(error) if str(folder) in str(error) else f"{path}: {error}") from error


def _eos(folder: Path, settings: Mapping[str, Any], pipeline: Any) -> int:
    token = _content(settings.get("eos_token"))
    if token is not None:
        found = pipeline.token_to_id(token)
        if found is None:
            raise ValueError(f"{folder / 'tokenizer_config.json'}: eos_token {token!r} is not in {JSON}")
        return found
    for name in ("generation_config.json", "config.json"):
        ids = _optional(folder / name).get("eos_token_id")
        ids = ids[0] if isinstance(ids, list) and ids else ids
        if isinstance(ids, int):
            return ids
    raise ValueError(f"{folder} says nowhere which token ends an answer; give eos_token in tokenizer_config.json")


def _template_source(folder: Path, settings: Mapping[str, Any]) -> str | None:
    """chat_template.jinja, else the template, or that named "default", of tokenizer_config.json."""
    if (folder / "chat_template.jinja").is_file():
        return read_text(folder / "chat_template.jinja")
    found = settings.get("chat_template")
    if isinstance(found, list):
        found = next((entry.get("template") for entry in found
                      if isinstance(entry, dict) and entry.get("name") == "default"), None)
    if found is not None and not isinstance(found, str):
        raise ValueError(f"{folder / 'tokenizer_config.json'}: chat_template is no text")
    return found


def _template(source: str, special: tuple[str, ...], settings: Mapping[str, Any]) -> JinjaTemplate:
    tokens = {name: _content(settings.get(name)) for name in _TEMPLATE_TOKENS}
    return JinjaTemplate(source, special, {name: token for name, token in tokens.items() if token is not None})


def _content(token: Any) -> str | None:
    """The text of a special token, which a config gives as a text or as an object."""
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else None


def _optional(path: Path) -> dict[str, Any]:
    """A JSON object, or {} where there is no file."""
    return read_json(path) if path.is_file() else {}


def _sentencepiece(path: Path) -> Any:
    try:
        import sentencepiece
    except ImportError as error:
        raise ImportError("a sentencepiece model needs the sentencepiece package") from error
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there")
    try:
        return sentencepiece.SentencePieceProcessor(model_file=str(path))
    except (RuntimeError, OSError) as error:
        raise ValueError(f"{path} is no readable sentencepiece model: {error}") from error


def _checked_id(i: int, size: int) -> int:
    if not 0 <= i < size:
        raise ValueError(f"token id {i} is not in 0..{size - 1}")
    return i
