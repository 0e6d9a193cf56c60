"""`python -m quantexp.gate`: a sweep held to a policy, as a pipeline sees it."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from tests.support.copies import copied

Command = Callable[..., tuple[int, str, str]]

DOCS = Path(__file__).parents[1] / "docs"


def check_schema(content: dict[str, Any]) -> None:
    """Hold gate.json to its published schema: the keys there are, and the words that they may hold."""
    schema = json.loads((DOCS / "reference" / "gate.schema.json").read_text())
    assert content.keys() == set(schema["required"]) == schema["properties"].keys()
    assert content["schema"] == schema["properties"]["schema"]["const"]
    statuses = schema["$defs"]["status"]["enum"]
    assert content["status"] in statuses
    assert bool(content["pools"]) == (content["policy"]["pool"] != "none")
    for name in ("rulings", "pools", "comparisons"):
        item = schema["properties"][name]["items"]
        assert content[name] or name == "pools"
        for each in content[name]:
            assert each.keys() == set(item["required"]) == item["properties"].keys()
    rules = schema["properties"]["rulings"]["items"]["properties"]["rule"]["enum"]
    assert all(each["rule"] in rules and each["status"] in statuses for each in content["rulings"])


@pytest.fixture
def store(swept: Path, tmp_path: Path) -> Path:
    """A folder with a copy of the sweep."""
    copied(swept, tmp_path)
    return tmp_path


def test_a_gate_that_cannot_tell_blocks_unless_it_is_told_not_to(command: Command, store: Path) -> None:
    status, out, err = command(store, "quantexp.gate")
    assert (status, err) == (3, "")
    lines = out.splitlines()
    assert re.match(r"cannot tell: Q3_K_M on (triviaqa|extraction), margin: (inconclusive|nothing to lose)", lines[0])
    assert lines[-1].startswith("gate cannot tell, which blocks (policy.blocks); the baseline is Q8_0: gate/gate.md, ")
    content = json.loads((store / "gate" / "gate.json").read_text())
    check_schema(content)
    assert content["status"] == "inconclusive"
    assert {each["condition"] for each in content["rulings"]} == {"Q3_K_M"}
    suite = ElementTree.parse(store / "gate" / "gate.xml").getroot()[0]
    assert int(suite.attrib["errors"]) == len(content["rulings"]) == int(suite.attrib["tests"])
    assert "## Quantization gate: cannot tell" in (store / "gate" / "gate.md").read_text()

    status, out, _ = command(store, "quantexp.gate", "policy.blocks=false", "out=other")
    assert status == 0
    assert "gate cannot tell, which does not block" in out
    suite = ElementTree.parse(store / "other" / "gate.xml").getroot()[0]
    assert int(suite.attrib["skipped"]) == len(content["rulings"])


def test_a_gate_passes_and_fails(command: Command, store: Path) -> None:
    status, out, _ = command(store, "quantexp.gate", "policy.margin=0.99", "policy.conditions=[Q3_K_M]")
    passes = status == 0
    assert passes or "nothing to lose" in out, out
    # Answers of 64 tokens are cut off, most of them.
    status, out, _ = command(store, "quantexp.gate", "policy.most_truncated=0", "policy.margin=0.99")
    truncated = [line for line in out.splitlines() if "most_truncated" in line]
    assert truncated
    if any(line.startswith("FAIL") for line in truncated):
        assert status == 1
        suite = ElementTree.parse(store / "gate" / "gate.xml").getroot()[0]
        assert int(suite.attrib["failures"]) >= 1


def test_a_gate_on_the_pool_alone(command: Command, store: Path) -> None:
    arguments = ("policy.pool=items", "policy.pool_margin=0.99", "policy.each_task=false")
    status, out, _ = command(store, "quantexp.gate", *arguments)
    line, *rest = out.splitlines()
    assert line.startswith(("pass: Q3_K_M on pool, pool: ", "cannot tell: Q3_K_M on pool, pool: "))
    assert (status == 0) == line.startswith("pass")
    assert len(rest) == 1
    content = json.loads((store / "gate" / "gate.json").read_text())
    check_schema(content)
    [pool] = content["pools"]
    assert pool["tasks"] == ["triviaqa", "extraction"]
    assert pool["weights"] == [0.5, 0.5]
    assert content["rulings"][0]["rule"] == "pool"


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("policy.each_task=false", "policy.each_task=false leaves nothing to judge"),
        ("policy.pool=weights", "policy.pool=weights needs the weights of at least two tasks"),
        ("policy.pool_margin=0.1", "policy.pool_margin needs a pool"),
        ("policy.pool_weights={a: 1}", "policy.pool_weights are of policy.pool=weights"),
        ("policy.margin=2", "policy.margin=2"),
        ("policy.conditions=[Q4]", "policy.conditions names Q4, of which nothing was compared"),
        ("policy=strict", "strict"),
        ("stats=published", "stats=published gives none"),
        ("sweep=nothing", "nothing"),
    ],
)
def test_a_wrong_word_is_a_sentence(command: Command, store: Path, argument: str, said: str) -> None:
    status, _, err = command(store, "quantexp.gate", argument)
    assert status == 2
    assert said in err
    assert "Traceback" not in err


def test_the_documented_policy_and_pipelines_run(command: Command, store: Path) -> None:
    page = (DOCS / "how-to" / "gate.md").read_text()
    blocks = re.findall(r"^```yaml\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    policy, github, gitlab = blocks
    (store / "release" / "policy").mkdir(parents=True)
    (store / "release" / "policy" / "strict.yaml").write_text(policy)
    status, _, err = command(store, "quantexp.gate", "--config-dir", "release", "policy=strict")
    assert status in (1, 3), err
    content = json.loads((store / "gate" / "gate.json").read_text())
    assert content["policy"]["margin"] == 0.01
    assert content["policy"]["no_worse"] == ["all"]
    steps = [step["run"] for step in yaml.safe_load(github)["jobs"]["quantization"]["steps"] if "run" in step]
    script = yaml.safe_load(gitlab)["quantization"]["script"]
    for lines in (steps, script):
        [gate] = [shlex.split(line) for line in lines if "quantexp.gate" in line]
        assert gate[:3] == ["python", "-m", "quantexp.gate"]
        assert command(store, *gate[2:])[0] in (1, 3)
    assert "gate/gate.md" in steps[-1]
    assert (store / yaml.safe_load(gitlab)["quantization"]["artifacts"]["reports"]["junit"]).is_file()


def test_results_of_another_harness_are_held_to_a_policy(command: Command, tmp_path: Path) -> None:
    for name, right in (("base", 150), ("same", 150), ("worse", 110)):
        rows = [f"{n},{int(n < right)}" for n in range(200)]
        in_order = reversed(rows) if name == "same" else rows  # the same file twice would be refused
        (tmp_path / f"{name}.csv").write_text("\n".join(["id,score", *in_order]))
    status, out, err = command(tmp_path, "quantexp.gate", "base.csv", "same.csv", "policy.margin=0.05")
    assert status == 0, (out, err)
    assert out.startswith("pass: same on ")
    status, out, err = command(tmp_path, "quantexp.gate", "base.csv", "same.csv", "Q4=worse.csv", "policy.margin=0.05")
    assert status == 1, (out, err)
    assert [line.split(" on ")[0] for line in out.splitlines()[:2]] == ["pass: same", "FAIL: Q4"]
    # The baseline is the first, unless another is named.
    status, out, err = command(
        tmp_path, "quantexp.gate", "Q4=worse.csv", "Q8_0=base.csv", "policy.margin=0.05", "stats.baseline=Q8_0"
    )
    assert (status, err) == (1, "")
    assert out.startswith("FAIL: Q4 on ")
    assert "the baseline is Q8_0: " in out
    status, out, _ = command(tmp_path, "quantexp.gate", "Q4=worse.csv", "Q8_0=base.csv", "policy.margin=0.05")
    assert (status, "the baseline is Q4: " in out) == (0, True)
    status, _, err = command(tmp_path, "quantexp.gate", "base.csv", "same.csv", "stats.baseline=Q6_K")
    assert status == 2
    assert "stats.baseline=Q6_K: no results are called so; choose one of base, same" in err
    status, _, err = command(tmp_path, "quantexp.gate", "base.csv")
    assert status == 2
    assert "python -m quantexp.gate BASELINE OTHER" in err
