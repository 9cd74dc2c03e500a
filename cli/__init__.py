"""The `octavo` command: thin; each subcommand imports what it needs when it runs.

What must never come in: anything that another room could want to call.
"""
