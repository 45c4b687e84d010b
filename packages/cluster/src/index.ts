/** Effect Cluster on effect-kv: runner storage, runner health, and entities fenced by their shard. */
