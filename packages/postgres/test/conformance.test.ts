/**
 * The published suite on Postgres with the default options: with batching.
 */
import { suite } from "./support/store.ts"

suite("postgres", {})
