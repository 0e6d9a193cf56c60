"""The types of a job's configuration, and their defaults."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le, Lt
from omegaconf import MISSING

from quantexp.config.choices import (
    ExamplePlace,
    FlashAttention,
    Forced,
    History,
    KVType,
    Method,
    Pool,
    PromptForm,
    ReasoningEnd,
    Target,
    Tokenizer,
    Unit,
)
from quantexp.config.grading import EmbedderConfig, JudgeConfig
from quantexp.config.ranges import Example

Positive = Annotated[int, Ge(1)]
Natural = Annotated[int, Ge(0)]
Temperature = Annotated[float, Ge(0)]
TopP = Annotated[float, Gt(0), Le(1)]
MinP = Annotated[float, Ge(0), Le(1)]
TopK = Annotated[int, Ge(0)]
Penalty = Annotated[float, Ge(-2), Le(2)]
Repetition = Annotated[float, Gt(0), Le(10), Example("1.05")]
LastN = Annotated[int, Ge(-1)]
Margin = Annotated[float, Gt(0), Lt(1), Example("0.02 for 2 points")]

Weight = Annotated[float, Gt(0), Example("2 for a task that counts twice as much as one with 1")]


@dataclass
class Recommendation:
    """Values of `task.sampling` that a publisher recommends; of what is null, nothing is said."""

    temperature: Temperature | None = None
    """null, if something else is said: 1, the model's own probabilities."""
    top_p: TopP | None = None
    """null: 1."""
    min_p: MinP | None = None
    """null: 0."""
    top_k: TopK | None = None
    """null: 0."""
    presence_penalty: Penalty | None = None
    """null: 0."""
    frequency_penalty: Penalty | None = None
    """null: 0."""
    repetition_penalty: Repetition | None = None
    """null: 1."""
    penalty_last_n: LastN | None = None
    """null: 64."""


@dataclass
class ModelSampling:
    """The publisher's recommendation for sampling, which task.sampling=model takes."""

    thinking: Recommendation = field(default_factory=Recommendation)
    """Of a model that thinks before it answers."""
    non_thinking: Recommendation = field(default_factory=Recommendation)
    """Of one that does not; or that is told not to, by model.template={enable_thinking: false}."""
    greedy_warning: bool | str = False
    """The publisher warns against greedy decoding: `true`, or a sentence that says so in reports."""


