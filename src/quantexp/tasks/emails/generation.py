"""From the plan to the e-mails: what is there, what is missing, and several requests at once for that."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from quantexp.config.emails import GenerateConfig
from quantexp.tasks.emails.checks import Accepted, Problem, problem_of_answer, problem_of_email
from quantexp.tasks.emails.client import Answer, Client
from quantexp.tasks.emails.plan import email_plan, request_seed
from quantexp.tasks.emails.prompt import Email, expected_tokens, prompt_sha256, prompt_version
from quantexp.tasks.emails.records import Journal, Record, item_id, item_sha256
from quantexp.util.errors import UserError
from quantexp.util.openai_client import NoAnswerError

FAILURES_IN_A_ROW = 5
"""Requests without an answer, retries included, after which there is no use in going on."""


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens."""

    input: float
    output: float

    def of(self, input_tokens: int, output_tokens: int) -> float:
        """US dollars for so many tokens."""
        return (input_tokens * self.input + output_tokens * self.output) / 1e6


OPENAI_PRICES = {"gpt-4o-mini": Price(0.15, 0.60), "gpt-4o-mini-2024-07-18": Price(0.15, 0.60)}
"""Of OpenAI's models, without discounts for cached input or batches; from its list of prices."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Rough estimate of the missing e-mails' cost.

    Attributes:
        requests: if every answer is accepted.
        input_tokens: read, likewise.
        output_tokens: written, likewise.
        most_input_tokens: if every e-mail takes all attempts.
        most_output_tokens: likewise, and every answer is as long as it may be.
    """

    requests: int
    input_tokens: int
    output_tokens: int
    most_input_tokens: int
    most_output_tokens: int


