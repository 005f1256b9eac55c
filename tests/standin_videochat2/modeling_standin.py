"""VideoChat2_HD's surface and arithmetic at a tiny size, written as one wrote for transformers 4.40.

Its weights bear the names of the public source's, so that the same numbers in both give the same answers."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, interpolate, linear
from transformers import AutoModelForCausalLM, AutoTokenizer, BertConfig, BertTokenizer, PreTrainedModel
from transformers.modeling_utils import (
    apply_chunking_to_forward,
    find_pruneable_heads_and_indices,
    prune_linear_layer,
)

from .configuration_standin import StandinConfig

SIDE, PATCH, FRAMES = 224, 16, 8
QUERIES, MORE_QUERIES = 32, 64
PRUNING = find_pruneable_heads_and_indices, prune_linear_layer


class Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(gelu(self.fc1(x)))


class VisionAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads, self.scale = heads, (width // heads) ** -0.5
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias, self.v_bias = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(width))
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = linear(x, self.qkv.weight).chunk(3, dim=-1)
        q, k, v = (
            one.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for one in (q + self.q_bias, k, v + self.v_bias)
        )
        seen = (self.scale * q @ k.mT).softmax(-1) @ v
        return self.proj(seen.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn, self.mlp = VisionAttention(width, heads), Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(3, width, (1, PATCH, PATCH), stride=(1, PATCH, PATCH))

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).mT


class Encoder(nn.Module):
    def __init__(self, config: StandinConfig) -> None:
        super().__init__()
        width = config.vision_width
        self.use_checkpoint = True
        self.patch_embed = PatchEmbed(width)
        patches = (SIDE // PATCH) ** 2
        self.pos_embed = torch.ones(1, FRAMES * patches, width)
        self.img_pos_embed = torch.ones(1, patches, width)
        self.blocks = nn.ModuleList([Block(width, config.vision_heads) for _ in range(config.vision_depth)])

    def forward(self, x: Tensor, is_picture: bool) -> Tensor:
        x = self.patch_embed(x)
        x = x + (self.img_pos_embed if is_picture else self.pos_embed).type_as(x)
        for block in self.blocks:
            x = torch.utils.checkpoint.checkpoint(block, x) if self.use_checkpoint else block(x)
        return x


class Vision(nn.Module):
    def __init__(self, config: StandinConfig) -> None:
        super().__init__()
        self.encoder = Encoder(config)

    def forward(self, x: Tensor, is_picture: bool) -> Tensor:
        return self.encoder(x, is_picture)


class Dense(nn.Module):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, out)

    def forward(self, x: Tensor) -> Tensor:
        return gelu(self.dense(x))


class Back(nn.Module):
    """To the width of the stream, and onto it."""

    def __init__(self, width: int, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(width, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor, stream: Tensor) -> Tensor:
        return self.LayerNorm(self.dense(x) + stream)


class Look(nn.Module):
    def __init__(self, config: BertConfig, width: int) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key, self.value = nn.Linear(width, config.hidden_size), nn.Linear(width, config.hidden_size)

    def forward(self, x: Tensor, at: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (
            one.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for one in (self.query(x), self.key(at), self.value(at))
        )
        scores = q @ k.mT / q.shape[-1] ** 0.5 + mask
        return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


class QAttention(nn.Module):
    def __init__(self, config: BertConfig, width: int) -> None:
        super().__init__()
        self.self = Look(config, width)
        self.output = Back(config.hidden_size, config)

    def forward(self, x: Tensor, at: Tensor, mask: Tensor) -> Tensor:
        return self.output(self.self(x, at, mask), x)


class QLayer(nn.Module):
    def __init__(self, config: BertConfig, number: int) -> None:
        super().__init__()
        self.chunk = config.chunk_size_feed_forward
        self.attention = QAttention(config, config.hidden_size)
        if number % 2 == 0:
            self.crossattention = QAttention(config, config.encoder_width)
        self.intermediate = Dense(config.hidden_size, config.intermediate_size)
        self.output = Back(config.intermediate_size, config)
        self.intermediate_query = Dense(config.hidden_size, config.intermediate_size)
        self.output_query = Back(config.intermediate_size, config)

    def forward(self, x: Tensor, queries: int, mask: Tensor, seen: Tensor, seen_mask: Tensor) -> Tensor:
        x = self.attention(x, x, mask)
        asked, text = x[:, :queries], x[:, queries:]
        if hasattr(self, "crossattention"):
            asked = self.crossattention(asked, seen, seen_mask)
        asked = apply_chunking_to_forward(self._asked, self.chunk, 1, asked)
        return torch.cat([asked, apply_chunking_to_forward(self._text, self.chunk, 1, text)], dim=1)

    def _asked(self, x: Tensor) -> Tensor:
        return self.output_query(self.intermediate_query(x), x)

    def _text(self, x: Tensor) -> Tensor:
        return self.output(self.intermediate(x), x)


class QEmbeddings(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.register_buffer("position_ids", torch.arange(config.max_position_embeddings).expand((1, -1)))

    def forward(self, tokens: Tensor, queries: Tensor) -> Tensor:
        where = self.position_ids[:, : tokens.shape[1]]
        words = self.word_embeddings(tokens) + self.position_embeddings(where)
        return self.LayerNorm(torch.cat((queries, words), dim=1))


class QEncoder(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList([QLayer(config, number) for number in range(config.num_hidden_layers)])


class QBert(PreTrainedModel):
    config_class = BertConfig

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.embeddings, self.encoder = QEmbeddings(config), QEncoder(config)
        self.init_weights()

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.embeddings.word_embeddings = value

    def forward(
        self, tokens: Tensor, mask: Tensor, queries: Tensor, seen: Tensor, seen_mask: Tensor
    ) -> Tensor:
        assert self.get_head_mask(None, len(self.encoder.layer)) == [None] * len(self.encoder.layer)
        hidden = self.embeddings(tokens, queries)
        words = (1.0 - mask[:, None, None, :].to(self.dtype)) * -10000.0
        for layer in self.encoder.layer:
            hidden = layer(hidden, queries.shape[1], words, seen, self.invert_attention_mask(seen_mask))
        return hidden


class QFormer(PreTrainedModel):
    config_class = BertConfig
    base_model_prefix = "bert"

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.bert = QBert(config)
        self.init_weights()


class StandinVideoChat2(PreTrainedModel):
    config_class = StandinConfig

    def __init__(self, config: StandinConfig) -> None:
        super().__init__(config)
        assert not config.use_flash_attention
        assert not config.videochat2_model_path
        self.tokenizer = BertTokenizer.from_pretrained(config.bert_model_path, truncation_side="left")
        self.tokenizer.add_special_tokens({"bos_token": "[DEC]"})
        self.vision_encoder = Vision(config)
        self.vision_layernorm = nn.LayerNorm(config.vision_width, eps=1e-12)
        bert = BertConfig.from_pretrained(config.bert_model_path)
        bert.encoder_width = config.vision_width
        self.qformer = QFormer(bert)
        self.qformer.resize_token_embeddings(len(self.tokenizer))
        self.query_tokens = nn.Parameter(torch.zeros(1, QUERIES, bert.hidden_size))
        self.extra_query_tokens = nn.Parameter(torch.zeros(1, MORE_QUERIES, bert.hidden_size))
        self.mistral_tokenizer = AutoTokenizer.from_pretrained(config.mistral_model_path)
        self.mistral_tokenizer.padding_side = "left"
        self.mistral_model = AutoModelForCausalLM.from_pretrained(
            config.mistral_model_path, torch_dtype=torch.float16
        )
        self.mistral_proj = nn.Linear(bert.hidden_size, self.mistral_model.config.hidden_size)
        self.init_weights()

    def encode_img(self, image: Any, instruction: Any) -> tuple[list[Tensor], list[int], bool]:
        tiles, texts, counts = [], [], []
        for number, video in enumerate(image):
            rows, columns = video.shape[-2] // SIDE, video.shape[-1] // SIDE
            cut = video.unflatten(-1, (columns, SIDE)).unflatten(-3, (rows, SIDE))  # T 3 rows y columns x
            tiles.append(cut.permute(2, 4, 0, 1, 3, 5).flatten(0, 1))
            whole = interpolate(video.float(), size=(SIDE, SIDE), mode="bicubic", align_corners=False)
            tiles.append(whole.to(video.dtype)[None])
            counts.append(rows * columns + 1)
            texts += [instruction[number]] * counts[-1]
        pixels = torch.cat(tiles).transpose(1, 2)
        is_picture = pixels.shape[2] == 1
        seen = self.vision_layernorm(self.vision_encoder(pixels, is_picture))
        queries = torch.cat([self.query_tokens, self.extra_query_tokens], dim=1).expand(len(seen), -1, -1)
        words = self.tokenizer(
            texts, padding="longest", truncation=True, max_length=512, return_tensors="pt"
        ).to(seen.device)
        everything = torch.ones(seen.shape[:2], dtype=torch.long, device=seen.device)
        mask = torch.cat([everything[:, :1].expand(-1, queries.shape[1]), words.attention_mask], dim=1)
        hidden = self.qformer.bert(words.input_ids, mask, queries, seen, everything)
        found = self.mistral_proj(hidden[:, : queries.shape[1]])
        clips = [one.reshape(1, -1, found.shape[-1]) for one in found.split(counts)]
        return clips, [one.shape[1] for one in clips], is_picture
