"""`python -m quantexp.generate_extraction` against a real server: llama_cpp.server with the embedded model."""

import pytest
from tests.tasks.emails.conftest import Folder

from quantexp.tasks.emails.prompt import Email


@pytest.mark.slow
def test_constrained_answers_are_in_the_schema_and_checked_all_the_same(folder: Folder, llama_cpp_server: str) -> None:
    """So small a model writes no usable e-mail, or hardly ever; what it writes has the form, and is kept and judged."""
    command = ("structured=json_object", "api_key_variable=null", "model.name=demo", f"base_url={llama_cpp_server}")
    small = ("items=2", "attempts=2", "max_tokens=160", "concurrency=2", "yes=true")
    ended = folder.start("generate_extraction", *command, *small).end()
    assert ended.err == ""
    records = folder.lines(".records")
    assert 2 <= len(records) <= 4
    for record in records:
        assert record["finish_reason"] in {"stop", "length"}
        if record["finish_reason"] == "stop":
            Email.model_validate_json(record["answer"])
        assert record["reason"] != "not in the schema"
        assert record["input_tokens"] > 100
        assert 0 < record["output_tokens"] <= 160
    accepted = sum(record["accepted"] for record in records)
    assert len(folder.lines()) == accepted
    assert ended.status == (0 if accepted == 2 else 1)
    assert f"({accepted} of 2)" in ended.out