class Making:
    """The e-mails of one file, and what is known of them.

    Attributes:
        plans: of all slots.
        records: all answers so far, of this run and earlier ones.
        left: for each slot that this run has tried and left open, why.
    """

    def __init__(self, config: GenerateConfig, records: Sequence[Record], rejected: frozenset[str]) -> None:
        """Take stock.

        Args:
            config: what is asked for.
            records: what was answered in earlier runs.
            rejected: sha256 of the items that a reviewer has rejected.
        """
        self._config = config
        self._rejected = rejected
        self._accepted = Accepted()
        self._filled: dict[int, Record] = {}
        self._attempts: Counter[int] = Counter()
        self._failures = 0
        self.plans = [email_plan(slot, config.seed, config.nameless) for slot in range(config.items)]
        self.records: list[Record] = []
        self.left: dict[int, str] = {}
        for record in records:
            self._take(record)

    @property
    def items(self) -> list[dict[str, object]]:
        """The accepted e-mails, in the order of their slots."""
        return [self._filled[plan.slot].item for plan in self.plans if plan.slot in self._filled]

    @property
    def open_slots(self) -> list[int]:
        """The slots that have no e-mail."""
        return [plan.slot for plan in self.plans if plan.slot not in self._filled]

    @property
    def reopened(self) -> int:
        """Number of open slots that had an e-mail until a reviewer rejected it."""
        return len({record.slot for record in self.records if record.accepted}.intersection(self.open_slots))

    def estimate(self) -> Estimate:
        """Estimate the cost of the open slots."""
        expected = [expected_tokens(self.plans[slot]) for slot in self.open_slots]
        read, written = sum(tokens for tokens, _ in expected), sum(tokens for _, tokens in expected)
        attempts = self._config.attempts
        longest = len(expected) * self._config.max_tokens
        return Estimate(len(expected), read, written, read * attempts, longest * attempts)

    async def run(self, client: Client, journal: Journal, advance: Callable[[int], None]) -> None:
        """Ask for what is missing.

        Args:
            client: whom to ask.
            journal: where every answer goes as it comes.
            advance: told of each e-mail that is accepted.

        Raises:
            UserError: there is no use in going on; what has been answered is in the journal.
        """
        await client.connect()
        waiting = deque(self.open_slots)

        async def worker() -> None:
            while waiting:
                await self._fill(waiting.popleft(), client, journal, advance)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._config.concurrency, len(waiting))):
                    group.create_task(worker())
        except BaseExceptionGroup as errors:
            # The first is what happened; the others, if any, are the same or follow from it.
            raise errors.exceptions[0] from None

    async def _fill(self, slot: int, client: Client, journal: Journal, advance: Callable[[int], None]) -> None:
        first = self._attempts[slot] + 1
        for attempt in range(first, first + self._config.attempts):
            seed = request_seed(self._config.seed, slot, attempt)
            try:
                answer = await client.ask(self.plans[slot], seed)
            except NoAnswerError as error:
                self._failed(slot, str(error))
                return
            self._failures = 0
            problem = self._problem(answer, slot)
            record = self._record(answer, slot, attempt, seed, client.server, problem)
            journal.append(record)
            self._take(record)
            if problem is None:
                self.left.pop(slot, None)
                advance(1)
                return
            self.left[slot] = f"{attempt + 1 - first} answers rejected, the last one: {problem}"

    def _failed(self, slot: int, why: str) -> None:
        self._failures += 1
        self.left[slot] = f"no answer: {why}"
        if self._failures >= FAILURES_IN_A_ROW:
            raise UserError(
                f"The last {self._failures} requests got no answer, retries included ({why}); mend that or wait, and "
                "run the same command again, which goes on from here."
            )

    def _problem(self, answer: Answer, slot: int) -> Problem | None:
        problem = problem_of_answer(answer.answer, answer.finish_reason, answer.refusal)
        if problem is None:
            problem = problem_of_email(Email.model_validate_json(answer.answer), self.plans[slot], self._accepted)
        return problem

    def _record(
        self, answer: Answer, slot: int, attempt: int, seed: int, server: str, problem: Problem | None
    ) -> Record:
        return Record(
            slot=slot,
            attempt=attempt,
            seed=self._config.seed,
            nameless=self._config.nameless,
            request_seed=seed,
            model=self._config.model.name,
            server=server,
            temperature=self._config.temperature,
            prompt_version=prompt_version(),
            prompt_sha256=prompt_sha256(self.plans[slot]),
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            accepted=problem is None,
            reason=problem.reason if problem else None,
            detail=problem.detail if problem else None,
            **{name: value for name, value in asdict(answer).items() if name != "refusal"},
        )

    def _take(self, record: Record) -> None:
        self.records.append(record)
        self._attempts[record.slot] = max(self._attempts[record.slot], record.attempt)
        if not record.accepted:
            return
        # What a reviewer has rejected still counts here: its slot must not get the same e-mail again.
        self._accepted.add(item_id(record.slot), record.email.email)
        if item_sha256(record.item) not in self._rejected:
            self._filled[record.slot] = record


def refuse_other_settings(records: Iterable[Record], config: GenerateConfig, path: Path) -> None:
    """Refuse to go on with other settings than the records were made with.

    Raises:
        UserError: they differ; the sentence names what.
    """
    hashes: dict[int, str] = {}
    for record in records:
        for key, then, now in (
            ("model.name", record.model, config.model.name),
            ("seed", record.seed, config.seed),
            ("temperature", record.temperature, config.temperature),
            ("nameless", record.nameless, config.nameless),
        ):
            if then != now:
                raise UserError(
                    f"{path} was made with {key}={_written(then)}, not {key}={_written(now)}; give that again, or "
                    "choose another out=FILE."
                )
        if record.prompt_version != prompt_version():
            raise UserError(
                f"{path} was made with version {record.prompt_version} of the prompt, now it is {prompt_version()}; "
                "choose another out=FILE."
            )
        if record.slot not in hashes:
            hashes[record.slot] = prompt_sha256(email_plan(record.slot, config.seed, config.nameless))
        if record.prompt_sha256 != hashes[record.slot]:
            raise UserError(
                f"{path} was made with another prompt: that of {item_id(record.slot)} has changed since, though not "
                "its version; choose another out=FILE."
            )


def find_price(config: GenerateConfig) -> Price | None:
    """Return the model's price; None if that is not known."""
    if config.price.input is not None and config.price.output is not None:
        return Price(config.price.input, config.price.output)
    return OPENAI_PRICES.get(config.model.name) if config.base_url is None else None


def _written(value: object) -> str:
    return "null" if value is None else str(value)
