"""
The grammar of RedisAI's commands: words become plain descriptions. Looks nothing up and knows no client.
"""
