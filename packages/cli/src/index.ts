/** The effect-kv command line: locks, elections, members, watches and diagnosis on a terminal. */
