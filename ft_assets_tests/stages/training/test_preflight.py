"""What small files tell is told before weights are downloaded."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ft_assets_tests.stages.models.test_base_model import serving

CODE = """
import sys
from pathlib import Path
from ft_assets.config import ExportConfig, ModelConfig, TrainingConfig
from ft_assets.errors import UserError
from ft_assets.stages.training.preflight import checked_base

model = ModelConfig.model_validate(
    {"base": "acme/nano", "lora": {"target_modules": sys.argv[2].split(",")}}
)
try:
    export = ExportConfig(gguf=[])
    print(checked_base(model, TrainingConfig(), export, Path(sys.argv[1]), 0, 1, print).folder)
except UserError as error:
    print(error)
"""


@pytest.mark.slow
def test_weights_are_downloaded_only_for_what_can_be_trained(
    nano_model: Path, tmp_path: Path
) -> None:
    from ft_assets.records import Example
    from ft_assets.stages.models.tokenizer import tokenizer_of
    from ft_assets.tables import write_table

    write_table(tmp_path / "train.parquet", Example, [])
    tokenizer_of(nano_model).save_pretrained(tmp_path / "tokenizer")
    with serving(nano_model) as (address, seen):
        own = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "hf")}

        def checked(modules: str) -> str:
            command = [sys.executable, "-c", CODE, str(tmp_path), modules]
            done = subprocess.run(command, env=own, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            return done.stdout.strip()

        assert "'lm_head' is the output layer" in checked("q_proj,lm_head")
        assert [path for path in seen if path.endswith("config.json")]
        assert not [path for path in seen if path.endswith(".safetensors")]
        assert (Path(checked("q_proj")) / "model.safetensors").is_file()
