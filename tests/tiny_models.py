"""Small models with random weights, of the true architectures, and a tokenizer that knows bytes.

Their heads, windows and sections stand in the proportions of the real ones; only the sizes are small."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

IM_START, IM_END, VIDEO = "<|im_start|>", "<|im_end|>", "<|video_pad|>"
SPECIALS = ("<|endoftext|>", IM_START, IM_END, "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", VIDEO)
VOCABULARY = 256 + len(SPECIALS)
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
FAMILIES = ("qwen2_5_vl", "qwen3_vl")
_LIBRARIES: list[Any] = []


def mend_torchvision() -> None:
    """One that was built for another torch breaks the import of transformers: it is told of the operators
    that it misses. To be called before that import; where there is none, or a sound one, nothing happens."""
    found = find_spec("torchvision")
    if _LIBRARIES or found is None or found.origin is None:
        return
    import torch
    from torch import library as operators

    try:
        torch.ops.load_library(str(next(Path(found.origin).parent.glob("_C*.so"))))
    except (OSError, StopIteration):
        library = operators.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _LIBRARIES.append(library)


mend_torchvision()


def _made_anew(seed: int) -> Any:
    """Small products are not worth the waiting of one thread for another."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    return torch


def id_of(special: str) -> int:
    return 256 + SPECIALS.index(special)


def tokenizer() -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytewise = Tokenizer(models.BPE({letter: n for n, letter in enumerate(letters)}, []))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytewise.decoder = decoders.ByteLevel()
    bytewise.add_special_tokens([AddedToken(one, normalized=False, special=True) for one in SPECIALS])
    return PreTrainedTokenizerFast(
        tokenizer_object=bytewise, eos_token=IM_END, pad_token=SPECIALS[0], chat_template=TEMPLATE
    )


def config(family: str) -> Any:
    """Of Qwen2.5-VL or Qwen3-VL."""
    from transformers import Qwen2_5_VLConfig, Qwen3VLConfig

    text = {
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 8192,
        "eos_token_id": id_of(IM_END),
        "bos_token_id": id_of(SPECIALS[0]),
        "pad_token_id": id_of(SPECIALS[0]),
    }
    vision = {"depth": 3, "hidden_size": 64, "intermediate_size": 128, "num_heads": 4, "out_hidden_size": 64}
    ids = {
        "image_token_id": id_of("<|image_pad|>"),
        "video_token_id": id_of(VIDEO),
        "vision_start_token_id": id_of("<|vision_start|>"),
        "vision_end_token_id": id_of("<|vision_end|>"),
    }
    if family == "qwen2_5_vl":
        rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]}
        return Qwen2_5_VLConfig(
            text_config={**text, "rope_parameters": rope},
            vision_config={**vision, "fullatt_block_indexes": [1], "tokens_per_second": 2},
            **ids,
        )
    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [4, 2, 2], "mrope_interleaved": True}
    return Qwen3VLConfig(
        text_config={**text, "head_dim": 16, "rope_parameters": rope},
        vision_config={**vision, "deepstack_visual_indexes": [0, 1], "num_position_embeddings": 64},
        **ids,
    )


def vision_language(family: str, seed: int = 0, wide: float = 0.3) -> Any:
    """`wide`: spread of the weights; a wide one makes answers that depend on what is seen."""
    from transformers import AutoModelForImageTextToText

    torch = _made_anew(seed)
    model = AutoModelForImageTextToText.from_config(config(family))
    with torch.no_grad():
        for name, one in model.named_parameters():
            if "norm" not in name:
                one.normal_(0, wide)
        model.lm_head.weight[id_of("<|vision_start|>") :] = 0  # nobody says what stands for pictures
    model.generation_config.eos_token_id = [id_of(IM_END), id_of(SPECIALS[0])]
    model.generation_config.pad_token_id = id_of(SPECIALS[0])
    return model.eval()


def seven_billion() -> Any:
    """The shape of Qwen2.5-VL-7B, with the tokens of ours."""
    from transformers import Qwen2_5_VLConfig

    small = config("qwen2_5_vl")
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": 152064,
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "max_position_embeddings": 128000,
            "rms_norm_eps": 1e-6,
            "eos_token_id": small.text_config.eos_token_id,
            "bos_token_id": small.text_config.bos_token_id,
            "pad_token_id": small.text_config.pad_token_id,
            "rope_parameters": rope,
        },
        vision_config={
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": 3420,
            "num_heads": 16,
            "out_hidden_size": 3584,
            "fullatt_block_indexes": [7, 15, 23, 31],
            "tokens_per_second": 2,
        },
        image_token_id=small.image_token_id,
        video_token_id=small.video_token_id,
        vision_start_token_id=small.vision_start_token_id,
        vision_end_token_id=small.vision_end_token_id,
    )


def outline(folder: Path, shape: Any) -> Path:
    """A folder with everything but weights."""
    folder.mkdir(parents=True, exist_ok=True)
    shape.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def random_model(folder: Path, device: str) -> Any:
    """Of the shape that an outline has, made on the device: fp16 on a GPU. It never ends by itself."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    torch = _made_anew(0)
    numbers = torch.float16 if device == "cuda" else torch.float32
    with torch.device(device):
        model = AutoModelForImageTextToText.from_config(
            AutoConfig.from_pretrained(folder), dtype=numbers, attn_implementation="sdpa"
        )
    model.generation_config.eos_token_id = None
    return model.eval().requires_grad_(False)


def mistral(seed: int = 0) -> Any:
    from transformers import MistralConfig, MistralForCausalLM

    _made_anew(seed)
    model = MistralForCausalLM(
        MistralConfig(
            vocab_size=VOCABULARY,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=8192,
            sliding_window=None,
            initializer_range=0.3,
        )
    )
    return model.eval()


def taught(family: str, says: str) -> tuple[Any, Any]:
    """A model that says this, whatever it is shown and asked, in one token; and its tokenizer."""
    from tokenizers import AddedToken

    torch = _made_anew(0)
    model, words = vision_language(family), tokenizer()
    words.add_tokens(AddedToken(says, normalized=False))
    model.resize_token_embeddings(VOCABULARY + 1, mean_resizing=False)
    begins, answer, ends = words("\n").input_ids[-1], VOCABULARY, id_of(IM_END)
    with torch.no_grad():
        for name, one in model.model.language_model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                one.zero_()  # what comes next depends on the last token alone
        seen = model.get_input_embeddings().weight
        model.lm_head.weight.zero_()
        model.lm_head.weight[answer] = seen[begins]
        model.lm_head.weight[ends] = seen[answer]
    return model, words


def normalisation(folder: Path, family: str) -> None:
    """How the pixels of pictures become numbers."""
    clip = family == "qwen2_5_vl"
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "image_mean": [0.48145466, 0.4578275, 0.40821073] if clip else [0.5, 0.5, 0.5],
                "image_std": [0.26862954, 0.26130258, 0.27577711] if clip else [0.5, 0.5, 0.5],
            }
        )
    )


def checkpoint(folder: Path, family: str, says: str | None = None, **options: Any) -> Path:
    """A folder as the hub has them: weights, config, tokenizer, and how pictures are normalised."""
    model, words = taught(family, says) if says else (vision_language(family, **options), tokenizer())
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    normalisation(folder, family)
    return folder


if (
    __name__ == "__main__"
):  # python -m tests.tiny_models FOLDER [FAMILY]: a model that sees nothing and says no
    import sys

    checkpoint(
        Path(sys.argv[1]),
        (*sys.argv[2:], FAMILIES[0])[0],
        says='{"ghost_probing_detected": false, "incidents": []}',
    )
