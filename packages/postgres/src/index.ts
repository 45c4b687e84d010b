/** The Postgres backend of effect-kv. */
export * as PostgresLayer from "./PostgresLayer.ts"
export * as PostgresSchema from "./PostgresSchema.ts"
export * as PostgresStore from "./PostgresStore.ts"
