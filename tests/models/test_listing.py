"""The choice of a quant's files from a repository's listing, on file names as publishers have them."""

import shlex
from dataclasses import dataclass, replace
from random import Random

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from quantexp.config import ModelConfig, QuantConfig
from quantexp.models.listing import describe_choice, describe_others, explain_foreign_type, select_files
from quantexp.util.errors import UserError
from quantexp.util.native.file_types import list_file_types

MODEL = ModelConfig("m", "hub", repository="a/b")


def parts(stem: str, count: int) -> list[str]:
    return [f"{stem}-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1)]


def answer(quant: str, names: list[str], file: str | None = None) -> list[str] | str:
    """The files that would be fetched, or the sentence that is said instead."""
    try:
        found = select_files(replace(MODEL, file=file), QuantConfig(quant), names)
    except UserError as error:
        return str(error)
    if not found:
        return describe_others(QuantConfig(quant), names)
    return explain_foreign_type(found[0], names) or found


@dataclass(frozen=True)
class Listing:
    """Some files of a repository, and what is to be found: one of them, several, or part of a sentence."""

    repository: str
    asked: str
    names: list[str]
    found: str | list[str] = ""
    said: str = ""

    def __str__(self) -> str:
        return f"{self.repository}:{self.asked}"


# File names as published, read in public threads, pages and code in November 2026. Excerpts, of names alone. Where a
# thread gives a name in short (…-IQ3_S-2.69bpw.gguf) its beginning is filled in. Owners and parts may differ.
HERMES = "Hermes-3-Llama-3.1-405B-Q6_K/Hermes-3-Llama-3.1-405B-Q6_K"
LLAMA = "Meta-Llama-3.1-8B-Instruct"
PHI = [f"microsoft_Phi-4-mini-instruct-{label}.gguf" for label in ("Q5_K_M", "Q5_K_L", "Q6_K", "Q6_K_L", "Q8_0")]
FLASH = [
    *parts("Q8_0/Qwen3.8-Flash-Next-Q8_0", 6),
    *parts("UD-Q4_K_XL/Qwen3.8-Flash-Next-UD-Q4_K_XL", 4),
    "MTP/mtp-Qwen3.8-Flash-Next-Q8_0.gguf",
    "MTP/mtp-Qwen3.8-Flash-Next-shared-Q8_0.gguf",
    "MTP/mtp-Qwen3.8-Flash-Next-Q4_K_M.gguf",
    "mmproj-F16.gguf",
    "mmproj-BF16.gguf",
    "imatrix_unsloth.gguf_file",
]
A3B = [
    f"Qwen3.6-35B-A3B-{label}.gguf"
    for label in ("UD-IQ2_M", "UD-IQ4_XS", "UD-IQ4_NL", "UD-Q4_K_S", "UD-Q4_K_M", "MXFP4_MOE")
]
QWEN4B = [f"Qwen3-4B-{label}.gguf" for label in ("Q4_K_M", "Q4_K_S", "Q4_0", "Q5_K_M", "UD-Q4_K_XL")]
GEMMA = [
    "MTP/gemma-4-E2B-it-Q8_0-MTP.gguf",
    "MTP/gemma-4-E2B-it-F16-MTP.gguf",
    "MTP/gemma-4-E2B-it-BF16-MTP.gguf",
]
BYTESHAPE = [
    f"Qwen3-30B-A3B-Instruct-2507-{label}bpw.gguf"
    for label in ("IQ3_S-2.69", "IQ3_S-2.75", "IQ3_S-3.02", "IQ3_S-3.29", "Q3_K_S-3.25")
]
QWEN7B = [
    *parts("qwen2.5-7b-instruct-fp16", 4),
    *parts("qwen2.5-7b-instruct-q4_k_m", 2),
    "qwen2.5-7b-instruct-q2_k.gguf",
]
CODER = ["qwen2.5-coder-7b-instruct-q4_k_m.gguf", *parts("qwen2.5-coder-7b-instruct-q4_k_m", 2)]
QWEN72B = ["qwen1_5-72b-chat.Q2_K.gguf", *parts("qwen1_5-72b-chat.Q4_0", 2), *parts("qwen1_5-72b-chat.Q4_K_M", 2)]
DEEPSEEK = [
    *parts("IQ1_S_R4/DeepSeek-R1-0528-IQ1_S_R4", 3),
    *parts("IQ3_K_R4/DeepSeek-R1-0528-IQ3_K_R4", 7),
    *parts("IQ3_KT/DeepSeek-R1-0528-IQ3_KT", 6),
]
LING = [*parts("smol-IQ4-KSS/Ling-1T-smol-IQ4_KSS", 11), "Ling-1T-smol-IQ2_KS.gguf"]
INTERN = ["internlm2-7b.i1-Q3_K_M.gguf"]
MANGA = ["MangaLMM.Q8_0.gguf", "MangaLMM.mmproj-Q8_0.gguf"]
ORNITH = [f"ornith-9b-mtp-kl-{label}.gguf" for label in ("BF16", "Q8_0", "Q4_K_M")]
BATMAC = ["ggml-model-Q3_K.gguf", "ggml-model-Q3_K_M.gguf"]
APEX = [
    f"Step-3.7-Flash-APEX-{label}.gguf"
    for label in ("Balanced", "Compact", "I-Balanced", "I-Compact", "I-Mini", "I-Quality", "Quality")
]
BONSAI = ["Bonsai-27B-Q1_0.gguf", "Bonsai-27B-dspark-bf16.gguf", "Bonsai-27B-DSpark-Q4_1.gguf"]
MINISTRAL = ["Ministral-3-8B-Instruct-2512-Q4_K_M.gguf", "Ministral-3-8B-Instruct-2512-BF16-mmproj.gguf"]
PIECES = [f"Meta-Llama-3.1-70B-Instruct.Q8_0.gguf.part{number}of2" for number in (1, 2)]

LISTINGS = [
    Listing("bartowski/Hermes-3-Llama-3.1-405B-GGUF", "Q6_K", parts(HERMES, 9), parts(HERMES, 9)),
    Listing("bartowski/microsoft_Phi-4-mini-instruct-GGUF", "Q6_K", PHI, PHI[2]),
    Listing("bartowski/microsoft_Phi-4-mini-instruct-GGUF", "Q6_K_L", PHI, PHI[3]),
    Listing("bartowski/microsoft_Phi-4-mini-instruct-GGUF", "Q5_K_L", PHI, PHI[1]),
    Listing("bartowski/microsoft_Phi-4-mini-instruct-GGUF", "Q5_K", PHI, said="it has Q5_K_L, Q5_K_M, Q6_K,"),
    Listing(
        "bartowski/Meta-Llama-3.1-8B-Instruct-GGUF",
        "Q4_0_4_4",
        [f"{LLAMA}-Q4_0_4_4.gguf", f"{LLAMA}-Q6_K_L.gguf"],
        said="a type that llama.cpp has given up (it rearranges Q4_0 itself); choose another of its quants: Q6_K_L",
    ),
    Listing(
        "bartowski/gemma-2-9b-it-GGUF", "F16", ["gemma-2-9b-it-Q4_K_M-fp16.gguf"], said="it has Q4_K_M-fp16"
    ),
    Listing("unsloth/Qwen3.8-Flash-Next-GGUF", "Q8_0", FLASH, FLASH[:6]),
    Listing("unsloth/Qwen3.8-Flash-Next-GGUF", "UD-Q4_K_XL", FLASH, FLASH[6:10]),
    Listing(
        "unsloth/Qwen3.8-Flash-Next-GGUF",
        "Q4_K_M",
        FLASH,
        said="left out as no model (a projector, draft or matrix): MTP/mtp-Qwen3.8-Flash-Next-Q4_K_M.gguf",
    ),
    Listing("unsloth/Qwen3.8-Flash-Next-GGUF", "BF16", FLASH, said="matrix): mmproj-BF16.gguf"),
    Listing("unsloth/Qwen3.6-35B-A3B-GGUF", "UD-Q4_K_M", A3B, "Qwen3.6-35B-A3B-UD-Q4_K_M.gguf"),
    Listing("unsloth/Qwen3.6-35B-A3B-GGUF", "Q4_K_M", A3B, "Qwen3.6-35B-A3B-UD-Q4_K_M.gguf"),
    Listing("unsloth/Qwen3.6-35B-A3B-GGUF", "MXFP4", A3B, "Qwen3.6-35B-A3B-MXFP4_MOE.gguf"),
    Listing("unsloth/Qwen3-4B-GGUF", "Q4_K_M", QWEN4B, "Qwen3-4B-Q4_K_M.gguf"),
    Listing("unsloth/Qwen3-4B-GGUF", "UD-Q4_K_XL", QWEN4B, "Qwen3-4B-UD-Q4_K_XL.gguf"),
    Listing("unsloth/gemma-4-E2B-it-GGUF", "Q8_0", GEMMA, said="none of its files is named after a quant"),
    Listing("unsloth/gemma-4-E2B-it-GGUF", "F16", GEMMA, said="matrix): MTP/gemma-4-E2B-it-F16-MTP.gguf"),
    Listing(
        "unsloth/Llama-3.3-70B-Instruct-GGUF",
        "Q8_0",
        parts("Llama-3.3-70B-Instruct-Q8_0/Llama-3.3-70B-Instruct-Q8_0", 2),
        parts("Llama-3.3-70B-Instruct-Q8_0/Llama-3.3-70B-Instruct-Q8_0", 2),
    ),
    Listing(
        "unsloth/Qwen3-Coder-30B-A3B-Instruct-GGUF",
        "TQ1_0",
        ["Qwen3-Coder-30B-A3B-Instruct-UD-TQ1_0.gguf"],
        "Qwen3-Coder-30B-A3B-Instruct-UD-TQ1_0.gguf",
    ),
    Listing("mradermacher/internlm2-7b-i1-GGUF", "Q3_K_M", INTERN, INTERN[0]),
    Listing(
        "mradermacher/Qwen3.6-27B-i1-GGUF", "i1-Q4_K_M", ["Qwen3.6-27B.i1-Q4_K_M.gguf"], "Qwen3.6-27B.i1-Q4_K_M.gguf"
    ),
    Listing(
        "mradermacher/CyberPal2.0-20B-i1-GGUF",
        "MXFP4_MOE",
        ["CyberPal2.0-20B.i1-MXFP4_MOE.gguf"],
        "CyberPal2.0-20B.i1-MXFP4_MOE.gguf",
    ),
    Listing("mradermacher/MangaLMM-GGUF", "Q8_0", MANGA, "MangaLMM.Q8_0.gguf"),
    Listing(
        "mradermacher/Index-Homura-2B-GGUF", "F16", ["Index-Homura-2B.mmproj-f16.gguf"], said="left out as no model"
    ),
    Listing(
        "mradermacher/Meta-Llama-3.1-70B-Instruct-GGUF",
        "Q8_0",
        PIECES,
        said=f"; {PIECES[0]}, {PIECES[1]} are pieces of one file: download them, join them",
    ),
    Listing(
        "mradermacher/MiniMax-M2-THRIFT-i1-GGUF",
        "IQ4_XS",
        [f"MiniMax-M2-THRIFT.i1-IQ4_XS.gguf.part{number}of2" for number in (1, 2)],
        said="(cat MiniMax-M2-THRIFT.i1-IQ4_XS.gguf.part* > MiniMax-M2-THRIFT.i1-IQ4_XS.gguf)",
    ),
    Listing(
        "mradermacher/Huihui-gpt-oss-120b-BF16-abliterated-i1-GGUF",
        "BF16",
        ["Huihui-gpt-oss-120b-BF16-abliterated.i1-Q4_K_S.gguf"],
        said="it has i1-Q4_K_S; named otherwise",
    ),
    Listing("Qwen/Qwen2.5-7B-Instruct-GGUF", "F16", QWEN7B, QWEN7B[:4]),
    Listing("Qwen/Qwen2.5-7B-Instruct-GGUF", "Q4_K_M", QWEN7B, QWEN7B[4:6]),
    Listing("Qwen/Qwen2.5-7B-Instruct-GGUF", "BF16", QWEN7B, said="it has F16, Q2_K, Q4_K_M"),
    Listing("Qwen/Qwen2.5-Coder-7B-Instruct-GGUF", "Q4_K_M", CODER, "qwen2.5-coder-7b-instruct-q4_k_m.gguf"),
    Listing("Qwen/Qwen1.5-72B-Chat-GGUF", "Q4_0", QWEN72B, QWEN72B[1:3]),
    Listing("ubergarm/DeepSeek-R1-0528-GGUF", "IQ1_S_R4", DEEPSEEK, said="a type of ik_llama.cpp, a fork"),
    Listing("ubergarm/DeepSeek-R1-0528-GGUF", "IQ3_KT", DEEPSEEK, said="choose another repository"),
    Listing("ubergarm/DeepSeek-R1-0528-GGUF", "IQ1_S", DEEPSEEK, said="none of its files is named after a quant"),
    Listing("ubergarm/Ling-1T-GGUF", "smol-IQ4_KSS", LING, said="smol-IQ4_KSS-00001-of-00011.gguf is IQ4_KSS"),
    Listing("ubergarm/Ling-1T-GGUF", "IQ2_KS", LING, said="Ling-1T-smol-IQ2_KS.gguf is IQ2_KS, a type of ik_llama.cpp"),
    Listing(
        "ubergarm/Qwen3-235B-A22B-Thinking-2507-GGUF",
        "IQ4_KSS",
        parts("IQ4_KSS/Qwen3-235B-A22B-Thinking-2507-IQ4_KSS", 3),
        said="which llama.cpp cannot read; choose another repository",
    ),
    Listing(
        "byteshape/Qwen3-30B-A3B-Instruct-2507-GGUF",
        "IQ3_S",
        BYTESHAPE,
        said=f"model.file={BYTESHAPE[3]}, or by its label, with quant=as-is quant.name=IQ3_S-2.69bpw or quant.name=IQ",
    ),
    Listing("byteshape/Qwen3-30B-A3B-Instruct-2507-GGUF", "IQ3_S-2.75bpw", BYTESHAPE, BYTESHAPE[1]),
    Listing("byteshape/Qwen3-30B-A3B-Instruct-2507-GGUF", "Q3_K_S", BYTESHAPE, BYTESHAPE[4]),
    Listing("lmstudio-community/gpt-oss-20b-GGUF", "MXFP4", ["gpt-oss-20b-MXFP4.gguf"], "gpt-oss-20b-MXFP4.gguf"),
    Listing(
        "lmstudio-community/gemma-3-4b-it-GGUF",
        "F16",
        ["gemma-3-4b-it-Q4_K_M.gguf", "mmproj-model-f16.gguf"],
        said="it has Q4_K_M; left out as no model (a projector, draft or matrix): mmproj-model-f16.gguf",
    ),
    Listing("ggml-org/gpt-oss-120b-GGUF", "MXFP4_MOE", parts("gpt-oss-120b-mxfp4", 3), parts("gpt-oss-120b-mxfp4", 3)),
    Listing(
        "noctrex/gemma-4-26B-A4B-it-MXFP4_MOE-GGUF",
        "MXFP4_MOE",
        ["gemma-4-26B-A4B-it-MXFP4_MOE.gguf"],
        "gemma-4-26B-A4B-it-MXFP4_MOE.gguf",
    ),
    Listing("mistralai/Ministral-3-8B-Instruct-2512-GGUF", "BF16", MINISTRAL, said="2512-BF16-mmproj.gguf"),
    Listing("mistralai/Ministral-3-8B-Instruct-2512-GGUF", "Q4_K_M", MINISTRAL, MINISTRAL[0]),
    Listing("batmac/ggml-model", "Q3_K_M", BATMAC, BATMAC[1]),
    Listing("batmac/ggml-model", "Q3_K", BATMAC, BATMAC[0]),
    Listing(
        "huihui-ai/Ornith-1.0-9B-abliterated-MTP-GGUF",
        "Q8_0",
        [*ORNITH, "mtp-ornith-9b-mtp-kl-Q8_0.gguf"],
        said="(if one is a model after all, choose it: model.file=ornith-9b-mtp-kl-Q8_0.gguf)",
    ),
    Listing(
        "mabry1985/Ornith-1.5-9B-MTP-GGUF",
        "IQ2_M",
        ["Ornith-1.5-9B-MTP-IQ2_M.gguf", "mmproj-Ornith-1.5-9B-BF16.gguf"],
        "Ornith-1.5-9B-MTP-IQ2_M.gguf",
    ),
    Listing("mudler/Step-3.7-Flash-APEX-GGUF", "APEX-Compact", APEX, "Step-3.7-Flash-APEX-Compact.gguf"),
    Listing("mudler/Step-3.7-Flash-APEX-GGUF", "I-Compact", APEX, "Step-3.7-Flash-APEX-I-Compact.gguf"),
    Listing("mudler/Step-3.7-Flash-APEX-GGUF", "Compact", APEX, said=f"model.file={APEX[1]} or model.file="),
    Listing("prism-ml/Bonsai-27B-gguf", "Q1_0", BONSAI, "Bonsai-27B-Q1_0.gguf"),
    Listing("prism-ml/Bonsai-27B-gguf", "BF16", BONSAI, said="it has Q1_0; left out as no model"),
    Listing(
        "prism-ml/Ternary-Bonsai-2-27B-gguf",
        "PTQ1_0",
        ["Ternary-Bonsai-2-27B-PTQ1_0.gguf"],
        said="is PTQ1_0, a type of PrismML's fork",
    ),
    Listing(
        "magnitudedev/Qwen3.6-35B-A3B-DFlash-GGUF",
        "Q8_0",
        ["Qwen3.6-35B-A3B-DFlash-Q8_0.gguf"],
        said="none of its files is named after a quant",
    ),
    Listing(
        "magnitudedev/Qwen3.8-27B-DFlash2-GGUF",
        "Q8_0",
        ["Qwen3.8-27B-DFlash2-Q8_0.gguf"],
        said="left out as no model (a projector, draft or matrix): Qwen3.8-27B-DFlash2-Q8_0.gguf",
    ),
    Listing(
        "ggml-org/gemma-3n-E2B-it-GGUF",
        "F16",
        ["gemma-3n-E2B-it-Q8_0.gguf", "gemma-3n-E2B-it-f16.gguf"],
        "gemma-3n-E2B-it-f16.gguf",
    ),
    Listing("microsoft/bitnet-b1.58-2B-4T-gguf", "I2_S", ["ggml-model-i2_s.gguf"], said="a type of bitnet.cpp, a fork"),
    Listing("microsoft/phi-4-gguf", "Q4_K", ["phi-4-Q4_K.gguf"], "phi-4-Q4_K.gguf"),
    Listing(
        "DavidAU/TieFighter-Holodeck-20B-gguf",
        "IQ2_M",
        ["TieFighter-Holodeck-20B-IQ2_M-imat.gguf"],
        "TieFighter-Holodeck-20B-IQ2_M-imat.gguf",
    ),
    Listing(
        "MaziyarPanahi/Meta-Llama-3-70B-Instruct-GGUF",
        "Q4_K_M",
        parts("Meta-Llama-3-70B-Instruct.Q4_K_M", 2),
        parts("Meta-Llama-3-70B-Instruct.Q4_K_M", 2),
    ),
]  # fmt: skip


@pytest.mark.parametrize("listing", LISTINGS, ids=str)
def test_the_files_of_a_published_listing(listing: Listing) -> None:
    found = answer(listing.asked, listing.names)
    if listing.said:
        assert isinstance(found, str)
        assert listing.said in found
    else:
        assert found == ([listing.found] if isinstance(listing.found, str) else listing.found)


def test_the_table_is_of_many_publishers() -> None:
    assert len({listing.repository for listing in LISTINGS}) >= 40
    assert len({listing.repository.split("/")[0] for listing in LISTINGS}) >= 10


@pytest.mark.parametrize(
    ("quant", "names", "found"),
    [
        ("Q4_K_M", ["M-Q4_K_M.gguf", "M-Q4_K_S.gguf", "M-IQ4_XS.gguf"], ["M-Q4_K_M.gguf"]),
        ("Q4_K_M", ["m-q4_k_m.gguf"], ["m-q4_k_m.gguf"]),
        ("Q4_K_M", ["m.Q4_K_M.gguf"], ["m.Q4_K_M.gguf"]),
        ("F16", ["M-f16.gguf", "mmproj-M-f16.gguf", "M-bf16.gguf"], ["M-f16.gguf"]),
        ("Q8_0", ["Q8_0/M-Q8_0-00002-of-00002.gguf", "Q8_0/M-Q8_0-00001-of-00002.gguf"], None),
        ("Q8_0", ["M-Q8_0-00001-of-00002.gguf"], []),  # not whole
        ("Q8_0", ["M-Q8_0.gguf.part", "M-Q8_0.txt", "MQ8_0.gguf"], []),
        ("Q8_0", [], []),
        # As publishers name theirs.
        ("Q8_0", ["L-Q8_0/L-Q8_0-00001-of-00002.gguf", "L-Q8_0/L-Q8_0-00002-of-00002.gguf"], None),
        ("Q3_K_M", ["internlm2-7b.i1-Q3_K_M.gguf"], ["internlm2-7b.i1-Q3_K_M.gguf"]),
        ("Q3_K_M", ["ggml-model-Q3_K.gguf", "ggml-model-Q3_K_M.gguf"], ["ggml-model-Q3_K_M.gguf"]),
        ("MXFP4", ["gpt-oss-20b-MXFP4.gguf"], ["gpt-oss-20b-MXFP4.gguf"]),
        ("IQ4_KSS", ["IQ4_KSS/Q-IQ4_KSS-00001-of-00002.gguf", "IQ4_KSS/Q-IQ4_KSS-00002-of-00002.gguf"], None),
        ("IQ4_KSS", ["smol-IQ4-KSS/Ling-smol-IQ4_KSS.gguf"], ["smol-IQ4-KSS/Ling-smol-IQ4_KSS.gguf"]),
        ("TQ1_0", ["Qwen3-Coder-UD-TQ1_0.gguf"], ["Qwen3-Coder-UD-TQ1_0.gguf"]),
        (
            "Q8_0",
            ["F-Q8_0.gguf", "MTP/mtp-F-Q8_0.gguf", "MTP/mtp-F-shared-Q8_0.gguf", "mmproj-Q8_0.gguf"],
            ["F-Q8_0.gguf"],
        ),
        ("Q4_K_M", ["MTP/mtp-F-Q4_K_M.gguf", "MTP/mtp-F-shared-Q4_K_M.gguf"], []),
        ("Q8_0", ["MangaLMM.Q8_0.gguf", "MangaLMM.mmproj-Q8_0.gguf"], ["MangaLMM.Q8_0.gguf"]),
        ("F16", ["V.mmproj-f16.gguf", "V.Q8_0.gguf"], []),
        ("Q8_0", ["L.Q8_0.gguf.part1of2", "L.Q8_0.gguf.part2of2"], []),
        (
            "F16",
            ["q-fp16-00001-of-00002.gguf", "q-fp16-00002-of-00002.gguf", "q-q8_0.gguf"],
            ["q-fp16-00001-of-00002.gguf", "q-fp16-00002-of-00002.gguf"],
        ),
        ("BF16", ["q-fp16.gguf"], []),
        ("IQ3_S-2.69bpw", ["Q-IQ3_S-2.69bpw.gguf", "Q-IQ3_S-2.75bpw.gguf"], ["Q-IQ3_S-2.69bpw.gguf"]),
        ("Q4_K_M", ["M-Q4_K_M-imat.gguf"], ["M-Q4_K_M-imat.gguf"]),
        ("Q4_K_M", ["M-Q4_K_M-imat.gguf", "M.Q4_K_M.gguf"], ["M.Q4_K_M.gguf"]),
        ("F16", ["M-f16.gguf", "M-fp16.gguf"], ["M-f16.gguf"]),
        ("FP16", ["M-f16.gguf"], ["M-f16.gguf"]),
        ("Q4_K_M", ["Q4_K_M/model.gguf", "Q8_0/model.gguf", "model.gguf"], ["Q4_K_M/model.gguf"]),
        ("UD-Q4_K_XL", ["Q4_K_XL/M-UD-Q4_K_XL.gguf"], ["Q4_K_XL/M-UD-Q4_K_XL.gguf"]),
        ("Q8_0", ["Q8_0/M-Q4_0.gguf", "Q8_0/M-Q8_0-MTP.gguf"], []),
        ("Q8_0", ["M-Q8_0-00001-of-00002.gguf", "M-UD-Q8_0.gguf"], []),  # not whole, and not another instead
        ("Q8_0", ["M-Q8_0-00001-of-00002.gguf", "M-Q8_0-00002-of-00003.gguf"], []),
        ("Q8_0", ["M-Q8_0-00000-of-00001.gguf"], []),
        ("K_M", ["M-Q4_K_M.gguf"], []),
        ("Q8_0", ["draft-M-Q8_0.gguf", "MTP-M-Q8_0.gguf"], []),
        ("Q4_1", ["Qwen3.8-27B-arf-g64-imat-Q4_1.gguf", "Q4_1.gguf", "imatrix_unsloth.gguf"], ["Q4_1.gguf"]),
        ("IQ4_XS", ["Qwen3.8-27B-IQ4_XS_4BPW.gguf"], ["Qwen3.8-27B-IQ4_XS_4BPW.gguf"]),
        ("IQ4_NL", ["M-smol-IQ4_NL.gguf", "M-IQ4_NL.gguf", "M-imat-IQ4_NL.gguf"], ["M-IQ4_NL.gguf"]),
        ("IQ4_NL", ["M-smol-IQ4_NL.gguf"], ["M-smol-IQ4_NL.gguf"]),
        ("Q8_0", [*parts("M-Q8_0", 2), "M-Q8_0-00001-of-00003.gguf"], parts("M-Q8_0", 2)),
        ("Q8_0", [*parts("M-Q8_0", 2), *parts("M-Q8_0", 3)], parts("M-Q8_0", 2)),
        *(
            ("Q8_0", [f"{draft}-M-Q8_0.gguf", "M-Q8_0.gguf"], ["M-Q8_0.gguf"])
            for draft in ("eagle3", "dflash", "dspark")
        ),
    ],
)
def test_files_of_a_quant(quant: str, names: list[str], found: list[str] | None) -> None:
    assert select_files(MODEL, QuantConfig(quant), names) == (sorted(names) if found is None else found)


@pytest.mark.parametrize(
    ("quant", "names", "said"),
    [
        (
            "F16",
            ["V.mmproj-f16.gguf", "V.Q8_0.gguf"],
            "it has Q8_0; left out as no model (a projector, draft or matrix): V.mmproj-f16.gguf",
        ),
        (
            "Q4_K_M",
            ["MTP/mtp-F-Q4_K_M.gguf", "Q8_0/F-Q8_0-00001-of-00006.gguf"],
            "it has Q8_0; left out as no model (a projector, draft or matrix): MTP/mtp-F-Q4_K_M.gguf",
        ),
        (
            "Q8_0",
            ["L.Q8_0.gguf.part1of2", "L.Q8_0.gguf.part2of2", "L.Q4_K_M.gguf"],
            "it has Q4_K_M; L.Q8_0.gguf.part1of2, L.Q8_0.gguf.part2of2 are pieces of one file: download them, join "
            "them (cat L.Q8_0.gguf.part* > L.Q8_0.gguf) and give that with model=local model.path=FILE",
        ),
        (
            "Q8_0",
            ["M-Q8_0-00001-of-00002.gguf"],
            "named otherwise, or not whole: M-Q8_0-00001-of-00002.gguf (model.file=NAME",
        ),
        ("Q4_K_M", ["q-fp16.gguf", "q-imatrix.gguf", "README.md"], "it has F16"),
        (
            "Q8_0",
            [f"{n}-Q8_0-x.gguf" for n in range(9)],
            "3-Q8_0-x.gguf, 4-Q8_0-x.gguf and 4 more (model.file=NAME chooses one)",
        ),
    ],
)
def test_files_that_look_like_a_quant_are_named(quant: str, names: list[str], said: str) -> None:
    assert select_files(MODEL, QuantConfig(quant), names) == []
    assert said in describe_others(QuantConfig(quant), names)


@pytest.mark.parametrize(
    ("file", "found"),
    [
        ("M-Q8_0.gguf", ["M-Q8_0.gguf"]),
        ("m-q8_0.gguf", ["m-q8_0.gguf"]),
        ("S-Q8_0.gguf", ["S-Q8_0.gguf"]),
        ("S-Q8_0-00001-of-00002.gguf", ["S-Q8_0-00001-of-00002.gguf", "S-Q8_0-00002-of-00002.gguf"]),
        ("s-Q4_0.GGUF", ["S-Q4_0.gguf"]),
    ],
)
def test_the_exact_name_wins(file: str, found: list[str]) -> None:
    names = ["M-Q8_0.gguf", "m-q8_0.gguf", "S-Q8_0.gguf", "S-Q4_0.gguf"]
    names += ["S-Q8_0-00001-of-00002.gguf", "S-Q8_0-00002-of-00002.gguf"]
    assert select_files(replace(MODEL, file=file), QuantConfig("as-is"), names) == found
    with pytest.raises(UserError, match=r"Several files .*choose one with model\.file"):
        select_files(replace(MODEL, file="m-Q8_0.gguf"), QuantConfig("as-is"), names)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            ["A-Q8_0.gguf", *parts("B-Q8_0", 2)],
            "choose one with model.file=A-Q8_0.gguf or model.file=B-Q8_0-00001-of-00002.gguf.",
        ),
        (["A-Q8_0.gguf", "B-Q8_0.gguf"], "choose one with model.file=A-Q8_0.gguf or model.file=B-Q8_0.gguf."),
        (
            ["M-UD-Q8_0.gguf", "M.i1-Q8_0.gguf"],
            "choose one with model.file=M-UD-Q8_0.gguf or model.file=M.i1-Q8_0.gguf, or by its label, with quant=as-is "
            "quant.name=UD-Q8_0 or quant.name=i1-Q8_0.",
        ),
        (
            ["one/M-Q8_0.gguf", "it's (2)/M-Q8_0.gguf", *parts("M-Q8_0", 2)],
            "choose one with \"model.file='it\\'s (2)/M-Q8_0.gguf'\" or model.file=one/M-Q8_0.gguf.",
        ),
        ([f"{number}-Q8_0.gguf" for number in range(9)], " or model.file=4-Q8_0.gguf or 4 more."),
    ],
)
def test_several_files_of_one_quant_are_told_with_the_choice_to_type(names: list[str], said: str) -> None:
    sentence = answer("Q8_0", names)
    assert isinstance(sentence, str)
    assert sentence.startswith("Several files of a/b are named after Q8_0; choose one with ")
    assert sentence.endswith(said)


