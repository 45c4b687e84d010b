/**
 * The published conformance suite on a real etcd of the version under test, without batching.
 */
import { suite } from "./support/store.ts"

suite(`etcd ${process.env["EFFECT_KV_ETCD"] ?? ""}, not batched`, { batching: false })