@dataclass
class ModelConfig:
    """The weights, and what is special about them."""

    name: str = MISSING
    """What reports call it."""
    source: str = MISSING
    """Where the file comes from: `package` (an installed Python package), `hub` (the Hugging Face Hub), `path`,
    `folder` (the file in it that is labelled as the quant), or `server`: only a server has it (engine=openai)."""
    package: str | None = None
    """Import name of the package that carries the file; it is located, not imported."""
    file: str | None = None
    """The file's name inside the package or the repository; null with a repository: the one that is named after the
    quant, such as `*-Q4_K_M.gguf`, in one part or several."""
    repository: str | None = None
    """The Hub's repository, owner/name."""
    revision: str = "main"
    """Revision of the repository: a commit, so that everybody gets the same bytes; a branch means its commit at the
    first download."""
    folder: str = "models"
    """Where downloads go, with their checksums in SHA256SUMS; relative to the folder the command runs in."""
    path: str | None = None
    """A GGUF on this machine; with source `folder`, a folder of them."""
    checkpoint: str | None = None
    """Where only a server has the model: the folder of the safetensors that it loads, or its GGUF, whose headers tell
    the bits per weight; null: quant.bits_per_weight does."""
    sha256: str | None = None
    """What the source file must hash to; not checked when null."""
    quantize: bool = False
    """Make each quant here from the source file; otherwise the file is used as it is."""
    imatrix: str | None = None
    """Importance matrix that quants are made with here: a file of llama-imatrix, GGUF or of its older format. `auto`
    makes one here, once, of what the model does with a text (`calibration`)."""
    calibration: str | None = None
    """The text that imatrix=auto reads, UTF-8; null: one that ships with quantexp, some ten thousand tokens of prose,
    code, mathematics and many languages."""
    output_type: str | None = None
    """Type of the output tensor in quants that are made here, such as Q8_0; null: llama.cpp's choice."""
    embedding_type: str | None = None
    """Type of the token embeddings in quants that are made here; null: llama.cpp's choice."""
    tensor_types: dict[str, str] = field(default_factory=dict)
    """Types of other tensors in quants that are made here, by regular expressions for their names, such as
    {ffn_down: Q6_K}; the first that fits counts. Blocks too wide for a tensor's rows make llama.cpp take another."""
    chat_template: str | None = None
    """A file with a Jinja chat template, or a tokenizer_config.json with one, that replaces the one in the GGUF."""
    template: dict[str, Any] = field(default_factory=dict)
    """Arguments of the chat template, such as {enable_thinking: false} or {reasoning_effort: low}."""
    system: str | None = None
    """A system turn before each chat, for templates that have one; `task.prompt.system` follows in the same turn."""
    reasoning: str = "auto"
    """How reasoning is set apart from the answer: `think`, `harmony`, `gemma`, `magistral`, `command`, `seed`, `none`,
    marks of your own as OPEN...CLOSE, or `auto`: by the model's chat template and vocabulary."""
    reasoning_tokens: Natural | None = None
    """Tokens of reasoning before an answer, for a model that reasons, in context of their own beside `context`; null:
    8192, and on a server none."""
    sampling: ModelSampling = field(default_factory=ModelSampling)
    """What the publisher recommends."""
    context: Positive = 4096
    """Tokens of context for prompt and answer; the engine's default."""
    shots: Natural = 0
    """Worked examples in the prompt; every task's default."""
    examples: ExamplePlace = ExamplePlace.turns
    """Where worked examples stand in the chat."""
    licence: str = ""
    """Licence of the weights; recorded with each run."""
    family: str | None = None
    """What reports over several models count as one family, such as qwen2.5; null: the architecture that the file says
    (general.architecture)."""
    note: str = ""
    """A caveat about this model; shown in every report."""
    cache: str | None = None
    """Folder for quantized files and what is known of them; null: this system's cache folder."""


@dataclass
class QuantConfig:
    """The quant of the model."""

    name: str = MISSING
    """What reports call it; must be the type that the file says it holds, unless `file_type` is null."""
    file_type: str | None = None
    """llama.cpp's name of the type, without `LLAMA_FTYPE_`; null: whatever the file is."""
    method: str | None = None
    """What a checkpoint's config.json calls it (quantization_config.quant_method)."""
    label: str | None = None
    """What the name of the repository's file ends with, if that is not `name`."""
    bits_per_weight: Annotated[float, Gt(0), Le(64)] | None = None
    """Bits per weight, if only a server has the model and no checkpoint is here; otherwise measured."""


@dataclass
class PromptConfig:
    """The words around an item; the same for all quants."""

    version: int = MISSING
    """Version of the words below; raise it with every change of them."""
    instructions: str = MISSING
    """What to do; opens the first user turn."""
    item: str = MISSING
    """Format string over the item's fields, e.g. "Question: {question}"."""
    answer: str = "Answer:"
    """What an answer is headed by where examples and answers stand in one text."""
    tools: str | None = None
    """In place of `item` for items with functions, if these are described in words: {functions} are their signatures,
    one a line. If the chat template, or the server, is given the functions, `item` is all that is said."""
    system: str | None = None
    """A system turn, for templates that have one."""


@dataclass
class SamplingConfig:
    """Choice of the next token: penalties, then what top_k, top_p and min_p leave, then temperature."""

    temperature: Temperature = 0.0
    """0: the likeliest token, always (greedy). Above: drawn, from what top_k, top_p and min_p leave."""
    top_p: TopP = 1.0
    """Draw from the likeliest tokens that together have this probability; 1: from all."""
    min_p: MinP = 0.0
    """Draw from the tokens with at least this share of the likeliest one's probability; 0: from all."""
    top_k: TopK = 0
    """Draw from so many of the likeliest tokens; 0: from all."""
    presence_penalty: Penalty = 0.0
    """Subtracted from the logit of every token in the window (`penalty_last_n`), however often it is there; with
    temperature 0 too, like the other penalties. 0: none."""
    frequency_penalty: Penalty = 0.0
    """Subtracted from such a logit once for each time that the token is in the window; 0: none."""
    repetition_penalty: Repetition = 1.0
    """Divides such a logit if it is above 0 and multiplies it otherwise (llama.cpp's repeat_penalty); 1: none."""
    penalty_last_n: LastN = 64
    """The window of the penalties: so many of the last tokens, those of the prompt included. -1: all; 0: none."""
    samples: Positive = 1
    """Answers to each item, drawn independently; an item's score is their mean."""
    seed: Natural = 0
    """Seed of the draws; each item and sample gets random numbers of its own from it."""


