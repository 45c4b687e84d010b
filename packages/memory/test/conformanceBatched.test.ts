/**
 * The published suite on memory with concurrent operations batched into transactions.
 */
import { suite } from "./support/store.ts"

suite("memory, batched", { folding: {} })
suite("memory, batched with one request in flight", { folding: { maxInFlight: 1 } })
