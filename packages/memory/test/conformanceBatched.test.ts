/**
 * The published suite on memory with concurrent operations batched into transactions.
 */
import { suite } from "./support/store.ts"

suite("memory, batched", { batching: {} })
suite("memory, batched with one request in flight", { batching: { maxInFlight: 1 } })