@dataclass
class TaskConfig:
    """The task: questions, prompt, grader and decoding."""

    name: str = MISSING
    """One of quantexp's tasks, or that of `module`; of task=qa, any name, and without one that of the data's file."""
    module: str | None = None
    """A Python module of your own that brings the task as TASK; null: one of quantexp's tasks."""
    prompt: PromptConfig = field(default_factory=PromptConfig)
    grader: str = MISSING
    """The name of one of the task's graders."""
    max_tokens: Positive = MISSING
    """An answer that has not ended by itself is cut off after so many tokens; reasoning before it does not count."""
    reasoning_tokens: Natural | None = None
    """Tokens of reasoning before an answer, for a model that reasons; null: `model.reasoning_tokens`."""
    reasoning_end: ReasoningEnd = ReasoningEnd.cut
    """What happens to reasoning that has not ended by then."""
    stop: list[str] = field(default_factory=list)
    """An answer ends before the first of these strings."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    shots: Natural | None = 0
    """Worked examples before each item; null, with task=lm-eval: as many as the task itself has."""
    limit: Positive | None = None
    """Items to draw; null: all."""
    history: History = History.own
    """With task=chat, what stands in the earlier turns of the assistant."""
    lengths: list[int] = field(default_factory=list)
    """With task=long, tokens of prompt and answer together; items are made for each."""
    tokenizer: Tokenizer = Tokenizer.model
    """With task=long, how these are counted."""
    window: int | None = None
    """Tokens in a window of plain text (task=text), of which the second half is scored; null for other tasks."""
    unsafe_code: bool = False
    """Run code that the model writes also if this machine cannot shut it in; tasks of lm-evaluation-harness that run
    such code always want it."""
    metric: str = "first"
    """With task=lm-eval, like every key below: the metric that is the score, such as acc_norm; of several filters
    METRIC.FILTER. `first`: the first of the task that is higher for a better document."""
    shots_seed: Natural = 1234
    """Seed by which worked examples are drawn, if the task draws them."""
    chat: bool = False
    """Ask by the model's chat template, examples as earlier turns; otherwise in plain text."""
    include_path: str | None = None
    """A folder with YAML files of your own that define tasks."""


@dataclass
class DataConfig:
    """Source of the items."""

    name: str = MISSING
    """What reports call it."""
    source: str = "bundled"
    """`bundled` (ships with quantexp), `hub` (the Hugging Face Hub), `files` (on this machine) or `task` (it
    brings them)."""
    repository: str | None = None
    """The Hub's repository, owner/name."""
    subset: str | None = None
    """The repository's configuration, such as main; null: its only one."""
    split: str = "test"
    """The repository's split."""
    revision: str = "main"
    """Revision of the repository: a commit, so that everybody gets the same rows."""
    path: str | None = None
    """A JSON, JSONL, CSV, TSV or Parquet file; all but the last may be packed (.gz)."""
    join: str | None = None
    """A second file like `path`, whose columns are added to the rows with the same `id`, such as answers kept apart."""
    columns: dict[str, Any] = field(default_factory=dict)
    """The task's fields and the columns that hold them, as {question: prompt}; a.b is b inside a, a.0 the first of a
    list, a list of columns makes one list of their values, null leaves the field out. A field that is not named is the
    column of the same name."""
    examples: str | None = None
    """A file like `path` with worked examples; null: the bundled ones."""
    hint: str = ""
    """What to do where the data are not there; ends that error's sentence."""
    limit: Positive | None = None
    """Items a job draws unless the task says otherwise; null: all."""
    own: dict[str, Any] = field(default_factory=dict)
    """Data of single tasks, in place of all that is said here: a file of your own by the task's name, as in
    {qa: quiz.csv}, or keys of this group, as in {qa: {path: quiz.csv, columns: {question: prompt}}}."""


