"""The edge: configuration to running processes, commands, web. The only place where everything is known."""
