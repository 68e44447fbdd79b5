"""What all clients of a process share: the turn of the event loop, and the models and scripts in memory."""
