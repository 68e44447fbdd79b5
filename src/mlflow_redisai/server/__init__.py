"""The server side of the plugin: connections, commands, and what is stored under a deployment's name."""