@pytest.mark.parametrize("names", [["M-UD-Q8_0.gguf", "M.i1-Q8_0.gguf"], ["it's (2)/M-Q8_0.gguf", "M-Q8_0.gguf"]])
def test_the_choice_to_type_is_one_that_a_shell_and_hydra_read(names: list[str]) -> None:
    sentence = str(answer("Q8_0", names))
    ways = sentence.removesuffix(".").split("choose one with ")[1].split(", or by")[0].split(" or ")
    parser = OverridesParser.create()
    given = [parser.parse_overrides(shlex.split(way))[0] for way in ways]
    assert {override.key_or_group for override in given} == {"model.file"}
    assert {override.value() for override in given} == set(names)
    for override in given:
        assert answer("Q8_0", names, file=str(override.value())) == [override.value()]


@pytest.mark.parametrize(
    ("quant", "names", "notes"),
    [
        ("Q4_K_M", QWEN4B, []),
        ("Q4_K_M", [*QWEN4B, *parts("Other-Q8_0", 2)], []),
        (
            "MXFP4",
            ["CyberPal2.0-20B.i1-MXFP4_MOE.gguf"],
            [
                "taking CyberPal2.0-20B.i1-MXFP4_MOE.gguf for MXFP4, as no file is plainly named so (quant=as-is "
                "quant.name=i1-MXFP4_MOE keeps its label in reports)"
            ],
        ),
        (
            "Q4_K_M",
            A3B,
            [
                "taking Qwen3.6-35B-A3B-UD-Q4_K_M.gguf for Q4_K_M, as no file is plainly named so (quant=as-is "
                "quant.name=UD-Q4_K_M keeps its label in reports)"
            ],
        ),
        (
            "Q4_K_M",
            CODER,
            [
                "taking qwen2.5-coder-7b-instruct-q4_k_m.gguf, which is there in 2 parts too "
                "(model.file=qwen2.5-coder-7b-instruct-q4_k_m-00001-of-00002.gguf takes those)"
            ],
        ),
    ],
)
def test_a_choice_that_is_not_obvious_is_told(quant: str, names: list[str], notes: list[str]) -> None:
    chosen = select_files(MODEL, QuantConfig(quant), names)
    assert describe_choice(MODEL, QuantConfig(quant), chosen, names) == notes
    by_name = replace(MODEL, file=chosen[0])
    assert describe_choice(by_name, QuantConfig(quant), chosen, names) == []


