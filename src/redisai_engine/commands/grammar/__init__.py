"""
The grammar of RedisAI's commands: arguments become plain descriptions. It looks nothing up and knows no client.
"""
