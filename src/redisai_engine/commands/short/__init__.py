"""
Short ways of the commands that RedisAI's own clients send one after another: AI.TENSORSET, AI.MODELEXECUTE and
AI.TENSORGET.

Theory of operation. The bodies in `commands/ai` are generators, and handle everything. A short way handles only the
plain case: it knows what to ask Redis from the words alone, and what the replies look like if all is well. Then it
compares bytes and is done. Whatever else Redis answers is handed to the ordinary body, which goes on from there. So
there is no grammar, no error text and no behaviour here: the answers are those of the ordinary way, only sooner.

A short way is compiled by mypyc, which generators can't be. It asks on the client's own connection, so rights, order
and database are Redis' business, as for every other command.
"""
