"""Text on its way to rows: sources, tokenizer, token shards, row plans."""
