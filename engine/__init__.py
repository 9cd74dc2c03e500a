"""One engine: the life of a request, the step loop, the process boundary, and the offline `LLM`.

What lives here: settings, sampling parameters, tokenizer and detokenizer, the memory plan, the step
loop around scheduler and runner, the messages between front end and engine process, and the
clients on both sides. What must never come in: HTTP, chat templates, pydantic models of requests.

This file imports nothing, so that the front end never pays for torch; import the module you need
(`octavo.engine.async_engine`, `octavo.engine.llm`, …).
"""
