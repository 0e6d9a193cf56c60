"""Coverage-guided fuzzing of what reads bytes from elsewhere: `make fuzz`.

By hand: python -m tests.fuzz.targets TARGET OPTIONS, where OPTIONS are libFuzzer's, such as -max_total_time=600. What a
target finds becomes a test of its own elsewhere; the properties that the suite holds the same readers to are beside
their other tests.
"""

import json
import resource
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import atheris

with atheris.instrument_imports(include=["quantexp"]):
    from quantexp.models import gguf, gguf_header_process, gguf_probe_process, safetensors
    from quantexp.store import Completion, CompletionStore, segments
    from quantexp.tasks import TASKS
    from quantexp.tasks.code_text import find_code
    from quantexp.util.errors import UserError

from tests.support.gguf_files import write_gguf
from tests.tasks.test_graders import FIELDS

FOLDER = Path(tempfile.mkdtemp())


def graders(data: bytes) -> None:
    """Any text has a verdict between 0 and 1 that can be stored."""
    output = data.decode("utf-8", "replace")
    for task in TASKS.values():
        for grader in task.graders.values():
            if grader.needs:
                continue
            grade = grader.grade(output, FIELDS[task.name])
            assert 0 <= grade.score <= 1
            assert grade.extracted is None or grade.extracted.encode() is not None
            assert grade.error is None or grade.error.encode() is not None
    code = find_code(output, FIELDS["code"]["prompt"], "double")
    assert (code is None) == (not output.strip())


KEYS = [bytes([number]) * 32 for number in range(3)]
RECORDS = {
    key: Completion((number, 2), (-0.5, -1.0), f"{number}é\u2028", "stop", 0.5, 0.25, (3, 4) if number else None)
    for number, key in enumerate(KEYS)
}
LINES = [segments.encode(key, record, {"item": "1"}) for key, record in RECORDS.items()]


def whole_segments(data: bytes) -> None:
    """A damaged segment gives only records that were written."""
    path = FOLDER / "store" / "a.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    for key, record in CompletionStore(path.parent).lookup(KEYS).items():
        assert record == RECORDS[key] or not any(line in data for line in LINES)


def lines(data: bytes) -> None:
    """A line with a right checksum, whatever is behind it, is a record of the right types or none."""
    head = b"%s " % KEYS[0].hex().encode()
    content = data.replace(b"\n", b" ")
    line = b"%s%08x %s\n" % (head, crc32(content, crc32(head)), content)
    for read in (segments.decode, segments.about):
        try:
            found = read(line)
        except ValueError:
            continue
        if isinstance(found, tuple):
            key, record, about = found
            assert segments.encode(key, record, about)


def headers(data: bytes) -> None:
    """A GGUF, or a safetensors file, is read or refused in one sentence."""
    path = FOLDER / "a.gguf"
    path.write_bytes(data)
    try:
        gguf.identify(path, FOLDER)
    except UserError as error:
        said = str(error)
        assert said.isprintable()
    try:
        header = gguf_header_process.Header(data)
        assert len(json.dumps([header.metadata, header.special, header.tensors])) <= 100 * (len(data) + 100)
    except ValueError as error:
        said = str(error)
        assert said
    try:
        safetensors.read_header(path)
    except ValueError as error:
        said = str(error)
        assert said


def seeds(target: str) -> list[bytes]:
    """What mutation begins from."""
    if target == "headers":
        tensors = json.dumps({"a": {"dtype": "F16", "shape": [1], "data_offsets": [0, 2]}}).encode()
        [made] = write_gguf(FOLDER / "seed.gguf", "Q8_0", elements=64)
        return [made.read_bytes(), len(tensors).to_bytes(8, "little") + tensors + b"\0\0"]
    if target == "whole_segments":
        return [b"".join(LINES), *LINES, LINES[0][:-9]]
    if target == "lines":
        return [line[segments._JSON_START : -1] for line in LINES]
    texts = [task.target(FIELDS[name]) for name, task in TASKS.items()]
    return [
        text.encode()
        for text in (*texts, r"\boxed{\frac{1}{2}}", "```json\n{}\n```", "#### -$1,080.50", '["a", "\\n"]')
    ]


TARGETS: dict[str, Callable[[bytes], None]] = {
    "graders": graders,
    "whole_segments": whole_segments,
    "lines": lines,
    "headers": headers,
}


def main() -> None:
    """Fuzz the target that is named first."""
    _, target, *options = sys.argv
    corpus = FOLDER / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds(target)):
        (corpus / str(number)).write_bytes(seed)
    # A process for each file, as quantexp has it, would make this a thousand times slower; llama.cpp breaks down here.
    vars(gguf)["try_reading"] = lambda parts: ()
    resource.setrlimit(resource.RLIMIT_DATA, (gguf_probe_process.MEMORY, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    atheris.Setup([sys.argv[0], str(corpus), f"-artifact_prefix={FOLDER}/", "-timeout=20", *options], TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
