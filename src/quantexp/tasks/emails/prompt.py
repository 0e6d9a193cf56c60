"""The words that ask for an e-mail, and the schema that the answer must fit."""

import hashlib
import json
from dataclasses import asdict
from functools import cache
from importlib.resources import files
from typing import Annotated, Any

from omegaconf import OmegaConf
from pydantic import BaseModel, ConfigDict, Field

from quantexp.tasks.emails.plan import LENGTHS, EmailPlan
from quantexp.tasks.extraction import CATEGORIES, URGENCIES

VERSION = 1
"""Raised with every change of the words below; the task's own words have a version of their own."""

CHARACTERS_A_TOKEN = 4
"""Of English text, roughly, under the tokenizers of today; good enough to estimate a cost by."""

_SYSTEM = """\
You write e-mails to the customer support of invented companies, with their labels, for a data set that tests how well \
programs read such e-mails. A program will be given your e-mail with these instructions, so that your labels must be \
what a careful reader finds by them:

{instructions}

Rules:
- Write in English, as a real customer would. Persons, companies, products and numbers are invented; addresses end in \
example.com. No placeholders in brackets.
- The e-mail must show its category and its urgency by what it says; it never names them.
- The customer wants exactly one thing solved now. What is solved already or only mentioned does not count.
- "customer_name" is copied from the e-mail, letter by letter, without a title; null where the e-mail does not hold it.
- Be original: neither the usual opening phrases nor the usual story."""

_USER = """\
Write one e-mail.
- issue_category: {category}
- urgency: {urgency}
- name: {name}
- the company sells: {domain}
- length: {length}
- tone: {tone}
- the customer comes from: {origin}
- also in it: {twist}"""

_NAMED = 'the customer signs with first name and surname, the first name beginning with "{initial}"'
_NAMELESS = "the customer's name stands nowhere, neither in a signature nor in an address; customer_name is null"


class Email(BaseModel):
    """Answer of a model: an e-mail and its gold fields, in the order in which they are written."""

    model_config = ConfigDict(extra="forbid", strict=True, str_strip_whitespace=True)

    email: Annotated[str, Field(description="the whole e-mail")]
    customer_name: Annotated[str | None, Field(description="as it stands in the e-mail, without a title, or null")]
    issue_category: Annotated[str, Field(json_schema_extra={"enum": list(CATEGORIES)})]
    urgency: Annotated[str, Field(json_schema_extra={"enum": list(URGENCIES)})]
    requested_action: Annotated[str, Field(description="what the customer wants done, in one short sentence")]


@cache
def schema() -> dict[str, Any]:
    """Return the JSON schema of `Email`; it keeps to the subset that strict structured outputs allow."""
    return Email.model_json_schema()


@cache
def _task_prompt() -> tuple[int, str]:
    """Version and words of the prompt under which the e-mails will be read: only there do the definitions stand."""
    prompt = OmegaConf.load(str(files("quantexp.conf") / "task" / "extraction.yaml")).prompt
    return int(prompt.version), str(prompt.instructions)


def prompt_version() -> str:
    """Return the version of the words here and of the task's, as in "1 (task 1)"."""
    return f"{VERSION} (task {_task_prompt()[0]})"


def messages(plan: EmailPlan) -> list[dict[str, str]]:
    """Return the chat that asks for the e-mail."""
    name = _NAMED.format(initial=plan.initial) if plan.named else _NAMELESS
    return [
        {"role": "system", "content": _SYSTEM.format(instructions=_task_prompt()[1])},
        {"role": "user", "content": _USER.format(name=name, **asdict(plan))},
    ]


def prompt_sha256(plan: EmailPlan) -> str:
    """sha256 of all that the model reads: chat and schema."""
    read = {"messages": messages(plan), "schema": schema()}
    return hashlib.sha256(json.dumps(read, ensure_ascii=False, sort_keys=True).encode()).hexdigest()


def expected_tokens(plan: EmailPlan) -> tuple[int, int]:
    """Roughly, the tokens read and written for one answer."""
    characters = sum(len(message["content"]) for message in messages(plan)) + len(json.dumps(schema()))
    return characters // CHARACTERS_A_TOKEN, _EXPECTED_ANSWER[LENGTHS.index(plan.length)]


_EXPECTED_ANSWER = (110, 150, 210, 320)
"""Tokens of an answer for each of LENGTHS: four for three words of the e-mail, its labels, and JSON around them."""
