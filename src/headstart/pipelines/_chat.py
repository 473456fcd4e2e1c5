"""Conversations as prompts: the chat template that a model brings, rendered in a sandbox."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from headstart.core.backbone import Network
from headstart.core.errors import DataError, HubError, UsageError
from headstart.core.registry import require
from headstart.pipelines._text import plain, settings, special

ROLES = ("system", "user", "assistant", "tool")


def messages_of(given: Any) -> list[dict[str, Any]] | None:
    """Return a conversation: a list of messages, or its JSON; None where the input is a plain text.

    Raises:
        DataError: a message lacks its role or its content.
    """
    if isinstance(given, str):
        if not given.lstrip().startswith("[{"):
            return None
        try:
            given = json.loads(given)
        except ValueError:
            return None
    if not isinstance(given, (list, tuple)):
        return None
    for each in given:
        if not isinstance(each, Mapping) or each.get("role") not in ROLES or "content" not in each:
            raise DataError(
                f"A conversation cannot be read at {json.dumps(each, default=str)[:80]}.",
                allowed='Messages look like {"role": "user", "content": "Hello"}; roles: ' + ", ".join(ROLES) + ".",
            )
    if not given:
        raise DataError("The conversation is empty.")
    return [dict(each) for each in given]


def prompt(network: Network, messages: Sequence[Mapping[str, Any]], whole: bool = False) -> str:
    """Return a conversation as the text that the model continues with its answer.

    Args:
        whole: the answer is there already: the text ends with it.

    Raises:
        HubError: the model brings no chat template, or a broken one.
        DataError: the template refuses the conversation.
    """
    template = template_of(network)
    if not template:
        raise UsageError(
            f"'{network.backbone.reference}' brings no chat template.", hint="Leave --chat and --system out."
        )
    errors = require("jinja2", "chat")
    try:
        return _compiled(template).render(
            messages=messages, tools=None, documents=None, add_generation_prompt=not whole, **special(network)
        )
    except errors.TemplateSyntaxError as error:
        raise HubError(f"The chat template of '{network.backbone.reference}' is broken: {error}.") from error
    except errors.TemplateError as error:
        raise DataError(f"The model's chat template refuses this conversation: {error}.") from error


def template_of(network: Network) -> str:
    """Return the model's chat template; empty where it neither brings one nor was given one."""
    if network.preprocessing.get("chat_template"):
        return str(network.preprocessing["chat_template"])
    file = network.folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    for name in ("tokenizer_config.json", "chat_template.json", "processor_config.json"):
        found = settings(network, name).get("chat_template")
        if isinstance(found, list):
            named = {each.get("name"): each.get("template") for each in found if isinstance(each, Mapping)}
            found = named.get("default") or next(iter(named.values()), "")
        if isinstance(found, str) and found:
            return found
    return ""


@lru_cache(maxsize=8)
def _compiled(template: str) -> Any:
    """Return a template in jinja2's sandbox, with what templates written for transformers expect."""
    jinja2, nodes = require("jinja2", "chat"), require("jinja2.nodes", "chat")
    sandbox, extensions = require("jinja2.sandbox", "chat"), require("jinja2.ext", "chat")

    class Generation(extensions.Extension):  # type: ignore[misc, name-defined]
        """`{% generation %}` marks what the assistant says; the text stays as it is."""

        tags = frozenset({"generation"})

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    def tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **how: Any) -> str:
        known = {name: each for name, each in how.items() if name in ("separators", "sort_keys")}
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **known)

    environment = sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, extensions.loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda shape: datetime.datetime.now().strftime(shape)
    return environment.from_string(template)


def conversation(given: Any, system: str | None) -> list[dict[str, Any]]:
    """Return the messages of an input: a conversation, or one thing that the user says; the system's words first."""
    messages = messages_of(given) or [{"role": "user", "content": plain(given)}]
    return [{"role": "system", "content": system}, *messages] if system else messages
