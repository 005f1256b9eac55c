"""Writes the stand-in's folder: its code, its weights, and the two others that it is made of."""

from __future__ import annotations

import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] watch the video and answer question . ,"
BERT_NAME = "bert-base-uncased"
BERT = {
    "model_type": "bert",
    "vocab_size": 1 + WORDS.count(" "),
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
MISTRAL = {
    "model_type": "mistral",
    "architectures": ["MistralForCausalLM"],
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "sliding_window": None,
}
CODE = ("configuration_standin.py", "modeling_standin.py")


def build(folder: Path) -> Path:
    """`folder` gets the stand-in, and beside its weights `mistral` and `bert-base-uncased`; → it."""
    import torch
    from safetensors.torch import save_file

    from worker.engines import shims

    parts(folder)
    for name in CODE:
        shutil.copy(Path(__file__).parent / name, folder / name)
    with shims.lent(), torch.device("meta"):
        from tests.standin_videochat2.modeling_standin import StandinConfig, StandinVideoChat2

        shape = StandinVideoChat2(StandinConfig(str(folder / "mistral"), False, "", str(folder / BERT_NAME)))
    weights = {
        name: torch.arange(one.shape[1])[None]
        if "position_ids" in name
        else torch.tensor(numbers(name, one.shape))
        for name, one in shape.state_dict().items()
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    auto = {
        "AutoConfig": "configuration_standin.StandinConfig",
        "AutoModel": "modeling_standin.StandinVideoChat2",
    }
    config = {"model_type": "standin_videochat2", "auto_map": auto, "bert_model_path": BERT_NAME}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def parts(folder: Path) -> None:
    """What the Q-Former and the language model are named by: shapes and tokenizers, no weights."""
    (folder / BERT_NAME).mkdir(parents=True)
    (folder / BERT_NAME / "vocab.txt").write_text(WORDS.replace(" ", "\n") + "\n")
    (folder / BERT_NAME / "config.json").write_text(json.dumps(BERT))
    tokenizer().save_pretrained(folder / "mistral")
    (folder / "mistral" / "config.json").write_text(json.dumps(MISTRAL))


def numbers(name: str, shape: tuple[int, ...]) -> Any:
    """The same for a name wherever it is filled in."""
    drawn = 0.15 * np.random.RandomState(zlib.crc32(name.encode())).standard_normal(tuple(shape))
    if name.lower().endswith(("norm.weight", "norm1.weight", "norm2.weight")):
        drawn += 1
    return drawn.astype(np.float32)


def tokenizer() -> Any:
    """Letters are its words, and like Mistral's it begins every piece with a space."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = ["<unk>", "<s>", "</s>", *map(chr, range(33, 127)), "▁", "\n"]
    letter = Tokenizer(
        models.WordLevel({one: number for number, one in enumerate(letters)}, unk_token="<unk>")
    )
    letter.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(prepend_scheme="always", split=False),
            pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated"),
        ]
    )
    letter.decoder = decoders.Metaspace()
    letter.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=letter, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
