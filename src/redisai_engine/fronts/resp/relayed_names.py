"""
The names of commands that the engine only relays. A name is checked once; then runs of such commands go in one piece.

Some of them give the client's connection a state, after which its commands must not go over another one. What is
known to give it none is listed; whatever isn't may.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

#: Commands during which Redis answers nobody, however long they take. (During a script it says after a while: BUSY.)
HOLD_UP_REDIS = frozenset((b"DEBUG", b"FLUSHALL", b"FLUSHDB", b"KEYS", b"MIGRATE", b"SAVE", b"SHUTDOWN"))
#: Of these it depends on the second word whether they give the connection a state.
FAMILIES = {
    b"CLIENT": frozenset(
        b"GETNAME GETREDIR HELP ID INFO KILL LIST MAINT_NOTIFICATIONS PAUSE SETINFO SETNAME UNBLOCK UNPAUSE".split()
    ),
    b"SCRIPT": frozenset(b"EXISTS FLUSH HELP KILL LOAD SHOW".split()),
}
#: Commands without effect on the connection, in the order of Redis' documentation. WATCH and MULTI are no exception:
#: a watched key counts as changed whichever connection changes it, and inside MULTI nothing else is sent.
STATELESS = frozenset(
    b"""
    APPEND DECR DECRBY DELEX DIGEST GET GETDEL GETEX GETRANGE GETSET INCR INCRBY INCRBYFLOAT LCS MGET MSET MSETEX MSETNX
    PSETEX SET SETEX SETNX SETRANGE STRALGO STRLEN SUBSTR
    HDEL HEXISTS HEXPIRE HEXPIREAT HEXPIRETIME HGET HGETALL HGETDEL HGETEX HINCRBY HINCRBYFLOAT HKEYS HLEN HMGET HMSET
    HPERSIST HPEXPIRE HPEXPIREAT HPEXPIRETIME HPTTL HRANDFIELD HSCAN HSET HSETEX HSETNX HSTRLEN HTTL HVALS
    BLMOVE BLMPOP BLPOP BRPOP BRPOPLPUSH LINDEX LINSERT LLEN LMOVE LMPOP LPOP LPOS LPUSH LPUSHX LRANGE LREM LSET LTRIM
    RPOP RPOPLPUSH RPUSH RPUSHX
    SADD SCARD SDIFF SDIFFSTORE SINTER SINTERCARD SINTERSTORE SISMEMBER SMEMBERS SMISMEMBER SMOVE SPOP SRANDMEMBER SREM
    SSCAN SUNION SUNIONSTORE
    BZMPOP BZPOPMAX BZPOPMIN ZADD ZCARD ZCOUNT ZDIFF ZDIFFSTORE ZINCRBY ZINTER ZINTERCARD ZINTERSTORE ZLEXCOUNT ZMPOP
    ZMSCORE ZPOPMAX ZPOPMIN ZRANDMEMBER ZRANGE ZRANGEBYLEX ZRANGEBYSCORE ZRANGESTORE ZRANK ZREM ZREMRANGEBYLEX
    ZREMRANGEBYRANK ZREMRANGEBYSCORE ZREVRANGE ZREVRANGEBYLEX ZREVRANGEBYSCORE ZREVRANK ZSCAN ZSCORE ZUNION ZUNIONSTORE
    XACK XADD XAUTOCLAIM XCLAIM XDEL XGROUP XINFO XLEN XPENDING XRANGE XREAD XREADGROUP XREVRANGE XSETID XTRIM
    BITCOUNT BITFIELD BITFIELD_RO BITOP BITPOS GETBIT SETBIT PFADD PFCOUNT PFMERGE
    GEOADD GEODIST GEOHASH GEOPOS GEORADIUS GEORADIUS_RO GEORADIUSBYMEMBER GEORADIUSBYMEMBER_RO GEOSEARCH GEOSEARCHSTORE
    COPY DEL DUMP EXISTS EXPIRE EXPIREAT EXPIRETIME KEYS MIGRATE MOVE OBJECT PERSIST PEXPIRE PEXPIREAT PEXPIRETIME PTTL
    RANDOMKEY RENAME RENAMENX RESTORE SCAN SORT SORT_RO TOUCH TTL TYPE UNLINK
    PUBLISH PUBSUB SPUBLISH DISCARD EXEC MULTI UNWATCH WATCH EVAL EVAL_RO EVALSHA EVALSHA_RO FCALL FCALL_RO FUNCTION
    ECHO PING ACL BGREWRITEAOF BGSAVE CLUSTER COMMAND CONFIG DBSIZE FAILOVER FLUSHALL FLUSHDB INFO LASTSAVE LATENCY
    LOLWUT MEMORY MODULE REPLICAOF ROLE SAVE SHUTDOWN SLAVEOF SLOWLOG SWAPDB TIME
    """.split()
)

_LONGEST = 64  # bytes of a name: longer ones, which no Redis has, aren't worth their memory
_MOST = 1000  # names, in the clients' own letter case; commands beyond that are relayed one by one


def is_stateless(arguments: Sequence[bytes]) -> bool:
    """Return whether a relayed command leaves the client's connection as it was."""
    name = arguments[0].upper()
    family = FAMILIES.get(name)
    if family is not None:
        return len(arguments) > 1 and arguments[1].upper() in family
    return name in STATELESS


class RelayedNames:
    """
    The names that all connections of a front have sent so far, except those `looked_at` (in upper case).

    `stateless` are those among them that leave the connection as it was.
    """

    def __init__(self, looked_at: Container[bytes]) -> None:
        self.names: set[bytes] = set()
        self.stateless: set[bytes] = set()
        self._looked_at = looked_at

    def add(self, name: bytes) -> None:
        upper = name.upper()
        if len(self.names) < _MOST and len(name) <= _LONGEST and upper not in self._looked_at:
            self.names.add(name)
            if upper in STATELESS:
                self.stateless.add(name)
