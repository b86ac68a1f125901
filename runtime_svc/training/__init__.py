"""How treni-tiny is made: dialogue generator, tokenizer, chat template, training, evaluation and suites."""
