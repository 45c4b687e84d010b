/**
 * What logical replication sends of a row that is updated or deleted.
 *
 * Keys are too long for a primary key of `entry`. Without an identity, Postgres rejects updates and deletes as soon as
 * anyone creates a publication for all tables: for change data capture, or for an upgrade of the server. The rows are
 * logged as a whole only if `wal_level` is `logical`.
 */
export const replicaIdentity = (schema: string): string => `
alter table ${schema}.entry replica identity full;
`
