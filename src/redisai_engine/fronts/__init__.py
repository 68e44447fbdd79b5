"""What clients talk to: a folder for each protocol. A front turns bytes into requests and replies into bytes."""
