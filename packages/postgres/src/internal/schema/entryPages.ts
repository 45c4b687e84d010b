/**
 * The least size of the table of entries.
 *
 * A statement that reads it without the settings of the functions keeps the plan that was made while the table was small,
 * until the next analysis, which may be a minute and many keys later. A scan of so many pages costs more than an index, so
 * no such plan is made.
 */

/** A scan of 32 pages is estimated at more than an index scan, also with a `random_page_cost` of 10. */
const rows = 32 * 5

/** The rows are deleted again by the same transaction. A vacuum keeps their pages. */
export const entryPages = (schema: string): string => `
alter table ${schema}.entry set (vacuum_truncate = off);
insert into ${schema}.entry (key, value, create_revision, mod_revision, version, lease)
select decode('ff', 'hex'), decode(repeat('00', 900), 'hex'), 0, 0, 0, 0 from generate_series(1, ${rows});
delete from ${schema}.entry x where substring(x.key from 1 for 1024) = decode('ff', 'hex');
`