def test_every_type_of_llama_cpp_is_readable() -> None:
    for file_type in list_file_types().values():
        name = f"M-{file_type.removeprefix('MOSTLY_')}.gguf"
        assert explain_foreign_type(name, [name]) is None


@pytest.mark.parametrize(
    "held",
    [
        *("IQ2_K", "IQ4_KS", "IQ4_KSS", "IQ2_KL", "IQ1_KT", "iq5_k", "IQ3_K_R4", "smol-IQ3_KT", "Q8_KV", "Q8_KV_R8"),
        *("Q4_K_R4", "IQ4_XS_R8", "Q8_0_R8", "BF16_R16", "IQ1_BN", "Q6_0", "Q4_0_8_8", "I2_S", "tl1", "TQ3_0", "PQ2_0"),
    ],
)
def test_types_of_forks_are_not(held: str) -> None:
    said = answer(held, [f"M-{held}.gguf", "M-Q8_0.gguf", "mmproj-F16.gguf"])
    assert isinstance(said, str)
    assert said.startswith(f"M-{held}.gguf is {held.removeprefix('smol-').upper()}, a type ")
    assert said.endswith("; choose another of its quants: Q8_0")


def test_a_library_that_knows_a_type_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(list_file_types(), 148, "MOSTLY_IQ4_KSS")
    assert answer("IQ4_KSS", ["M-IQ4_KSS.gguf"]) == ["M-IQ4_KSS.gguf"]


