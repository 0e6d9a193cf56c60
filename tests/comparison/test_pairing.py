"""Which runs are compared with which, on hand-made records."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantexp.comparison.pairing import summarise
from quantexp.comparison.preregistration import write_declaration
from quantexp.comparison.summary import Summary
from quantexp.config import Config, Method, ModelConfig, QuantConfig, StatsConfig, Target, TaskConfig
from quantexp.report.markdown import report_markdown
from quantexp.stats import PairedComparison, Verdict, compare, drop_posterior
from quantexp.tracking.reader import JobRecord
from quantexp.tracking.registration import Registration, digest
from quantexp.util.errors import UserError

STATS = StatsConfig(resamples=100)

IDENTITY: Mapping[str, Mapping[str, object]] = {
    "model": {"name": "m", "architecture": "llama", "parameters": 7, "source": "a" * 64},
    "data": {"name": "set", "fingerprint": "b" * 64},
    "prompt": {"version": 1, "shots": 2, "sha256": "c" * 64},
    "grader": {"id": "g-v1"},
    "settings": {"max_tokens": 64, "library": "l 1", "context": "2048"},
}


def record(
    quant: str,
    scores: Mapping[str, float],
    *,
    seed: int = 0,
    started: int = 0,
    task: str = "t",
    model: str = "m",
    change: Mapping[str, object] | None = None,
    metrics: Mapping[str, float] | None = None,
    params: Mapping[str, str] | None = None,
) -> JobRecord:
    """A finished job; `change` maps "aspect.key" to another value of its identity."""
    identity: dict[str, dict[str, Any]] = {aspect: dict(entries) for aspect, entries in IDENTITY.items()}
    identity["model"]["name"] = model
    for key, value in (change or {}).items():
        aspect, name = key.split(".")
        identity[aspect][name] = value
    return JobRecord(
        run_id=f"{quant}-{task}-{seed}-{started}-{json.dumps(change)}",
        name=f"{quant} {task} seed {seed}",
        started=started,
        tags={
            "model": model,
            "quant": quant,
            "task": task,
            "data": "set",
            "seed": str(seed),
            **dict.fromkeys(
                ("quantexp.version", "quantexp.commit", "quantexp.dirty", "host.processor", "engine.system"), "x"
            ),
        },
        params={"file.sha256": f"sha of {model} {quant}", "model.note": "", **(params or {})},
        metrics={
            "completion_tokens": 30.0,
            "run.tokens_per_second": 10.0,
            "bits_per_weight": {"Q8_0": 8.5}.get(quant, 4.5),
            "model_bytes": 1000.0,
            "items": float(len(scores)),
            "items_not_asked": 0.0,
            "items_cut_at_max_tokens": 0.0,
            **(metrics or {}),
        },
        identity=identity,
        scores=pd.Series(dict(scores), dtype=float),
    )


def summary_of(*records: JobRecord) -> Summary:
    return summarise(records, [], STATS, "title")


def test_items_are_paired_by_their_ids_not_by_their_order() -> None:
    summary = summary_of(
        record("Q8_0", {"a": 1.0, "b": 0.0, "c": 0.5}),
        record("Q4", {"c": 0.25, "a": 0.0, "b": 1.0}),
    )
    [comparison] = summary.comparisons
    expected = compare([1.0, 0.0, 0.5], [0.0, 1.0, 0.25], resamples=100, seed=42)
    assert comparison.difference == expected
    assert comparison.difference.changed == 3


@given(st.permutations(range(6)), st.lists(st.floats(0, 1), min_size=12, max_size=12))
def test_the_order_of_items_and_of_runs_changes_nothing(order: list[int], scores: list[float]) -> None:
    better, worse = scores[:6], scores[6:]
    plain = summary_of(
        record("Q8_0", {f"i{n}": better[n] for n in range(6)}), record("Q4", {f"i{n}": worse[n] for n in range(6)})
    )
    shuffled = summary_of(
        record("Q4", {f"i{n}": worse[n] for n in order}), record("Q8_0", {f"i{n}": better[n] for n in reversed(order)})
    )
    assert plain.comparisons == shuffled.comparisons
    assert plain.comparisons[0].difference.difference == pytest.approx(np.mean(better) - np.mean(worse))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.source", "d" * 64),
        ("data.fingerprint", "d" * 64),
        ("prompt.sha256", "d" * 64),
        ("prompt.shots", 5),
        ("grader.id", "g-v2"),
        ("settings.max_tokens", 128),
        ("settings.library", "l 2"),
    ],
)
def test_runs_that_differ_in_more_than_the_quant_are_refused_by_name(key: str, value: object) -> None:
    summary = summary_of(record("Q8_0", {"a": 1.0}), record("Q4", {"a": 0.0}, change={key: value}))
    assert summary.comparisons == ()
    [refusal] = summary.refusals
    aspect, name = key.split(".")
    assert f"{key} is " in refusal
    assert "Q4 of m on t" in refusal
    assert "Q8_0" in refusal
    assert str(value)[:8] in refusal
    assert str(IDENTITY[aspect][name])[:8] in refusal
    assert [name for name in ("model.", "data.", "prompt.", "grader.", "settings.") if name in refusal] == [
        f"{aspect}."
    ]


def test_an_entry_that_only_one_side_recorded_is_a_difference_with_a_name() -> None:
    newer = record("Q8_0", {"a": 1.0}, change={"settings.cache_type": "f16"})
    [refusal] = summary_of(newer, record("Q4", {"a": 0.0})).refusals
    assert "settings.cache_type is not recorded here and f16 there" in refusal


def test_several_differences_are_all_named_against_the_nearest_baseline() -> None:
    [refusal] = summary_of(
        record("Q8_0", {"a": 1.0}, change={"settings.max_tokens": 8}),
        record("Q4", {"a": 0.0}, change={"grader.id": "g-v9", "settings.max_tokens": 16}),
    ).refusals
    assert "grader.id is g-v9 here and g-v1 there" in refusal
    assert "settings.max_tokens is 16 here and 8 there" in refusal


def test_without_any_baseline_a_note_says_what_to_do() -> None:
    summary = summary_of(record("Q4", {"a": 1.0}))
    assert (summary.comparisons, summary.refusals) == ((), ())
    assert any("stats.baseline" in note for note in summary.notes)


def test_a_quant_whose_task_has_no_baseline_is_refused() -> None:
    summary = summary_of(record("Q4", {"a": 1.0}), record("Q8_0", {"a": 1.0}, task="other"))
    assert summary.comparisons == ()
    [refusal] = summary.refusals
    assert "no Q8_0 run" in refusal
    assert "stats.baseline" in refusal


def test_seeds_are_merged_by_item_mean_so_that_an_item_counts_once() -> None:
    summary = summary_of(
        record("Q8_0", {"a": 1.0, "b": 1.0}, seed=0),
        record("Q8_0", {"a": 0.0, "c": 0.5}, seed=1),
        record("Q4", {"a": 0.0, "b": 1.0}, seed=0),
        record("Q4", {"a": 0.0, "c": 0.0}, seed=1),
    )
    baseline, quant = summary.conditions
    assert (baseline.items, baseline.repeats) == (3, 2)
    assert baseline.estimate.n == 3
    assert baseline.estimate.mean == pytest.approx((0.5 + 1.0 + 0.5) / 3)
    assert len(quant.run_ids) == 2
    [comparison] = summary.comparisons
    assert comparison.difference == compare(
        [1.0, 0.0, 1.0, 0.5], [0.0, 0.0, 1.0, 0.0], clusters=["a", "a", "b", "c"], resamples=100, seed=42
    )
    assert comparison.difference.difference == pytest.approx((0.5 - 0 + 1 - 1 + 0.5 - 0) / 3)
    assert (comparison.difference.n, comparison.difference.answers) == (3, 4)
    assert any("4 answers to 3 unique items" in note and "Design effect" in note for note in summary.notes)


def test_the_same_item_under_other_seeds_is_paired_by_its_mean() -> None:
    summary = summary_of(
        record("Q8_0", {"a": 1.0, "b": 1.0}, seed=0),
        record("Q8_0", {"a": 0.0}, seed=1),
        record("Q4", {"a": 0.0, "b": 0.0}, seed=2),
    )
    [comparison] = summary.comparisons
    assert (comparison.difference.n, comparison.difference.answers) == (2, 3)
    assert comparison.difference.difference == pytest.approx(0.75)
    assert np.isnan(comparison.difference.design_effect)


def test_items_that_ask_the_same_count_once() -> None:
    def job(quant: str, scores: dict[str, float]) -> JobRecord:
        return dataclasses.replace(record(quant, scores), clusters={"a": "who", "b": "who", "c": "what"})

    summary = summary_of(job("Q8_0", {"a": 1.0, "b": 1.0, "c": 1.0}), job("Q4", {"a": 0.0, "b": 1.0, "c": 1.0}))
    [comparison] = summary.comparisons
    assert (comparison.difference.n, comparison.difference.answers) == (2, 3)
    assert comparison.difference.difference == pytest.approx(0.25)
    assert [each.estimate.n for each in summary.conditions] == [2, 2]


def test_the_posterior_is_opt_in_and_for_right_or_wrong_only() -> None:
    jobs = [
        *(record("Q8_0", right(), task="binary"), record("Q4", right(1, 2), task="binary")),
        *(record("Q8_0", {"a": 0.5, "b": 1.0}, task="graded"), record("Q4", {"a": 1.0, "b": 1.0}, task="graded")),
    ]
    binary, graded = summarise(jobs, [], StatsConfig(bayes=True, margin=0.1), "title").comparisons
    assert binary.posterior == drop_posterior(2, 0, 40, margin=0.1)
    assert graded.posterior is None
    assert [each.posterior for each in summary_of(*jobs).comparisons] == [None, None]
    page = report_markdown(summarise(jobs, [], StatsConfig(bayes=True, margin=0.1), "title"))
    assert f"- binary, Q4: {binary.posterior.within:.3f}" in page


def test_the_noise_floor_is_shown_beside_the_flips() -> None:
    counts = {"answers": 3, "lost": 1, "gained": 0, "both_wrong_different": 1, "churn": 2}
    measured = {f"floor.{key}": float(value) for key, value in counts.items()}
    scores = {"a": 1.0, "b": 0.0, "c": 1.0}
    jobs = [
        *(record("Q8_0", scores, seed=seed, metrics=measured) for seed in (0, 1)),
        *(record("Q4", scores, seed=seed) for seed in (0, 1)),
    ]
    summary = summary_of(*jobs)
    baseline, quant = summary.conditions
    assert baseline.floor == {key: 2 * value for key, value in counts.items()}
    assert quant.floor is None
    assert any("lost 2 and gained 0 of 6 answers, and 4 were read differently" in note for note in summary.notes)
    assert "| t | Q8_0, a second time (noise of the engine) | 6 | 2 | 0 | 2 | 4 |" in report_markdown(summary)
    assert summary_of(*jobs[2:], jobs[0], record("Q8_0", scores, seed=1)).conditions[-1].floor is None


def right(*wrong: int, of: int = 40) -> dict[str, float]:
    """Scores of items that are right, but for some."""
    return {f"i{number:03}": float(number not in wrong) for number in range(of)}


def test_a_fixed_set_narrows_the_interval_and_is_known_when_all_of_it_was_asked() -> None:
    def compared(unique: float | None, target: Target) -> PairedComparison:
        known = {} if unique is None else {"items_in_data": unique}
        jobs = [record("Q8_0", right(), metrics=known), record("Q4", right(1, 2), metrics=known)]
        [comparison] = summarise(jobs, [], StatsConfig(target=target), "title").comparisons
        return comparison.difference

    sampled, part, whole = compared(80, Target.population), compared(80, Target.items), compared(40, Target.items)
    assert part.high - part.low < sampled.high - sampled.low
    assert (whole.low, whole.high, whole.zero_width) == (whole.difference, whole.difference, False)
    with pytest.raises(UserError, match=r"how many items the data of t have.*run them again with force=true"):
        compared(None, Target.items)


def test_verdicts_are_at_the_tasks_own_margin_and_corrected_for_all_comparisons() -> None:
    jobs = [
        *(record("Q8_0", right(of=400), task=task) for task in ("s", "t")),
        *(record("Q4", right(*range(12), of=400), task=task) for task in ("s", "t")),
    ]
    stats = StatsConfig(margin=0.02, margins={"t": 0.2})
    first, second = summarise(jobs, [], stats, "title").comparisons
    assert first.decision is not None
    assert second.decision is not None
    assert (first.decision.verdict, second.decision.verdict) == (Verdict.worse, Verdict.worse_within_margin)
    assert (first.decision.margin, second.decision.margin) == (0.02, 0.2)
    assert first.decision.p_adjusted == pytest.approx(2 * first.difference.p_value)
    assert "Holm" in summarise(jobs, [], stats, "title").protocol["statistics"]
    bootstrap = summarise(jobs, [], StatsConfig(method=Method.bootstrap), "title")
    assert [each.decision for each in bootstrap.comparisons] == [None, None]


def test_of_two_runs_with_the_same_seed_the_newest_counts() -> None:
    newest = record("Q8_0", {"a": 1.0}, started=2)
    summary = summary_of(newest, record("Q8_0", {"a": 0.0}, started=1), record("Q4", {"a": 0.0}))
    baseline = summary.conditions[[c.quant for c in summary.conditions].index("Q8_0")]
    assert baseline.estimate.mean == 1.0
    assert baseline.repeats == 1
    assert baseline.run_ids == (newest.run_id,)


@given(st.permutations(range(8)))
def test_a_sweep_is_reported_in_the_order_in_which_it_was_asked_for_whatever_began_first(starts: list[int]) -> None:
    jobs = [Config(quant=QuantConfig(q), task=TaskConfig(t)) for q in ("Q8_0", "Q5", "Q4") for t in ("t", "s")]
    text = write_declaration(jobs, STATS)
    asked_for = [(job.task.name, job.quant.name) for job in sorted(jobs, key=lambda job: job.task.name == "s")]
    asked_for.append(("s", "Q2"))  # was not
    records = [
        record(quant, {"a": 1.0, "b": 0.0}, task=task, started=started)
        for (task, quant), started in zip([*asked_for, ("other", "Q8_0")], starts, strict=True)
    ]
    summary = summarise(records, [], STATS, "title", Registration(text, digest(text), "2026-01-02T03:04:05", "c", 0))
    assert [(each.task, each.quant) for each in summary.conditions] == [*asked_for, ("other", "Q8_0")]
    assert [(each.task, each.quant) for each in summary.comparisons] == [
        each for each in asked_for if each[1] != "Q8_0"
    ]


def test_items_that_only_one_quant_answered_are_left_out_and_told() -> None:
    summary = summary_of(record("Q8_0", {"a": 1.0, "b": 1.0, "c": 0.0}), record("Q4", {"b": 0.0, "c": 0.0, "d": 1.0}))
    [comparison] = summary.comparisons
    assert comparison.difference.n == 2
    assert comparison.difference.difference == 0.5
    assert "Compared on the items answered under both quants, which are not all: Q4 on t on 2 of 4." in summary.notes


def test_no_common_item_is_refused() -> None:
    summary = summary_of(record("Q8_0", {"a": 1.0}, seed=0), record("Q4", {"b": 1.0}, seed=1))
    assert summary.comparisons == ()
    assert "no item in common" in summary.refusals[0]
    assert "seed" in summary.refusals[0]


def test_items_that_were_not_asked_count_nowhere() -> None:
    summary = summary_of(
        record("Q8_0", {"a": 1.0, "b": float("nan")}, metrics={"items_not_asked": 1.0}),
        record("Q4", {"a": 0.0, "b": 1.0}),
    )
    [comparison] = summary.comparisons
    assert comparison.difference.n == 1
    assert summary.conditions[0].items == 1
    assert any("did not fit the context" in note and "1 of 2" in note for note in summary.notes)


def test_a_sweep_over_shots_gives_labelled_conditions_each_with_its_own_baseline() -> None:
    summary = summary_of(
        *(
            record(quant, {"a": score, "b": 1.0}, change={"prompt.shots": shots})
            for shots in (0, 6)
            for quant, score in (("Q8_0", 1.0), ("Q4", 0.0))
        )
    )
    assert summary.tasks("m") == ("t (prompt.shots=0)", "t (prompt.shots=6)")
    assert len(summary.comparisons) == 2
    assert summary.refusals == ()


def test_models_are_reported_in_the_order_in_which_they_were_asked_for() -> None:
    jobs = [
        Config(model=ModelConfig(m), quant=QuantConfig(q), task=TaskConfig("t")) for m in "nm" for q in ("Q8_0", "Q4")
    ]
    text = write_declaration(jobs, STATS)
    made = Registration(text, digest(text), "2026-01-02T03:04:05", "c", 0)
    of_both = [record(q, {"a": 1.0, "b": 0.5}, model=m, started=s) for s, m in enumerate("mn") for q in ("Q4", "Q8_0")]
    assert summarise(of_both, [], STATS, "title", made).models() == ("n", "m")


def test_a_way_of_running_a_task_was_declared_under_the_name_of_the_task() -> None:
    jobs = [Config(quant=QuantConfig(q), task=TaskConfig("t", shots=s)) for q in ("Q8_0", "Q4") for s in (0, 3)]
    text = write_declaration(jobs, STATS)
    ways = [record(q, {"a": 1.0}, change={"prompt.shots": s}) for q in ("Q8_0", "Q4") for s in (0, 3)]
    made = summarise(ways, [], STATS, "title", Registration(text, digest(text), "2026-01-02T03:04:05", "c", 0))
    assert len(made.comparisons) == 2
    assert made.registered is not None
    assert made.registered.changes == ()


def test_models_and_tasks_are_compared_apart() -> None:
    summary = summary_of(
        *(
            record(quant, {"a": score}, model=model, task=task)
            for model in ("m", "n")
            for task in ("t", "u")
            for quant, score in (("Q8_0", 1.0), ("Q4", 0.0))
        )
    )
    assert {(c.model, c.task) for c in summary.comparisons} == {("m", "t"), ("m", "u"), ("n", "t"), ("n", "u")}
    assert len(summary.conditions) == 8
    assert summary.refusals == ()


def test_two_files_under_one_quant_name_are_told() -> None:
    other = record("Q8_0", {"a": 1.0}, seed=1, params={"file.sha256": "another"})
    summary = summary_of(record("Q8_0", {"a": 1.0}), other)
    assert any("2 different files" in note for note in summary.notes)


def test_a_file_that_another_of_the_same_name_hides_is_told() -> None:
    """The newer of two runs with one seed is in the table, and nothing shows that the older was of another file."""
    older = record("as-is", {"a": 1.0}, started=1, params={"file.sha256": "another"})
    summary = summary_of(record("Q8_0", {"a": 1.0}), older, record("as-is", {"a": 1.0}, started=2))
    assert len(summary.conditions) == 2
    assert "as-is of m stands for 2 different files in these runs; compare them apart." in summary.notes


def made_from(file_type: str, bits: float) -> dict[str, str]:
    return {"source.file_type": file_type, "source.bits_per_weight": str(bits)}


def test_a_ladder_from_a_quantized_file_is_told_for_any_model() -> None:
    source = made_from("MOSTLY_Q4_K_M", 4.8512)
    summary = summary_of(*(record(quant, {"a": 1.0}, params=source) for quant in ("F16", "Q8_0", "Q4_K_M")))
    [note] = summary.notes
    assert note.startswith(
        "m: its quants are made from a file that is itself quantized (Q4_K_M, 4.9 bits per weight), "
    )
    assert "so their order is an artefact of that file" in note
    for source in (made_from("MOSTLY_F16", 16.0), made_from("MOSTLY_BF16", 16.0003), made_from("ALL_F32", 32.0), {}):
        assert not summary_of(*(record(quant, {"a": 1.0}, params=source) for quant in ("F16", "Q8_0"))).notes


def test_what_llama_cpp_warns_of_is_told_once_a_model() -> None:
    warned = {"file.warnings": "missing pre-tokenizer type, using: 'default'"}
    records = [record(quant, {"a": 1.0}, task=task, params=warned) for quant in ("Q8_0", "Q4") for task in "tu"]
    [note] = summary_of(*records).notes
    assert note == "llama.cpp warns of the file of m (Q8_0, Q4): missing pre-tokenizer type, using: 'default'."


def test_a_name_that_says_little_of_its_file_is_told_once_a_model() -> None:
    q8_0 = {"file.types": "MXFP4 98%, Q8_0 2%", "file.misnomer": "Q8_0, of which 98% MXFP4", "file.imatrix": "none"}
    mix = {"file.types": "Q5_0 58%, Q4_K 42%", "file.misnomer": "Q4_K_M, of which 58% Q5_0", "file.imatrix": "i.dat"}
    ladder = {"Q8_0": q8_0, "my-mix": mix, "Q4": {}}
    summary = summary_of(
        *(record(quant, {"a": 1.0}, task=task, params=params) for quant, params in ladder.items() for task in "tu")
    )
    [note] = summary.notes
    first, _, rest = note.partition("\n")
    assert first == (
        "The files of m hold mostly other types than their names say: Q8_0, of which 98% MXFP4; "
        "my-mix (Q4_K_M, of which 58% Q5_0)."
    )
    assert rest.startswith("llama.cpp takes another type for tensors that do not fit")
    facts = {name: value for name, value in summary.protocol.items() if name.startswith(("file types", "importance"))}
    assert facts == {  # nothing of a run of an earlier version
        "file types (m Q8_0)": "MXFP4 98%, Q8_0 2%",
        "importance matrix (m Q8_0)": "none",
        "file types (m my-mix)": "Q5_0 58%, Q4_K 42%",
        "importance matrix (m my-mix)": "i.dat",
    }
    assert first in report_markdown(summary)


def test_notes_of_the_model_and_warnings_reach_the_reader_once() -> None:
    records = [
        record(quant, {"a": 1.0}, params={"model.note": "mind this"}, metrics={"items_cut_at_max_tokens": 1.0})
        for quant in ("Q8_0", "Q4")
    ]
    records[0] = dataclasses.replace(records[0], tags={**records[0].tags, "data": "bundled"})
    notes = summary_of(*records).notes
    assert sum("mind this" in note for note in notes) == 1
    assert any("data=bundled" in note for note in notes)
    assert "Answers cut off at max_tokens: Q8_0 on t 1 of 1, Q4 on t 1 of 1." in notes


@pytest.mark.parametrize(("warning", "words"), [("True", "."), ("Never do it.", ": Never do it.")])
def test_greedy_answers_of_a_model_whose_publisher_warns_against_them_are_told(warning: str, words: str) -> None:
    warned = {"model.sampling.greedy_warning": warning}
    greedy = [record(quant, {"a": 1.0}, params=warned) for quant in ("Q8_0", "Q4")]
    [note] = summary_of(*greedy).notes
    first, _, rest = note.partition("\n")
    assert first == f"m: its publisher warns against greedy decoding, and answers here are greedy{words}"
    assert rest == "task.sampling=model takes what the publisher recommends."
    read = [record("Q8_0", {"a": 1.0}, params=warned | {"task.window": "512"})]
    assert not summary_of(*read).notes
    assert not summary_of(record("Q8_0", {"a": 1.0}, params={"model.sampling.greedy_warning": "False"})).notes


def test_drawn_answers_are_told_with_how_they_were_drawn() -> None:
    decoding = "temperature 0.7, top_p 0.8, min_p 0.0, 4 samples an item, seed 0, top_k 20"
    change, warned = {"settings.decoding": decoding}, {"model.sampling.greedy_warning": "True"}
    records = [record(quant, {"a": 1.0}, change=change, params=warned) for quant in ("Q8_0", "Q4")]
    [note] = summary_of(*records).notes
    assert note.startswith(f"Answers are drawn ({decoding}): Q8_0 on t, Q4 on t.\n")


def test_speed_is_all_tokens_by_all_seconds() -> None:
    fast = record("Q8_0", {"a": 1.0}, seed=0, metrics={"completion_tokens": 100.0, "run.tokens_per_second": 100.0})
    slow = record("Q8_0", {"a": 1.0}, seed=1, metrics={"completion_tokens": 10.0, "run.tokens_per_second": 10.0})
    silent = record("Q8_0", {"a": 1.0}, seed=2, metrics={"completion_tokens": 0.0, "run.tokens_per_second": 0.0})
    assert summary_of(fast, slow, silent).conditions[0].tokens_per_second == pytest.approx(55.0)
    assert summary_of(silent).conditions[0].tokens_per_second is None


jobs = st.builds(
    record,
    quant=st.sampled_from(["Q8_0", "Q5", "Q4"]),
    scores=st.dictionaries(st.sampled_from("abcd"), st.sampled_from([0.0, 0.5, 1.0]), min_size=1),
    seed=st.integers(0, 2),
    started=st.integers(0, 3),
    task=st.sampled_from(["t", "u"]),
    model=st.sampled_from(["m", "n"]),
    change=st.dictionaries(
        st.sampled_from(["prompt.shots", "grader.id", "settings.library", "settings.new", "data.name"]),
        # Values too long for a label, which begin alike, must still give two conditions.
        st.sampled_from([1, "1", "x" * 50, "x" * 50 + "y"]),
        max_size=2,
    ),
)


@given(st.lists(jobs, min_size=1, max_size=8))
def test_whatever_was_run_there_is_a_summary_and_nothing_is_lost(records: list[JobRecord]) -> None:
    summary = summary_of(*records)
    others = [c for c in summary.conditions if c.quant != "Q8_0"]
    compared = len(summary.comparisons) + len(summary.refusals)
    assert compared == (len(others) if len(others) < len(summary.conditions) else 0)
    reported = {run for condition in summary.conditions for run in condition.run_ids}
    assert reported <= {r.run_id for r in records}
    assert {(r.tags["model"], r.tags["quant"]) for r in records} == {(c.model, c.quant) for c in summary.conditions}


def test_the_order_in_which_a_database_returns_the_tags_does_not_matter() -> None:
    first, second = (record("Q8_0", {"a": 1.0}, seed=seed, started=seed) for seed in (0, 1))
    turned = {
        aspect: dict(reversed(list(entries.items()))) for aspect, entries in reversed(list(second.identity.items()))
    }
    summary = summarise([first, dataclasses.replace(second, identity=turned)], [], STATS, "t")
    assert [condition.repeats for condition in summary.conditions] == [2]
