"""Models behind OpenAI-compatible servers: asked over HTTP, answers kept in a journal."""
