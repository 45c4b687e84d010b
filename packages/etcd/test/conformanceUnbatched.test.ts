/**
 * The published suite on a real etcd of the version under test, with each operation in a request of its own.
 */
import { suite } from "./support/store.ts"

suite(`etcd ${process.env["EFFECT_KV_ETCD"] ?? ""}, not batched`, { batching: false })
