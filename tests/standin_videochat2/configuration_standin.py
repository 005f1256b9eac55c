"""Travels with the stand-in's weights, as its makers' own does with theirs."""

from typing import Any

from transformers import PretrainedConfig


class StandinConfig(PretrainedConfig):
    model_type = "standin_videochat2"

    def __init__(
        self,
        mistral_model_path: str = "nowhere/Mistral",
        use_flash_attention: bool = True,
        videochat2_model_path: str = "stage3.pth",
        bert_model_path: str = "bert",
        vision_width: int = 32,
        vision_depth: int = 2,
        vision_heads: int = 2,
        **others: Any,
    ) -> None:
        self.mistral_model_path = mistral_model_path
        self.use_flash_attention = use_flash_attention
        self.videochat2_model_path = videochat2_model_path
        self.bert_model_path = bert_model_path
        self.vision_width = vision_width
        self.vision_depth = vision_depth
        self.vision_heads = vision_heads
        super().__init__(**others)
