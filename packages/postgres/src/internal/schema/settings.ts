/**
 * The settings under which the functions of the schema run.
 */

/**
 * The plans of the functions are made while the tables are small, and must not scan them when they have grown. A lock is
 * waited for at most this long, so the statement of a client that died cannot queue indefinitely.
 */
export const settings =
  `set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off set lock_timeout = '10s'`

/** For a statement that joins a list with a table: each element of the list is looked up in the index. */
export const joinSettings = `${settings} set enable_hashjoin = off set enable_mergejoin = off`
