/**
 * The rows that the functions of the schema return: a list of items, each with its kind first.
 */

/** The kinds of items. The SQL of the functions contains the same numbers. */
export const kind = {
  /** Ends the response to a read, a put or a delete; `n` is its count, `flag` whether a limit cut it off. */
  end: 0,
  /** An entry of the response that the next `end` belongs to. */
  entry: 1,
  /** The branch of a transaction; `flag` is whether its conditions held. */
  txn: 2,
  /** An event of a watch. */
  put: 3,
  delete: 4,
  /** The entry before the next event. */
  previous: 5,
  /**
   * The last item: `n` is the revision of the store, or the last one that was searched for events. `modRevision` is the
   * revision of the store, and `lease` its epoch.
   */
  revision: 6,
  /** The only item of a rejected request: `n` is the lease. */
  leaseNotFound: 7,
  /** The only item of a rejected request: `n` is the compacted revision. */
  compacted: 8,
  /** The only item of a rejected request: `n` is the store's revision, `modRevision` the requested one. */
  future: 9,
  /** The only item of a rejected request: it was voided before it arrived. */
  void: 10
} as const

/** The columns of an item. */
export const columns = `
  o_kind smallint, o_flag boolean, o_n bigint, o_key bytea, o_value bytea,
  o_created bigint, o_modified bigint, o_version bigint, o_lease bigint`