@dataclass
class EngineConfig:
    """The inference engine."""

    name: str = MISSING
    """Which engine."""
    context: Positive = 4096
    """Tokens of context for a prompt and its answer; with llama_cpp the model's, `model.context`, unless it is set."""
    threads: Positive | None = None
    """null: the physical cores this process may use."""
    gpu_layers: Annotated[int, Ge(-1)] = 0
    """Layers put on the GPU; -1: all, and none, with a warning, where llama.cpp was built for the CPU."""
    lanes: Positive | None = None
    """Answers written at once; null: 16, or 32 with layers on a GPU. 1 is the plain reference."""
    kv_memory_gb: Annotated[float, Gt(0)] | None = None
    """Gigabytes (1e9 bytes) for the context's KV cache; null: 80% of what the model leaves free."""
    kv_key: KVType = KVType.f16
    """Type of the keys in the KV cache. Quantized types hold 32 numbers a block, which must divide a head's size."""
    kv_value: KVType = KVType.f16
    """Type of the values in the KV cache; quantized ones need flash attention."""
    flash_attention: FlashAttention = FlashAttention.auto
    """Compute attention in one pass, without a matrix of all its weights; it rounds otherwise."""
    verify: bool = False
    """Measure, at the start of each job, whether answers are independent of what is generated beside them."""
    floor: bool = False
    """Answer the baseline's items a second time, in the opposite order and, by llama.cpp in this process, with other
    kernels of it: what changes then is noise of the engine."""
    url: str | None = None
    """With engine=openai, like every key below: the server's address, up to /v1."""
    urls: dict[str, Any] = field(default_factory=dict)
    """The addresses by quant, where each has a server of its own; `url` is the one of the job's quant."""
    model: str | None = None
    """The server's name of the model; null: the only one that it lists."""
    api_key_variable: str | None = None
    """The environment variable that holds the key; null: the server needs none."""
    prompt: PromptForm = PromptForm.messages
    """What the server is sent."""
    concurrency: Positive = 8
    """Requests at once."""
    timeout: float = 600.0
    """Seconds for a whole answer."""
    retries: Natural = 5
    """How often a request is sent again after a time-out, a lost connection, a status 408, 409, 429 or 5xx, or an
    answer that makes no sense."""
    prompt_logprobs: Positive = 20
    """With task=text: so many of the likeliest tokens of each place the server tells of; vLLM's own limit is 20, unless
    --max-logprobs says otherwise."""
    extra_body: dict[str, Any] = field(default_factory=dict)
    """Further fields of every request, which the protocol does not have and the server does; recorded, so that it may
    hold no secret."""


@dataclass
class StoreConfig:
    """Completion store, for this sweep and every later one."""

    folder: str = "mlruns/completions"
    """May be shared by several sweeps, and by several machines; relative to the folder the command runs in."""
    reuse: bool = True
    """Take completions that are there already; false generates all of them again."""
    references_gb: float = 20.0
    """Gigabytes (1e9 bytes) that the baselines' distributions may take there; see `divergence`."""


