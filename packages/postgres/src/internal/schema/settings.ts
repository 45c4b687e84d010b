/**
 * The settings under which the functions of the schema run.
 */

/**
 * The plans of the functions are made while the tables are small, and must not scan them when they have grown. Nor may
 * they use bitmaps: only an index scan marks the index entries of dead rows, and without the marks a key that is created
 * and deleted again and again, as that of a lock, makes each search slower until the next vacuum.
 */
export const indexScans = `set enable_seqscan = off set enable_bitmapscan = off`

/** A lock is waited for at most this long, so the statement of a client that died cannot queue indefinitely. */
export const settings = `set plan_cache_mode = force_generic_plan ${indexScans} set jit = off set lock_timeout = '10s'`

/** For a statement that joins a list with a table: each element of the list is looked up in the index. */
export const joinSettings = `${settings} set enable_hashjoin = off set enable_mergejoin = off`
