"""One index whose documents lie in shards on other machines.

Each shard is an index that a server of its own serves, or several servers with copies of it (replicas). A front encodes
a query once, asks every shard, and merges: ids and scores are those of one index with all documents.

    addresses    where the shards are, as they are typed
    wire         what is asked of a shard and what it answers, as JSON
    replicas     the servers of a shard, and which of them can be asked
    connections  HTTP to those servers
    asking       asking many shards at once: deadlines, second questions to replicas
    remote       shards as an index to read
    served       that index under the server
"""
