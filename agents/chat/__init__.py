"""Transcripts as token ids: by the chat template of a model, or in a plain form for models without one."""
