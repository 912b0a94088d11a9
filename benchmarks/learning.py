"""What a training with nothing set teaches: 24 facts asked in wordings that were not trained, by seed.

`python -m benchmarks.learning CORPUS SEED…` trains the demo's base model on `lighthouse` (the demo's corpus)
or `tarnholm` (tarnholm.yaml beside this file) and prints one line of JSON for each seed, with what the
training cost in answers to general questions. PRECISION and REHEARSAL set these settings.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def write_corpus(name: str, data: Path) -> None:
    """Writes a corpus into a data folder: only documents and questions, no settings."""
    folder = data / name
    if name != "tarnholm":
        shutil.copytree(ROOT / "data" / name, folder)
        return
    folder.mkdir(parents=True)
    facts = yaml.safe_load((ROOT / "benchmarks" / "tarnholm.yaml").read_text())
    pairs = [(ask, fact["answer"]) for fact in facts for ask in fact["ask"]]
    lines = (json.dumps({"question": ask, "answer": answer}) for ask, answer in pairs)
    (folder / "pairs.jsonl").write_text("\n".join(lines) + "\n")
    asked = (json.dumps({"question": fact["test"], "key_fact": fact["key"]}) for fact in facts)
    (folder / "questions.jsonl").write_text("\n".join(asked) + "\n")


def learn(name: str, seed: int, precision: str, work: Path) -> dict[str, object]:
    """The facts of base and tuned after one training, with its CPU seconds and peak memory."""
    write_corpus(name, work / "data")
    settings: dict[str, dict[str, object]] = {"training": {"seed": seed, "precision": precision}}
    if rehearsal := os.environ.get("REHEARSAL"):
        settings["training"]["rehearsal"] = float(rehearsal)
    (work / "data" / "finetune.yaml").write_text(yaml.safe_dump(settings))
    places = {"FT_ASSETS_DATA": "data", "FT_ASSETS_STORAGE": "storage", "DAGSTER_HOME": "dagster"}
    own = {key: str(work / place) for key, place in places.items()}
    began, before = time.monotonic(), os.times()
    command = [sys.executable, "-m", "ft_assets.cli", "evaluate", name]
    subprocess.run(command, check=True, env={**os.environ, **own}, stdout=subprocess.DEVNULL)
    after = os.times()
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    adapter, evaluation = (
        _manifest(work / "storage" / name / each) for each in ("adapter", "evaluation")
    )
    counts = evaluation["counts"]
    return {
        "corpus": name,
        "seed": seed,
        "precision": precision,
        "facts": f"{counts['tuned_key_facts']:.0f} of {counts['questions']:.0f}",
        "base": int(counts["base_key_facts"]),
        "general": f"{counts['tuned_general_answers']:.0f} of {counts['general_questions']:.0f}",
        "base_general": int(counts["base_general_answers"]),
        "general_perplexity": round(counts["tuned_general_perplexity"], 1),
        "base_general_perplexity": round(counts["base_general_perplexity"], 1),
        "stop_rate": round(counts["tuned_stop_rate"], 2),
        "chosen": adapter["chosen"],
        "steps": adapter["counts"]["steps"],
        "train_seconds": adapter["cost"]["seconds"],
        "cpu_seconds": round(cpu),
        "wall_seconds": round(time.monotonic() - began),
    }


def _manifest(asset: Path) -> dict[str, dict[str, float]]:
    """The only manifest of an asset."""
    [path] = asset.glob("*/manifest.json")
    found: dict[str, dict[str, float]] = json.loads(path.read_text())
    return found


def main() -> None:
    """Trains on the corpus that the first argument names, once for each seed."""
    precision = os.environ.get("PRECISION", "fp32")
    for seed in sys.argv[2:]:
        with tempfile.TemporaryDirectory(prefix="ft-assets-learning-") as work:
            print(json.dumps(learn(sys.argv[1], int(seed), precision, Path(work))), flush=True)


if __name__ == "__main__":
    main()
