"""The server as the plugin sees it: connections, commands, and what is stored under a deployment's name."""
