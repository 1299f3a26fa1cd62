"""What models of the tests are made of: a tokenizer, and small configurations of many architectures, each of which differs from the others in something that a short cut may get wrong.

Three blocks, d_model 32, 64 tokens; random weights are drawn from a seed when a checkpoint is written.
"""

from collections.abc import Callable
from pathlib import Path

import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

STORIES = Path(__file__).resolve().parents[2] / "shared" / "models" / "stories260K"
SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")


def word_tokenizer(words: tuple[str, ...]) -> PreTrainedTokenizerFast:
    """One token a word or sign, with a beginning-of-sequence token in front, like the embedded model's."""
    raw = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*SPECIAL, *words])}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+|[^\w\s]"), behavior="removed", invert=True)
    raw.decoder = decoders.WordPiece(prefix="", cleanup=True)
    raw.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    special = dict(zip(("pad_token", "bos_token", "eos_token", "unk_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=raw, add_bos_token=True, **special)


def config(model_type: str, **options: object) -> transformers.PretrainedConfig:
    sizes = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
    }
    return transformers.AutoConfig.for_model(model_type, **(sizes | options))


def _rope(theta: float = 10_000.0, **options: object) -> dict:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": theta, **options}}


def _gpt2(**options: object) -> transformers.PretrainedConfig:
    return transformers.GPT2Config(vocab_size=64, n_embd=32, n_layer=3, n_head=4, n_positions=64, **options)


MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
FAMILIES: dict[str, Callable[[], transformers.PretrainedConfig]] = {
    "gpt2": _gpt2,
    "gpt2-untied": lambda: _gpt2(tie_word_embeddings=False),
    "gpt2-wide": lambda: _gpt2(n_inner=80),
    "gpt2-scaled-by-layer": lambda: _gpt2(scale_attn_by_inverse_layer_idx=True),
    "gpt2-relu": lambda: _gpt2(activation_function="relu"),
    "gpt_bigcode": lambda: transformers.GPTBigCodeConfig(vocab_size=64, n_embd=32, n_layer=3, n_head=4, n_positions=64),
    "gpt_neo": lambda: transformers.GPTNeoConfig(
        vocab_size=64,
        hidden_size=32,
        num_layers=3,
        num_heads=4,
        intermediate_size=48,
        max_position_embeddings=64,
        attention_types=[[["global", "local", "global"], 1]],
        window_size=4,
    ),
    "gpt_neox": lambda: config("gpt_neox"),
    "gpt_neox-sequential": lambda: config("gpt_neox", use_parallel_residual=False),
    "gpt_neox-rotary-half": lambda: config("gpt_neox", **_rope(partial_rotary_factor=0.5)),
    "gptj": lambda: transformers.GPTJConfig(vocab_size=64, n_embd=32, n_layer=3, n_head=4, n_positions=64, rotary_dim=4, n_inner=48),
    "codegen": lambda: transformers.CodeGenConfig(vocab_size=64, n_embd=32, n_layer=3, n_head=4, n_positions=64, rotary_dim=4, n_inner=48),
    "openai-gpt": lambda: transformers.OpenAIGPTConfig(vocab_size=64, n_embd=32, n_layer=3, n_head=4, n_positions=64),
    "bloom": lambda: transformers.BloomConfig(vocab_size=64, hidden_size=32, n_layer=3, n_head=4),
    "bloom-post-residual": lambda: transformers.BloomConfig(
        vocab_size=64, hidden_size=32, n_layer=3, n_head=4, apply_residual_connection_post_layernorm=True
    ),
    "falcon": lambda: transformers.FalconConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, alibi=False, max_position_embeddings=64
    ),
    "falcon-alibi": lambda: transformers.FalconConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        alibi=True,
        multi_query=False,
        parallel_attn=False,
        max_position_embeddings=64,
    ),
    "falcon-new": lambda: transformers.FalconConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_kv_heads=2,
        alibi=False,
        new_decoder_architecture=True,
        max_position_embeddings=64,
    ),
    "falcon-alibi-parallel": lambda: transformers.FalconConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, alibi=True, max_position_embeddings=64
    ),
    "mpt": lambda: transformers.MptConfig(vocab_size=64, d_model=32, n_heads=4, n_layers=3, max_seq_len=64),
    "opt": lambda: transformers.OPTConfig(
        vocab_size=64,
        hidden_size=32,
        ffn_dim=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=64,
        word_embed_proj_dim=32,
    ),
    "opt-350m": lambda: transformers.OPTConfig(
        vocab_size=64,
        hidden_size=32,
        ffn_dim=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=64,
        word_embed_proj_dim=16,
        do_layer_norm_before=False,
    ),
    "xglm": lambda: transformers.XGLMConfig(
        vocab_size=64, d_model=32, ffn_dim=48, num_layers=3, attention_heads=4, max_position_embeddings=64
    ),
    "llama": lambda: config("llama"),
    "llama-grouped": lambda: config("llama", num_key_value_heads=2),
    "llama-theta": lambda: config("llama", num_key_value_heads=2, **_rope(500_000.0)),
    "llama-tied": lambda: config("llama", tie_word_embeddings=True),
    "llama-biased": lambda: config("llama", attention_bias=True, mlp_bias=True),
    "llama-rope-llama3": lambda: config(
        "llama",
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 10000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        },
    ),
    "llama-rope-linear": lambda: config("llama", rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}),
    "llama-rope-dynamic": lambda: config("llama", rope_parameters={"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}),
    "llama-rope-yarn": lambda: config(
        "llama", rope_parameters={"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16}
    ),
    "mistral": lambda: config("mistral", num_key_value_heads=2, sliding_window=None),
    "mistral-sliding": lambda: config("mistral", num_key_value_heads=2, sliding_window=4),
    "ministral3": lambda: config(
        "ministral3",
        num_key_value_heads=2,
        head_dim=8,
        rope_parameters={
            "rope_type": "yarn",
            "rope_theta": 10000.0,
            "factor": 4.0,
            "original_max_position_embeddings": 16,
            "llama_4_scaling_beta": 0.1,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
        },
    ),
    "mixtral": lambda: config("mixtral", num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2, sliding_window=None),
    "qwen2": lambda: config("qwen2", num_key_value_heads=2),
    "qwen2-sliding": lambda: config("qwen2", num_key_value_heads=2, use_sliding_window=True, sliding_window=4, max_window_layers=1),
    "qwen2_moe": lambda: config("qwen2_moe", num_key_value_heads=2, shared_expert_intermediate_size=24, **MOE),
    "qwen3": lambda: config("qwen3", num_key_value_heads=2, head_dim=8),
    "qwen3_moe": lambda: config("qwen3_moe", num_key_value_heads=2, head_dim=8, **MOE),
    "qwen3_next": lambda: config(
        "qwen3_next",
        num_key_value_heads=2,
        head_dim=8,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        num_hidden_layers=4,
        shared_expert_intermediate_size=24,
        **MOE,
    ),
    "phi": lambda: config("phi"),
    "phi-2": lambda: config("phi", num_attention_heads=2, **_rope(partial_rotary_factor=0.4)),
    "phi3": lambda: config("phi3", num_key_value_heads=2, pad_token_id=0, sliding_window=None),
    "phi3-longrope": lambda: config(
        "phi3",
        num_key_value_heads=2,
        pad_token_id=0,
        sliding_window=None,
        original_max_position_embeddings=16,
        rope_parameters={
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "short_factor": [1.0, 1.1, 1.2, 1.3],
            "long_factor": [1.0, 2.0, 3.0, 4.0],
            "original_max_position_embeddings": 16,
        },
    ),
    "stablelm": lambda: config("stablelm", num_key_value_heads=2),
    "stablelm-rotary-half": lambda: config("stablelm", num_key_value_heads=4, **_rope(partial_rotary_factor=0.5)),
    "gemma": lambda: config("gemma", num_key_value_heads=1, head_dim=8),
    "gemma2": lambda: config("gemma2", num_key_value_heads=2, head_dim=8, sliding_window=4),
    "gemma3_text": lambda: config("gemma3_text", num_key_value_heads=2, head_dim=8, sliding_window=4),
    "cohere": lambda: config("cohere", num_key_value_heads=2, logit_scale=0.25),
    "cohere2": lambda: config("cohere2", num_key_value_heads=2, sliding_window=4),
    "granite": lambda: config(
        "granite", num_key_value_heads=2, logits_scaling=8.0, embedding_multiplier=3.0, residual_multiplier=0.5, attention_multiplier=0.3
    ),
    "granitemoe": lambda: config("granitemoe", num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2, logits_scaling=8.0),
    "olmo": lambda: config("olmo", num_key_value_heads=2),
    "olmo2": lambda: config("olmo2", num_key_value_heads=2),
    "olmo3": lambda: config("olmo3", num_key_value_heads=2, sliding_window=4),
    "olmoe": lambda: config("olmoe", num_key_value_heads=2, num_experts=4, num_experts_per_tok=2),
    "starcoder2": lambda: config("starcoder2", num_key_value_heads=2),
    "smollm3": lambda: config("smollm3", num_key_value_heads=2, pad_token_id=0),
    "nemotron": lambda: config("nemotron", num_key_value_heads=2),
    "glm": lambda: config("glm", num_key_value_heads=2, head_dim=8, pad_token_id=0),
    "glm4": lambda: config("glm4", num_key_value_heads=2, head_dim=8, pad_token_id=0),
    "seed_oss": lambda: config("seed_oss", num_key_value_heads=2, head_dim=8),
    "exaone4": lambda: config("exaone4", num_key_value_heads=2, sliding_window=4, sliding_window_pattern=3),
    "hunyuan_v1_dense": lambda: config("hunyuan_v1_dense", num_key_value_heads=2, head_dim=8),
    "arcee": lambda: config("arcee", num_key_value_heads=2),
    "ernie4_5": lambda: config("ernie4_5", num_key_value_heads=2),
    "apertus": lambda: config("apertus", num_key_value_heads=2),
    "gpt_oss": lambda: config("gpt_oss", num_key_value_heads=2, head_dim=8, num_local_experts=4, num_experts_per_tok=2, sliding_window=4),
    "deepseek_v3": lambda: config(
        "deepseek_v3",
        num_key_value_heads=4,
        q_lora_rank=16,
        kv_lora_rank=16,
        qk_nope_head_dim=8,
        qk_rope_head_dim=4,
        v_head_dim=8,
        n_routed_experts=4,
        n_group=2,
        topk_group=1,
        num_experts_per_tok=2,
        moe_intermediate_size=24,
        first_k_dense_replace=1,
    ),
    "mamba": lambda: transformers.MambaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=3, state_size=8, intermediate_size=64),
    "mamba2": lambda: transformers.Mamba2Config(
        vocab_size=64, hidden_size=32, num_hidden_layers=3, state_size=8, num_heads=8, head_dim=8, n_groups=2, chunk_size=8
    ),
    "falcon_mamba": lambda: transformers.FalconMambaConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=3, state_size=8, intermediate_size=64
    ),
    "recurrent_gemma": lambda: config(
        "recurrent_gemma", num_key_value_heads=1, head_dim=8, lru_width=32, attention_window_size=8, num_hidden_layers=3
    ),
    "rwkv": lambda: transformers.RwkvConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=3, attention_hidden_size=32, context_length=64
    ),
    "jamba": lambda: config(
        "jamba",
        num_key_value_heads=2,
        num_experts=2,
        num_experts_per_tok=1,
        use_mamba_kernels=False,
        attn_layer_period=2,
        attn_layer_offset=1,
        mamba_d_state=8,
        mamba_dt_rank=4,
    ),
    "falcon_h1": lambda: config(
        "falcon_h1",
        num_key_value_heads=2,
        head_dim=8,
        mamba_d_ssm=32,
        mamba_n_heads=4,
        mamba_d_head=8,
        mamba_d_state=8,
        mamba_chunk_size=8,
        mamba_n_groups=1,
    ),
    "lfm2": lambda: config("lfm2", num_key_value_heads=2, block_auto_adjust_ff_dim=False, layer_types=["conv", "full_attention", "conv"]),
    "bert": lambda: config("bert", is_decoder=True),
    "modernbert-decoder": lambda: config("modernbert-decoder", pad_token_id=0, local_attention=4),
    "bamba": lambda: config(
        "bamba",
        num_key_value_heads=2,
        mamba_n_heads=8,
        mamba_d_head=8,
        mamba_d_state=8,
        mamba_n_groups=1,
        mamba_chunk_size=8,
        attn_layer_indices=[1],
    ),
    "zamba2": lambda: config(
        "zamba2",
        num_key_value_heads=4,
        mamba_d_state=8,
        mamba_ngroups=1,
        n_mamba_heads=8,
        mamba_headdim=8,
        chunk_size=8,
        num_hidden_layers=3,
        layers_block_type=["mamba", "hybrid", "mamba"],
    ),
    "nanochat": lambda: config("nanochat", num_key_value_heads=2),
    "vaultgemma": lambda: config("vaultgemma", num_key_value_heads=2, head_dim=8, sliding_window=4),
    "llama4_text": lambda: config(
        "llama4_text", num_key_value_heads=2, head_dim=8, num_local_experts=2, intermediate_size_mlp=48, attention_chunk_size=8
    ),
}
