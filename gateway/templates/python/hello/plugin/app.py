"""Greets whoever is named: {"name": "Ada"} in, {"greeting": "Hello, Ada!"} out."""

from dataclasses import dataclass

from gw_sdk import HttpError, handler


@dataclass
class Input:
    name: str


@dataclass
class Answer:
    greeting: str


@handler
def greet(given: Input) -> Answer:
    name = given.name.strip()
    if not name:
        raise HttpError(422, "empty_name", "say whom to greet", field="name")
    return Answer(f"Hello, {name}!")
