"""Keys of a ``config.json`` that change nothing computed here, in any family, and why."""

from __future__ import annotations

_GROUPS: dict[str, tuple[str, ...]] = {
    "says where the file comes from": (
        "architectures", "_name_or_path", "name_or_path", "_commit_hash", "transformers_version",
        "transformers.js_config", "finetuning_task", "model_name", "tokenizer_class",
        "unsloth_*", "auto_map", "trust_remote_code",
    ),
    "the type in which another program holds weights; here the stored type counts": (
        "torch_dtype", "dtype", "use_bfloat16", "bf16", "fp16",
    ),
    "is for training": (
        "initializer_range", "initializer_factor", "init_std", "attention_dropout", "dropout",
        "hidden_dropout", "hidden_dropout_prob", "attention_probs_dropout_prob", "resid_pdrop",
        "embd_pdrop", "attn_pdrop", "gradient_checkpointing", "tf_legacy_loss",
        "max_sequence_length", "model_max_length", "output_router_logits",
        "router_aux_loss_coef",
    ),
    "says how the same result is computed or returned": (
        "use_cache", "return_dict", "output_hidden_states", "output_attentions",
        "output_scores", "return_dict_in_generate", "torchscript", "chunk_size_feed_forward",
        "attn_implementation", "_attn_implementation*", "_flash_attn_2_enabled", "use_flash_attn",
        "use_flash_attention", "use_flash_attention_2", "_experts_implementation",
    ),
    "a token id, of the tokenizer and of generation": (
        "pad_token_id", "sep_token_id", "cls_token_id", "mask_token_id", "unk_token_id",
        "eos_token_id", "decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id",
    ),
    "a setting of generation that older files keep here; generation here has its own": (
        "max_length", "max_new_tokens", "min_length", "do_sample", "early_stopping", "num_beams",
        "num_beam_groups", "diversity_penalty", "temperature", "top_k", "top_p", "typical_p",
        "repetition_penalty", "length_penalty", "no_repeat_ngram_size",
        "encoder_no_repeat_ngram_size", "bad_words_ids", "num_return_sequences", "prefix",
        "remove_invalid_values", "exponential_decay_length_penalty", "suppress_tokens",
        "begin_suppress_tokens",
    ),
    "is of a classifier's head": ("id2label", "label2id", "num_labels", "problem_type"),
    "is of a task": ("task_specific_params",),
    "is of an encoder beside a decoder": ("tie_encoder_decoder", "is_decoder"),
}  # fmt: skip

#: Key, or a pattern that ends in ``*``, to the reason.
COMMON_HARMLESS: dict[str, str] = {key: why for why, keys in _GROUPS.items() for key in keys}

#: What no family computes, and the values that switch it off.
COMMON_OFF: dict[str, tuple[object, ...]] = {
    "quantization_config": (None,),
    "quantization": (None,),
    "compression_config": (None,),
    "pruned_heads": (None, [], {}),
    "is_encoder_decoder": (None, False),
    "add_cross_attention": (None, False),
    "cross_attention_hidden_size": (None,),
}
