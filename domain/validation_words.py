"""Our own wording for pydantic's validation errors: for the API, the settings and the command line."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

_Context = Mapping[str, Any]

INTEGER_MAX: Final = 2**63

_WHOLE_NUMBER: Final = "must be a whole number"
_NUMBER: Final = "must be a number"
_TEXT: Final = "must be a string"
_OBJECT: Final = "must be an object"

_WORDS: Final[Mapping[str, str | Callable[[_Context], str]]] = {
    "missing": "is required",
    "extra_forbidden": "unknown field; it is not taken",
    "int_type": _WHOLE_NUMBER,
    "int_parsing": _WHOLE_NUMBER,
    "int_from_float": _WHOLE_NUMBER,
    "int_parsing_size": "must be a smaller number",
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": _TEXT,
    "string_unicode": "must be valid UTF-8",
    "string_too_short": lambda context: f"must have at least {_many(context['min_length'], 'character')}",
    "string_too_long": lambda context: f"must have at most {_many(context['max_length'], 'character')}",
    "string_pattern_mismatch": lambda context: (
        "must not be blank" if context["pattern"] == r"\S" else f"must match {context['pattern']}"
    ),
    "greater_than": lambda context: f"must be more than {context['gt']}",
    "greater_than_equal": lambda context: f"must be at least {context['ge']}",
    "less_than": lambda context: f"must be less than {context['lt']}",
    "less_than_equal": lambda context: f"must be at most {context['le']}",
    "literal_error": lambda context: f"must be {_unquoted(context['expected'])}",
    "enum": lambda context: f"must be {_unquoted(context['expected'])}",
    "none_required": "must be null",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "set_type": "must be a list",
    "dict_type": _OBJECT,
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
    "too_short": lambda context: f"must have at least {_many(context['min_length'], 'item')}",
    "too_long": lambda context: f"must have at most {_many(context['max_length'], 'item')}",
    "uuid_type": "must be an id, as in 2f1c1f9e-4a53-5b0e-9d43-5d0f6a3f8f11",
    "uuid_parsing": "must be an id, as in 2f1c1f9e-4a53-5b0e-9d43-5d0f6a3f8f11",
    "path_type": "must be a path",
    "datetime": "must be a time, as in 2031-05-04T12:00:00Z",
}
"""Wording by pydantic's error type, which is a stable identifier."""


def words_for(error: Mapping[str, Any]) -> str:
    """What is wrong, from an entry of pydantic's `errors()`: a predicate such as "must be at least 1"."""
    kind = "datetime" if error["type"].startswith("datetime_") else error["type"]
    if kind == "int_type" and isinstance(error.get("input"), float) and abs(error["input"]) >= INTEGER_MAX:
        return f"is too large; at most {INTEGER_MAX - 1}"  # JSON's integers of more than 64 bits arrive as floats
    words = _WORDS.get(kind)
    if words is None:  # our own check's message, or a rare error
        message = str(error["msg"]).removeprefix("Value error, ")
        message = re.sub(r"^(Input|Value) should ", "must ", message)
        return message[:1].lower() + message[1:]
    return words if isinstance(words, str) else words(error.get("ctx", {}))


def _many(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _unquoted(choices: str) -> str:
    """`'a', 'b' or 'c'` without the quotes."""
    return re.sub(r"'([^']*)'", r"\1", choices)
