"""How a transcript becomes token ids: the chat templates of models that have one, a plain form for those that have none."""
