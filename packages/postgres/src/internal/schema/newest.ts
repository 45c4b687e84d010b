/**
 * The entry of a range that was created last: what recipes read most.
 */

/** The rows `x` of the entries in `[first, last)`. */
const entriesIn = (schema: string, first: string, last: string): string =>
  `${schema}.entry x
        where substring(x.key from 1 for 1024) >= substring(${first} from 1 for 1024)
          and substring(x.key from 1 for 1024) <= substring(${last} from 1 for 1024) and x.key >= ${first} and x.key < ${last}`

/** Reads the entry in `[first, last)` that was created last, no later than at revision `most`. */
export const newestIn = (schema: string, first: string, last: string, most: string): string =>
  `select x.key, x.create_revision, x.mod_revision, x.version into o_key, o_created, o_modified, o_version
        from ${entriesIn(schema, first, last)}
          and x.create_revision <= ${most}
        order by x.create_revision desc, x.key limit 1;`

/** Counts the entries in `[first, last)`: all, and those created no later than at revision `most`. */
export const countsIn = (schema: string, first: string, last: string, most: string, into: string): string =>
  `select count(*), count(*) filter (where x.create_revision <= ${most}) into ${into} from ${
    entriesIn(schema, first, last)
  };`

/** Counts the entries in `[first, last)`. */
export const countIn = (schema: string, first: string, last: string, into: string): string =>
  `select count(*) into ${into} from ${entriesIn(schema, first, last)};`