@dataclass
class StatsConfig:
    """Statistics of the comparison."""

    baseline: str = "Q8_0"
    """The condition that the others are compared with: a quant, or one with levels of other factors, as in
    `Q8_0 context=8192`; a factor that is not named is at its default, or at the level that was asked for first."""
    factors: list[str] | None = None
    """Factors that conditions may differ in: weights, and others, such as context or template (the chat template's
    arguments). What else differs is compared apart, each with its own baseline. null: all that a sweep varies."""
    resamples: Positive = 10_000
    """Resamples of the bootstrap, and draws of a contrast."""
    seed: Natural = 42
    """Seed of the resampling; nothing to do with which items are drawn."""
    confidence: Annotated[float, Ge(0.5), Le(0.9999), Example("0.95")] = 0.95
    """Nominal coverage of intervals; verdicts are at the level that it leaves, 0.05."""
    unit: Unit = Unit.item
    """What counts once where items were answered under several seeds."""
    method: Method = Method.default
    """How intervals and p-values are made."""
    target: Target = Target.population
    """What the result is about; to be decided before the results are seen."""
    margin: Margin = 0.02
    """The drop of the mean score that would not matter; 0.02 is two points. To be decided before likewise."""
    margins: dict[str, Margin] = field(default_factory=dict)
    """Other margins for single tasks, as {gsm8k: 0.03}."""
    pool: Pool = Pool.none
    """One decision over all tasks of a model, made before those on single tasks; to be decided before likewise."""
    pool_weights: dict[str, Weight] = field(default_factory=dict)
    """The tasks' weights with pool=weights, in proportion, as {gsm8k: 2, triviaqa: 1}; a task that is not named is not
    in the pool."""
    pool_margin: Margin | None = None
    """The drop of the pool that would not matter; null: that of `margin`."""
    bayes: bool = False
    """Report the posterior probability that a drop is below the margin, where scores are right or wrong."""

    @property
    def resampling(self) -> dict[str, Any]:
        """What every interval and p-value takes of it, whatever its method."""
        return {"confidence": self.confidence, "resamples": self.resamples, "seed": self.seed}


@dataclass
class ClaimConfig:
    """One claim about losses, which the results support, falsify, or leave undecided."""

    text: str = MISSING
    """The claim in words, for the report."""
    contrast: dict[str, Any] = field(default_factory=dict)
    """Weights of losses, by task and quant: the claim is that the weighted sum of the quants' losses against the
    baseline is above 0, as in {gsm8k: {Q3_K_M: 1}, triviaqa: {Q3_K_M: -1}}."""


@dataclass
class HypothesisConfig:
    """Hypothesis, declared before the first answer."""

    text: str = ""
    """What is expected, in words; empty: nothing."""
    claims: dict[str, ClaimConfig] = field(default_factory=dict)
    """Claims that the results can support or falsify, each under a name of its own."""


@dataclass
class TrackingConfig:
    """Tracking: where runs are recorded."""

    folder: str = "mlruns"
    """Holds mlflow.db and artifacts/, or what is on its way to a server; relative to the folder the command runs in."""
    experiment: str = "quantexp"
    """The name of MLflow's experiment."""
    traces: bool = False
    """Record each answer as an MLflow trace too, with the grader's score as its assessment: about 12 ms and 8 kB of
    the database each."""
    uri: str | None = None
    """Address of an MLflow server, such as http://tracking.example.org:5000; credentials come from the environment
    (MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN). null: in tracking.folder."""


@dataclass
class Config:
    """One job."""

    model: ModelConfig = field(default_factory=ModelConfig)
    quant: QuantConfig = field(default_factory=QuantConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
    data: DataConfig = field(default_factory=DataConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    stats: StatsConfig = field(default_factory=StatsConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    hypothesis: HypothesisConfig = field(default_factory=HypothesisConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    embedder: EmbedderConfig = field(default_factory=EmbedderConfig)
    weights: str | None = None
    """The file, in place of `quant` and of where `model` has its files: one of the Hub as OWNER/NAME:LABEL or
    OWNER/NAME:LABEL@REVISION, or one on this machine as PATH.gguf. Sweep it to compare publishers; the first is the
    baseline, unless stats.baseline names another."""
    seed: Natural = 0
    """Chooses which items are drawn from the data, without replacement; sweep it for several draws."""
    divergence: bool = False
    """Measure, at each token of the baseline's answers, how far each quant's distribution is from the baseline's."""
    divergence_over: Forced = Forced.answer
    """Where divergence is measured: over the baseline's answers, or over the gold answers."""
    divergence_base: str | None = None
    """With task=text: a file of llama-perplexity's --kl-divergence-base. Every condition's divergence is
    measured from the distributions in it, over its windows; null: from the baseline's."""
    divergence_write: str | None = None
    """With task=text: such a file, into which the baseline's distributions are written, for llama-perplexity's
    --kl-divergence and for `divergence_base`; null: none."""
    force: bool = False
    """Run a job even where the same one has finished before."""
