"""What all clients of one process share: the turn of the event loop, and the models and scripts in memory."""
