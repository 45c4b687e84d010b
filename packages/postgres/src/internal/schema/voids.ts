/**
 * The ids of writes that were declared void, and when they can be deleted.
 *
 * A statement may arrive at any time after its client gave it up. Its id is not kept that long. Instead, each write says
 * the revision that its client knew when it sent it. That is at most the revision at which the id was declared void, so
 * once the id is deleted, `oldest_known` is greater, and the write is rejected by that. This takes no notion of epochs:
 * `resolve` declares nothing void for a client that knew a greater revision than that of the store.
 *
 * A client that is alive may be rejected as well. It learns the revision of the store from that and makes the write again.
 * That must succeed, so no id of the present revision is deleted.
 */

/** The tables of version 2. Rows without a revision are those of version 1, whose clients do not say what they know. */
export const voidTables = (schema: string): string => `
alter table ${schema}.void add column if not exists revision bigint not null default 0;
alter table ${schema}.store add column if not exists oldest_known bigint not null default 0;
`

/** Deletes ids, and sets the variable to what `oldest_known` must be at least; null if none was deleted. */
export const deleteVoids = (schema: string, variable: string): string =>
  `with gone as (
    delete from ${schema}.void x using ${schema}.store s
    where x.created_at < clock_timestamp() - interval '1 hour' and x.revision < s.revision
    returning x.revision
  )
  select max(g.revision) + 1 into ${variable} from gone g;`