def test_nobody_is_told_to_take_a_projector() -> None:
    assert "choose it" not in answer("F16", ["V.mmproj-f16.gguf"])


CANDIDATES = ["M-Q4_K_M.gguf", "M-UD-Q4_K_M.gguf", "M.i1-Q4_K_M.gguf", "N-q4_k_m.gguf", "Q4_K_M/model.gguf"]
CANDIDATES += [*parts("M-Q4_K_M", 2), *parts("x/M-UD-Q4_K_M", 3), "M-Q4_K_M-imat.gguf", "M-Q4_K_M-4.5bpw.gguf"]
OTHERS = ["README.md", "config.json", "mmproj-F16.gguf", "M.mmproj-Q4_K_M.gguf", "M-Q4_K_M-mmproj.gguf", "imatrix.dat"]
OTHERS += [
    "M-imatrix-Q4_K_M.gguf",
    "mtp-M-Q4_K_M.gguf",
    "M-mtp-Q4_K_M.gguf",
    "MTP/M-Q4_K_M.gguf",
    "M-Q4_K_M.gguf.part1of2",
]
OTHERS += ["eagle3-M-Q4_K_M.gguf", "M-DFlash-Q4_K_M.gguf", "M-dspark-Q4_K_M.gguf", "M-Q4_K.gguf", "M-Q4_K_S.gguf"]
OTHERS += ["M-IQ4_K.gguf", "M-Q4_K_M_R4.gguf", "M-Q8_0.gguf", "Q4_K_M/M-Q8_0.gguf", "M-Q4_K_M-fp16x.gguf", "Q4_K_M.txt"]
OTHERS += [*parts("M-UD-Q4_K_XL", 2), "M-MXFP4_MOE.gguf", "draft/M-Q4_K_M.gguf", "M-Q4_K_M-00001.gguf", "MQ4_K_M.gguf"]


