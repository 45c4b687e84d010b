/**
 * The published suite on Postgres without batching.
 */
import { suite } from "./support/store.ts"

suite("postgres, unbatched", { batching: false })
