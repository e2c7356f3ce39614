"""Writing token by token: the engine, its cache, and what ends or constrains an action."""