@given(
    st.sets(st.sampled_from(CANDIDATES)),
    st.sets(st.sampled_from(OTHERS) | st.text("abQ4_KM0-./", min_size=1).map(lambda text: f"{text}.Q8_0.gguf")),
    st.randoms(use_true_random=False),
)
def test_neither_other_files_nor_the_order_change_the_choice(
    candidates: set[str], others: set[str], random: Random
) -> None:
    def choose(names: list[str]) -> list[str] | str:
        try:
            return select_files(MODEL, QuantConfig("Q4_K_M"), names)
        except UserError as error:
            return str(error)

    mixed = sorted(candidates | others)
    random.shuffle(mixed)
    chosen = choose(sorted(candidates))
    assert choose(mixed) == chosen
    assert set(chosen) <= candidates or isinstance(chosen, str)
    random.shuffle(mixed)
    assert describe_others(QuantConfig("Q4_K_M"), mixed) == describe_others(QuantConfig("Q4_K_M"), sorted(mixed))


@given(st.permutations(["x/N-00001-of-00002.gguf", "x/N-00002-of-00002.gguf", "M-Q8_0.gguf", "README.md"]))
def test_the_order_does_not_matter_to_a_name_either(names: list[str]) -> None:
    assert answer("as-is", names, file="x/N.gguf") == ["x/N-00001-of-00002.gguf", "x/N-00002-of-00002.gguf"]
